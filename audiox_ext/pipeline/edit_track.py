"""Applies an edit: regenerates regions of a track, or extends it at its start or end.

The track keeps its rate and channels, and samples that are not edited stay bit for bit. The model works on a
copy at its own rate, in a window around the edit, and only the edited samples are put back. Latents outside
the edit are held to those of the track, so that the new sound fits its surroundings.

B batch, C channels, S samples, L latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..media.waveforms import check_waveform, conform_audio
from ..model_info import ModelFacts
from .crossfade import limit_peak, match_loudness, paste
from .editing import AudioEdit, Region

_MARGIN = 0.1  # seconds around a window that are resampled with it; longer than the filter
_OVERLAP = 0.1  # seconds of crossfade from a track into its continuation
_FILL = 0.8  # fraction of a window that regions may take; the rest is their surroundings


@dataclass(frozen=True, kw_only=True)
class Part:
    """Samples [start, end) of a track to replace.

    Attributes:
        start: First sample.
        end: End of the samples.
        fade_in: Samples of crossfade inside the start.
        fade_out: Samples of crossfade inside the end.
        strength: Edit strength.
        boundary: For an extension, the sample up to which (or with `backward`, from which) there is a track.
        backward: Whether the extension lies before the track.
    """

    start: int
    end: int
    fade_in: int = 0
    fade_out: int = 0
    strength: float = 1.0
    boundary: int | None = None
    backward: bool = False


@dataclass(frozen=True, kw_only=True)
class EditWindow:
    """The window of a track in which the model works.

    Attributes:
        start: First latent, counted in the track at the model's rate.
        length: Number of latents.
        parts: Parts of the track to replace.
    """

    start: int
    length: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class WindowJob:
    """One run of the model for an edit, at the model's rate.

    Attributes:
        waveform: The track's part (C, S), S = L * downsampling ratio.
        strengths: Edit strengths (L,) in [0, 1], 0 for latents to keep.
        seconds: Start of the part in the track.
        example: Reference audio (C, S') from the track, or None if the regions cover all of it.
        index: Index of this job.
        count: Number of jobs.
    """

    waveform: Tensor
    strengths: Tensor
    seconds: float
    example: Tensor | None
    index: int
    count: int


MakeWindow = Callable[[WindowJob], Tensor]
"""job -> N variations of the part, (N, C, S)."""


def edit_track(model: ModelFacts, edit: AudioEdit, make: MakeWindow) -> Tensor:
    """Edit a batch of tracks.

    Args:
        model: The model.
        edit: Tracks and edit.
        make: Runs the model.

    Returns:
        (B * N, C, S') at the tracks' rate: N variations of each of the B tracks.
    """
    items = [check_waveform(item, edit.rate) for item in edit.waveform]
    return torch.cat([_edit_item(model, items, index, edit, make) for index in range(len(items))])


def _edit_item(
    model: ModelFacts, items: Sequence[Tensor], index: int, edit: AudioEdit, make: MakeWindow
) -> Tensor:
    """Return N variations (N, C, S') of one track."""
    track, parts = _lay_out(items[index], edit)
    resampled = conform_audio(
        track, edit.rate, target_rate=model.sample_rate, channels=model.config.audio_channels
    )
    scale = model.sample_rate / edit.rate
    windows = plan_edits(model, parts, resampled.shape[-1], scale)
    ratio = model.config.autoencoder.downsampling_ratio
    results: list[Tensor] = []
    for number, window in enumerate(windows):
        first, size = window.start * ratio, window.length * ratio
        span = resampled[:, first : first + size]
        job = WindowJob(
            waveform=torch.nn.functional.pad(span, (0, size - span.shape[-1])),
            strengths=latent_strengths(window, ratio, scale, track_end=resampled.shape[-1]),
            seconds=first / model.sample_rate,
            example=_example(model, window, resampled, scale),
            index=index * len(windows) + number,
            count=len(items) * len(windows),
        )
        variations = make(job)
        results = results or [track] * len(variations)
        for variation, new in enumerate(variations):
            whole = _Span(start=first, waveform=new[:, : span.shape[-1]])
            back = _resample_to_track(whole, resampled, model.sample_rate, edit.rate, track)
            for part in window.parts:
                results[variation] = _replace(results[variation], back, part, edit.rate)
    return torch.stack(results)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Span:
    """Samples of a track from `start` on."""

    start: int
    waveform: Tensor


def _resample_to_track(new: _Span, resampled: Tensor, new_rate: int, rate: int, track: Tensor) -> _Span:
    """Convert new sound to the track's rate and channels, with a margin around it.

    resampled: the track at the model's rate. Both are cut at times that fall on samples of both rates, so
    that every sample returns to its place.
    """
    common = math.gcd(new_rate, rate)
    end, margin = new.start + new.waveform.shape[-1], round(_MARGIN * new_rate)
    step = new_rate // common
    first, last = max(0, new.start - margin) // step, -(-(end + margin) // step)
    whole = torch.cat(
        [resampled[:, first * step : new.start], new.waveform, resampled[:, end : last * step]], dim=-1
    )
    back = conform_audio(whole, new_rate, target_rate=rate, channels=len(track))
    start = first * (rate // common)
    return _Span(start=start, waveform=back[:, : track.shape[-1] - start])


def _replace(track: Tensor, new: _Span, part: Part, rate: int) -> Tensor:
    """Replace a part of the track (C, S) by new sound."""
    first, last = new.start, new.start + new.waveform.shape[-1]
    old, waveform = track[:, first:last], new.waveform
    if part.boundary is None:
        limit = max(1.0, float(track.abs().max()))
        waveform = limit_peak(waveform, limit, part.start - first, part.end - first)
    elif part.backward:
        waveform = match_loudness(old.flip(-1), waveform.flip(-1), last - part.boundary, rate).flip(-1)
    else:
        waveform = match_loudness(old, waveform, part.boundary - first, rate)
    local = paste(old, waveform, part.start - first, part.end - first, part.fade_in, part.fade_out)
    return torch.cat([track[:, :first], local, track[:, last:]], dim=-1)


def _example(model: ModelFacts, window: EditWindow, resampled: Tensor, scale: float) -> Tensor | None:
    """Return the part of the track that serves as reference audio.

    An extension uses the part next to the boundary, as long as an audio prompt is. A region uses its window,
    with silence where it is regenerated.
    """
    length = round(model.conditioning_seconds * model.sample_rate)
    first_part = window.parts[0]
    if first_part.boundary is not None:
        boundary = round(first_part.boundary * scale)
        example = (
            resampled[:, boundary : boundary + length]
            if first_part.backward
            else resampled[:, :boundary][:, -length:]
        )
    else:
        ratio = model.config.autoencoder.downsampling_ratio
        first = window.start * ratio
        example = resampled[:, first : first + window.length * ratio].clone()
        for part in window.parts:
            example[:, max(0, round(part.start * scale) - first) : round(part.end * scale) - first] = 0
    return example if bool(example.any()) else None


def _lay_out(item: Tensor, edit: AudioEdit) -> tuple[Tensor, list[Part]]:
    """Return the track (C, S') with room for the extension, and its parts in samples."""
    samples, rate = item.shape[-1], edit.rate
    if not edit.extends:
        return item, [_part_of(region, samples, rate) for region in edit.regions]
    before, after = round(edit.before * rate), round(edit.after * rate)
    overlap = min(round(_OVERLAP * rate), samples // 4)
    parts = []
    if before:
        parts.append(Part(start=0, end=before + overlap, fade_out=overlap, boundary=before, backward=True))
    if after:
        end = before + samples
        parts.append(Part(start=end - overlap, end=end + after, fade_in=overlap, boundary=end))
    return _extend_by_mirror(item, before, after), parts


def _part_of(region: Region, samples: int, rate: int) -> Part:
    """Convert a region to samples, rounded inwards."""
    start = min(math.ceil(region.start * rate - 1e-6), samples)
    end = min(math.floor(region.end * rate + 1e-6), samples)
    fade = min(round(region.feather * rate), (end - start) // 2)
    # At the ends of the track there is nothing to crossfade with.
    return Part(
        start=start,
        end=end,
        fade_in=fade if start > 0 else 0,
        fade_out=fade if end < samples else 0,
        strength=region.strength,
    )


def _extend_by_mirror(item: Tensor, before: int, after: int) -> Tensor:
    """Extend the item by its mirror image, repeated.

    The encoder looks some latents ahead: with silence there, the track would seem to end.
    """
    samples = item.shape[-1]
    positions = torch.arange(-before, samples + after) % (2 * samples)
    return item[:, torch.minimum(positions, 2 * samples - 1 - positions)]


def plan_edits(model: ModelFacts, parts: Sequence[Part], samples: int, scale: float) -> list[EditWindow]:
    """Return windows of at least the model's own length around the parts.

    Parts near each other and of equal strength share a window. A part longer than 0.8 of the model's length
    gets a longer window, with a quarter of the model's length on either side.

    Args:
        model: The model.
        parts: Parts of the track.
        samples: Length of the track at the model's rate.
        scale: The model's rate divided by the track's.
    """
    ratio, native = model.config.autoencoder.downsampling_ratio, model.config.latent_count
    groups: list[list[Part]] = []
    for part in sorted(parts, key=lambda part: part.start):
        fits = groups and (part.end - groups[-1][0].start) * scale <= _FILL * native * ratio
        # A run starts at the noise level of its strength, so that no step is spent above it.
        if fits and part.strength == groups[-1][0].strength:
            groups[-1].append(part)
        else:
            groups.append([part])
    total = max(1, -(-samples // ratio))
    return [_window_around(group, scale / ratio, native, total) for group in groups]


def _window_around(parts: Sequence[Part], scale: float, native: int, total: int) -> EditWindow:
    """Return the window around parts; scale: latents per sample."""
    first, last = parts[0].start * scale, parts[-1].end * scale
    length = native
    if last - first > _FILL * native:
        length = max(native, min(total, math.ceil(last - first) + native // 2))
    start = round((first + last - length) / 2)
    # Keep the window inside the track, if that is long enough.
    start = max(0, min(start, total - length))
    return EditWindow(start=start, length=length, parts=tuple(parts))


def latent_strengths(window: EditWindow, ratio: int, scale: float, track_end: int) -> Tensor:
    """Return the edit strength of each latent of a window: (L,) float32 in [0, 1].

    Latents that a part touches have its strength, others 0. Latents past the end of the track have the
    strength of the part that reaches that end, because no original is there.

    Args:
        window: The window.
        ratio: Samples per latent.
        scale: The model's rate divided by the track's.
        track_end: Length of the track at the model's rate.
    """
    strengths = torch.zeros(window.length)
    for part in window.parts:
        first = math.floor(part.start * scale / ratio) - window.start
        last = math.ceil(part.end * scale / ratio) - window.start
        if part.boundary is not None:
            # The overlap belongs to the track: there the model only repeats it.
            boundary = part.boundary * scale / ratio - window.start
            first, last = (0, math.ceil(boundary)) if part.backward else (math.floor(boundary), last)
        if part.end * scale >= track_end - 1:
            last = window.length
        strengths[max(0, first) : max(0, last)] = part.strength
    return strengths
