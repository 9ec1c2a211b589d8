"""Edits of a track: regions to regenerate, or a length by which to extend it.

B batch, C channels, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from torch import Tensor

from ..errors import InputError, check_range, is_number, quote_value
from ..media.waveforms import check_waveform

SHORTEST = 0.02
"""Shortest region or extension in seconds."""

MIN_STRENGTH = 0.001
"""Lowest denoising strength: below it there is no noise level to start from."""

_LONGEST_TRACK = 86400.0  # seconds
_LONGEST_FEATHER = 600.0  # seconds
_TOLERANCE = 0.001  # seconds by which a rounded widget may be off


@dataclass(frozen=True, kw_only=True)
class Region:
    """A region of a track to regenerate.

    Attributes:
        start: Start in seconds.
        end: End in seconds.
        feather: Length of the crossfades inside the region in seconds, at most half of it.
        strength: Edit strength, `MIN_STRENGTH` to 1 (nothing of the original left).
    """

    start: float
    end: float
    feather: float = 0.05
    strength: float = 1.0

    def __post_init__(self) -> None:
        """Raise `InputError` for values out of range."""
        for name in ("start", "end", "feather", "strength"):
            if not is_number(getattr(self, name)):
                raise InputError(f"The region's {name} is {quote_value(getattr(self, name))}: give a number.")
        if self.start < 0:
            raise InputError(f"A region starts at {self.start:g} s: it must start at 0 or later.")
        if self.end <= self.start:
            problem = "of zero length" if self.end == self.start else "reversed"
            raise InputError(
                f"The region from {self.start:g} to {self.end:g} s is {problem}: its end must come after "
                "its start."
            )
        if self.end - self.start < SHORTEST:
            raise InputError(
                f"The region from {self.start:g} to {self.end:g} s is too short. Make it at least "
                f"{SHORTEST:g} s long."
            )
        if self.end > _LONGEST_TRACK:
            raise InputError(
                f"The region ends at {self.end:g} s: at most {_LONGEST_TRACK:g} s, a day, are possible."
            )
        if not 0 <= self.feather <= _LONGEST_FEATHER:
            raise InputError(
                f"feather is {self.feather:g} s: it must be 0 or more, up to {_LONGEST_FEATHER:g}."
            )
        if not MIN_STRENGTH <= self.strength <= 1:
            raise InputError(f"strength is {self.strength:g}: it must be from {MIN_STRENGTH:g} to 1.")


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioEdit:
    """A track and its edit: either regions, or an extension.

    Attributes:
        waveform: (B, C, S) float32, C 1 or 2.
        rate: Hertz.
        regions: Regions to regenerate.
        before: Seconds to add before the track.
        after: Seconds to add after the track.
    """

    waveform: Tensor
    rate: int
    regions: tuple[Region, ...] = ()
    before: float = 0.0
    after: float = 0.0

    def __post_init__(self) -> None:
        """Raise `InputError` for what is not a track, or values out of range."""
        check_track(self.waveform, self.rate)
        if not (
            isinstance(self.regions, tuple) and all(isinstance(region, Region) for region in self.regions)
        ):
            raise InputError(f"regions are {quote_value(self.regions)}. Give a tuple of regions.")
        check_regions(self.regions, self.seconds)
        check_range("before", self.before, 0, _LONGEST_TRACK, " s")
        check_range("after", self.after, 0, _LONGEST_TRACK, " s")
        if self.extends and self.regions:
            raise InputError(
                "The track would be both edited and extended. Do one after the other: extend the result of "
                "the first sampler."
            )

    @property
    def seconds(self) -> float:
        """Length of the track in seconds."""
        return self.waveform.shape[-1] / self.rate

    @property
    def extends(self) -> bool:
        """Whether the track is extended."""
        return self.before > 0 or self.after > 0

    def with_region(self, region: Region) -> AudioEdit:
        """Add a region. Raises `InputError` if it overlaps another or the track's end."""
        return replace(self, regions=(*self.regions, region))


def extension(waveform: Tensor, rate: int, seconds: float, side: str) -> AudioEdit:
    """Return the edit that extends a track.

    Args:
        waveform: (B, C, S).
        rate: Hertz.
        seconds: Length of the extension, at least `SHORTEST`.
        side: "after" continues the track, "before" adds sound before its start.

    Raises:
        InputError: A value is out of range.
    """
    if side not in ("after", "before"):
        raise InputError(f"side is {side!r}: choose after or before.")
    if not (is_number(seconds) and seconds >= SHORTEST):
        raise InputError(
            f"The track would be extended by {quote_value(seconds)} s, which adds nothing. Give "
            f"{SHORTEST:g} s or more."
        )
    if side == "before":
        return AudioEdit(waveform=waveform, rate=rate, before=seconds)
    return AudioEdit(waveform=waveform, rate=rate, after=seconds)


def check_track(waveform: Tensor, rate: int) -> None:
    """Raise `InputError` for audio that cannot be edited: none, or more than two channels."""
    if not isinstance(waveform, Tensor) or waveform.ndim != 3 or not len(waveform):
        actual = tuple(waveform.shape) if isinstance(waveform, Tensor) else type(waveform).__name__
        raise InputError(f"A track is (batch, channels, samples), got {actual}.")
    for item in waveform:
        check_waveform(item, rate)
    if waveform.shape[1] > 2:
        raise InputError(
            f"The track has {waveform.shape[1]} channels: mono and stereo can be edited. Mix it down first."
        )


def check_regions(regions: Sequence[Region], seconds: float) -> None:
    """Raise `InputError` for a region outside a track of this length, or one that overlaps another."""
    for region in regions:
        if region.start >= seconds or region.end > seconds + _TOLERANCE:
            raise InputError(
                f"The region from {region.start:g} to {region.end:g} s is not inside the audio, which is "
                f"{seconds:.3f} s long. Choose an earlier end."
            )
    ordered = sorted(regions, key=lambda region: region.start)
    for first, second in pairwise(ordered):
        if second.start < first.end:
            raise InputError(
                f"The regions from {first.start:g} to {first.end:g} s and from {second.start:g} to "
                f"{second.end:g} s overlap. Move one, or make them a single region."
            )
