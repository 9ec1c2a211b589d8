"""Editing a track: parts of it made anew, or more of it made before or after.

The track keeps its rate and channels, and what is not edited comes back bit for bit: the model works on a
copy at its own rate, in a window around what is edited, and only the edited samples are put back. There the
latents outside the part are held to those of the track, so that the new sound knows what it joins.

B batch, C channels, S samples, L latents.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from ..errors import InputError
from ..media.waveforms import check_waveform, conform_audio
from ..model_info import ModelFacts
from .crossfade import limit_peak, match_loudness, paste

log = logging.getLogger(__name__)

SHORTEST = 0.02
"""Seconds that a region or an extension lasts at least."""

LEAST_STRENGTH = 0.001
"""How far a sound is changed at least: below it there is no noise level left to begin from."""

_TOLERANCE = 0.001  # seconds: what a rounded widget may be off
_OVERLAP = 0.1  # seconds of a track's end that are faded into its continuation
_MARGIN = 0.1  # seconds around a window that are resampled with it, more than the filter is long
_FILL = 0.8  # share of a window that regions may take: the rest is what they are fitted to


@dataclass(frozen=True, kw_only=True)
class Region:
    """A part to make anew, in seconds of the track.

    feather: length of the crossfades, inside the region, at most half of it. strength: up to 1, how far the
    sound is changed; 1 makes it from nothing.
    """

    start: float
    end: float
    feather: float = 0.05
    strength: float = 1.0

    def __post_init__(self) -> None:
        for name in ("start", "end", "feather", "strength"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"The region's {name} is {getattr(self, name)}: give a number.")
        if self.start < 0:
            raise InputError(f"A region starts at {self.start:g} s: it must start at 0 or later.")
        if self.end <= self.start:
            how = "of zero length" if self.end == self.start else "reversed"
            raise InputError(
                f"The region from {self.start:g} to {self.end:g} s is {how}: its end must come after "
                "its start."
            )
        if self.end - self.start < SHORTEST:
            raise InputError(
                f"The region from {self.start:g} to {self.end:g} s is too short: {SHORTEST:g} s are needed."
            )
        if self.feather < 0:
            raise InputError(f"feather is {self.feather:g} s: it must be 0 or more.")
        if not LEAST_STRENGTH <= self.strength <= 1:
            raise InputError(f"strength is {self.strength:g}: it must be from {LEAST_STRENGTH:g} to 1.")


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioEdit:
    """A track (B, C, S) float32 at `rate` hertz, C 1 or 2, and what to do to it.

    regions: parts to make anew. before, after: seconds to add at its ends. Either regions or an addition.
    """

    waveform: Tensor
    rate: int
    regions: tuple[Region, ...] = ()
    before: float = 0.0
    after: float = 0.0

    def __post_init__(self) -> None:
        check_track(self.waveform, self.rate)
        check_regions(self.regions, self.seconds)
        for name, seconds in (("before", self.before), ("after", self.after)):
            if not (math.isfinite(seconds) and seconds >= 0):
                raise InputError(f"{name} must be 0 s or more, got {seconds!r}.")
        if self.extends and self.regions:
            raise InputError(
                "The track is to be both edited and extended. Do one after the other: extend what the first "
                "sampler gives."
            )

    @property
    def seconds(self) -> float:
        """Length of the track."""
        return self.waveform.shape[-1] / self.rate

    @property
    def extends(self) -> bool:
        """Whether more is made, rather than parts anew."""
        return self.before > 0 or self.after > 0

    def with_region(self, region: Region) -> AudioEdit:
        """The same with one more region. Raises `InputError` if it overlaps another or the track's end."""
        return replace(self, regions=(*self.regions, region))


def extension(waveform: Tensor, rate: int, seconds: float, side: str) -> AudioEdit:
    """The edit that adds `seconds` to a track (B, C, S): side "after" carries it on, "before" leads up to it.

    Raises `InputError` for less than `SHORTEST`, and for what is no track.
    """
    if side not in ("after", "before"):
        raise InputError(f"side is {side!r}: choose after or before.")
    if not (math.isfinite(seconds) and seconds >= SHORTEST):
        raise InputError(
            f"The track is to be extended by {seconds:g} s, which adds nothing. Give {SHORTEST:g} s or more."
        )
    if side == "before":
        return AudioEdit(waveform=waveform, rate=rate, before=seconds)
    return AudioEdit(waveform=waveform, rate=rate, after=seconds)


def check_track(waveform: Tensor, rate: int) -> None:
    """Raises `InputError` for what cannot be edited: no sound, or more channels than two."""
    if not isinstance(waveform, Tensor) or waveform.ndim != 3 or not len(waveform):
        shape = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise InputError(f"A track is (batch, channels, samples), got {shape}.")
    for item in waveform:
        check_waveform(item, rate)
    if waveform.shape[1] > 2:
        raise InputError(
            f"The track has {waveform.shape[1]} channels: mono and stereo can be edited. Mix it down first."
        )


def check_regions(regions: Sequence[Region], seconds: float) -> None:
    """Raises `InputError` for a region outside the track of this length, or one that overlaps another."""
    for region in regions:
        if region.start >= seconds or region.end > seconds + _TOLERANCE:
            raise InputError(
                f"The region from {region.start:g} to {region.end:g} s is not inside the audio, which is "
                f"{seconds:.3f} s long. Choose an end up to that."
            )
    ordered = sorted(regions, key=lambda region: region.start)
    for first, second in pairwise(ordered):
        if second.start < first.end:
            raise InputError(
                f"The regions from {first.start:g} to {first.end:g} s and from {second.start:g} to "
                f"{second.end:g} s overlap. Move one, or make them a single region."
            )


@dataclass(frozen=True, kw_only=True)
class Part:
    """Samples [start, end) of a track to replace, with crossfades of these many samples inside its ends.

    joint: for a continuation, the sample up to which (or with `backward`, from which) there is a track.
    """

    start: int
    end: int
    fade_in: int = 0
    fade_out: int = 0
    strength: float = 1.0
    joint: int | None = None
    backward: bool = False


@dataclass(frozen=True, kw_only=True)
class EditWindow:
    """Where the model works: latents [start, start + length) of the track at its rate, and these parts."""

    start: int
    length: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowJob:
    """A span of a track to make anew, at the model's rate.

    waveform: (C, S), S = L * downsampling ratio. strengths: (L,) in [0, 1], 0 for latents to keep. seconds:
    of the track at which the span begins. example: (C, S'), what the new sound should sound like, or None if
    nothing of the track is left to go by. index: of count jobs.
    """

    waveform: Tensor
    strengths: Tensor
    seconds: float
    example: Tensor | None
    index: int
    count: int


MakeWindow = Callable[[WindowJob], Tensor]
"""N variations of the span, (N, C, S)."""


def edit_track(model: ModelFacts, edit: AudioEdit, make: MakeWindow) -> Tensor:
    """The edited track(s): (B * N, C, S') at the track's rate, N variations of each of the B items."""
    items = [check_waveform(item, edit.rate) for item in edit.waveform]
    return torch.cat([_edit_item(model, items, index, edit, make) for index in range(len(items))])


def _edit_item(
    model: ModelFacts, items: Sequence[Tensor], index: int, edit: AudioEdit, make: MakeWindow
) -> Tensor:
    track, parts = _laid_out(items[index], edit)
    heard = conform_audio(
        track, edit.rate, target_rate=model.sample_rate, channels=model.config.audio_channels
    )
    scale = model.sample_rate / edit.rate
    windows = plan_edits(model, parts, heard.shape[-1], scale)
    ratio = model.config.autoencoder.downsampling_ratio
    results: list[Tensor] = []
    for number, window in enumerate(windows):
        first, size = window.start * ratio, window.length * ratio
        span = heard[:, first : first + size]
        job = WindowJob(
            waveform=torch.nn.functional.pad(span, (0, size - span.shape[-1])),
            strengths=latent_strengths(window, ratio, scale, track_end=heard.shape[-1]),
            seconds=first / model.sample_rate,
            example=_example(model, window, heard, scale),
            index=index * len(windows) + number,
            count=len(items) * len(windows),
        )
        made = make(job)
        results = results or [track] * len(made)
        for variation, new in enumerate(made):
            whole = _Span(start=first, waveform=new[:, : span.shape[-1]])
            back = _in_track(whole, heard, model.sample_rate, edit.rate, track)
            for part in window.parts:
                results[variation] = _replaced(results[variation], back, part, edit.rate)
    return torch.stack(results)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Span:
    """Samples of a track from `start` on."""

    start: int
    waveform: Tensor


def _in_track(made: _Span, heard: Tensor, made_rate: int, rate: int, track: Tensor) -> _Span:
    """What was made at the model's rate, at the track's rate and channels, with a little of what is around.

    heard: the track at the model's rate. Cut at times that fall on samples of both, so that every sample
    comes back to its place.
    """
    common = math.gcd(made_rate, rate)
    end, margin = made.start + made.waveform.shape[-1], round(_MARGIN * made_rate)
    step = made_rate // common
    first, last = max(0, made.start - margin) // step, -(-(end + margin) // step)
    whole = torch.cat(
        [heard[:, first * step : made.start], made.waveform, heard[:, end : last * step]], dim=-1
    )
    back = conform_audio(whole, made_rate, target_rate=rate, channels=len(track))
    start = first * (rate // common)
    return _Span(start=start, waveform=back[:, : track.shape[-1] - start])


def _replaced(track: Tensor, new: _Span, part: Part, rate: int) -> Tensor:
    """The track (C, S) with a part taken from what was made."""
    first, last = new.start, new.start + new.waveform.shape[-1]
    old, made = track[:, first:last], new.waveform
    if part.joint is None:
        limit = max(1.0, float(track.abs().max()))
        made = limit_peak(made, limit, part.start - first, part.end - first)
    elif part.backward:
        made = match_loudness(old.flip(-1), made.flip(-1), last - part.joint, rate).flip(-1)
    else:
        made = match_loudness(old, made, part.joint - first, rate)
    local = paste(old, made, part.start - first, part.end - first, part.fade_in, part.fade_out)
    return torch.cat([track[:, :first], local, track[:, last:]], dim=-1)


def _example(model: ModelFacts, window: EditWindow, heard: Tensor, scale: float) -> Tensor | None:
    """What of the track the model is given as its audio prompt.

    For a continuation the part next to the joint, as long as an audio prompt is. Else the window with silence
    for what is made anew.
    """
    length = round(model.conditioning_seconds * model.sample_rate)
    first_part = window.parts[0]
    if first_part.joint is not None:
        joint = round(first_part.joint * scale)
        example = heard[:, joint : joint + length] if first_part.backward else heard[:, :joint][:, -length:]
    else:
        ratio = model.config.autoencoder.downsampling_ratio
        first = window.start * ratio
        example = heard[:, first : first + window.length * ratio].clone()
        for part in window.parts:
            example[:, max(0, round(part.start * scale) - first) : round(part.end * scale) - first] = 0
    return example if bool(example.any()) else None


def _laid_out(item: Tensor, edit: AudioEdit) -> tuple[Tensor, list[Part]]:
    """The track (C, S') with room for what is added, and its parts in samples."""
    samples, rate = item.shape[-1], edit.rate
    if not edit.extends:
        return item, [_part_of(region, samples, rate) for region in edit.regions]
    before, after = round(edit.before * rate), round(edit.after * rate)
    overlap = min(round(_OVERLAP * rate), samples // 4)
    parts = []
    if before:
        parts.append(Part(start=0, end=before + overlap, fade_out=overlap, joint=before, backward=True))
    if after:
        end = before + samples
        parts.append(Part(start=end - overlap, end=end + after, fade_in=overlap, joint=end))
    return _mirrored(item, before, after), parts


def _part_of(region: Region, samples: int, rate: int) -> Part:
    # Inside the region, never outside: rounded inwards.
    start = min(math.ceil(region.start * rate - 1e-6), samples)
    end = min(math.floor(region.end * rate + 1e-6), samples)
    fade = min(round(region.feather * rate), (end - start) // 2)
    # At the ends of the track there is nothing to fade from or to.
    return Part(
        start=start,
        end=end,
        fade_in=fade if start > 0 else 0,
        fade_out=fade if end < samples else 0,
        strength=region.strength,
    )


def _mirrored(item: Tensor, before: int, after: int) -> Tensor:
    """The item with its mirror image, again and again, where there is nothing yet.

    The encoder sees some latents ahead: with silence there it would hear the track end.
    """
    samples = item.shape[-1]
    places = torch.arange(-before, samples + after) % (2 * samples)
    return item[:, torch.minimum(places, 2 * samples - 1 - places)]


def plan_edits(model: ModelFacts, parts: Sequence[Part], samples: int, scale: float) -> list[EditWindow]:
    """Windows of at least the model's own length around the parts; near parts of equal strength share one.

    samples: of the track at the model's rate, scale: that rate by the parts' one. A part that fills more than
    most of a window gets a longer one, with a quarter of the model's length around it on either side.
    """
    ratio, native = model.config.autoencoder.downsampling_ratio, model.config.latent_count
    groups: list[list[Part]] = []
    for part in sorted(parts, key=lambda part: part.start):
        fits = groups and (part.end - groups[-1][0].start) * scale <= _FILL * native * ratio
        # A run begins with the noise of its strength: of a few steps none is spent above it.
        if fits and part.strength == groups[-1][0].strength:
            groups[-1].append(part)
        else:
            groups.append([part])
    total = max(1, -(-samples // ratio))
    return [_window_around(group, scale / ratio, native, total) for group in groups]


def _window_around(parts: Sequence[Part], scale: float, native: int, total: int) -> EditWindow:
    """scale: latents a sample."""
    first, last = parts[0].start * scale, parts[-1].end * scale
    length = native
    if last - first > _FILL * native:
        length = max(native, min(total, math.ceil(last - first) + native // 2))
    start = round((first + last - length) / 2)
    # The whole window inside the track, where that is long enough
    start = max(0, min(start, total - length))
    return EditWindow(start=start, length=length, parts=tuple(parts))


def latent_strengths(window: EditWindow, ratio: int, scale: float, track_end: int) -> Tensor:
    """How far each latent of a window may change: (L,) float32 in [0, 1].

    Latents that a part touches have its strength, others 0. What lies past the end of the track follows the
    part that reaches it: there is nothing to be held to.
    """
    strengths = torch.zeros(window.length)
    for part in window.parts:
        first = math.floor(part.start * scale / ratio) - window.start
        last = math.ceil(part.end * scale / ratio) - window.start
        if part.joint is not None:
            # The overlap is the track's own: there the model only says it again.
            joint = part.joint * scale / ratio - window.start
            first, last = (0, math.ceil(joint)) if part.backward else (math.floor(joint), last)
        if part.end * scale >= track_end - 1:
            last = window.length
        strengths[max(0, first) : max(0, last)] = part.strength
    return strengths
