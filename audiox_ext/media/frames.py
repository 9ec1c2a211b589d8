"""Samples frames from a video or from pictures at exact times, in one decoding pass.

The frame at time t is the one on screen at t: the last frame whose timestamp is at most t. Before the first
frame it is the first, past the end it is the last. Times are seconds from the start of the video stream, so
variable frame rates need no special case. Each sampled frame is resized immediately and the original dropped:
memory does not grow with the length or the size of the video.

T sampled frames, H height, W width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, is_number, quote_value
from .containers import TOLERANCE, Film, MediaSource, open_frames
from .pictures import Animation, ImageSequence, lay_over_black, open_animation
from .tracks.colours import read_pixels
from .tracks.rates import frame_seconds

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.video.frame import VideoFrame
    from PIL.Image import Image

Resize = Literal["squash", "crop"]
Trim = tuple[float, float]
"""(start, duration) in seconds: the part of a file that counts as the video. Duration 0: to the end."""

FrameTransform = Callable[[float, Tensor], Tensor]
"""(time of a source frame in seconds, resized frame (3, size, size) uint8) -> another such frame."""


VideoSource = MediaSource | ImageSequence
"""A path or a seekable binary file of a film or an animated picture, or images that are played as a video."""


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """A part of the (trimmed) video.

    Attributes:
        start: Seconds, 0 or later.
        duration: Seconds, above 0; None: to the end.

    Raises:
        InputError: A value is out of range.
    """

    start: float = 0.0
    duration: float | None = None

    def __post_init__(self) -> None:
        """Check both times."""
        if not (is_number(self.start) and self.start >= 0):
            raise InputError(f"start is {quote_value(self.start)} s. Give a time of 0 s or later.")
        if self.duration is not None and not (is_number(self.duration) and self.duration > 0):
            raise InputError(
                f"duration is {quote_value(self.duration)} s. Give one above 0 s, or none to use the video "
                "to its end."
            )

    def in_source(self, trim: Trim | None) -> tuple[float, float]:
        """Convert to seconds of the whole source.

        Args:
            trim: The part of the source in which this range counts; None: all of it.

        Returns:
            (start, end); the end may be infinite.

        Raises:
            InputError: The trim is impossible, or the range begins after its end.
        """
        origin, length = trim or (0.0, 0.0)
        if not (math.isfinite(origin) and origin >= 0 and math.isfinite(length) and length >= 0):
            raise InputError(
                f"The video is trimmed to start {origin} s, duration {length} s. Give 0 s or more for both."
            )
        if length and self.start >= length:
            raise InputError(_past_the_end(self.start, length))
        ends = [origin + length] if length else []
        if self.duration is not None:
            ends.append(origin + self.start + self.duration)
        return origin + self.start, min(ends, default=math.inf)


@dataclass(frozen=True)
class SampledFrames:
    """Frames at one or more rates.

    Attributes:
        frames: One (T, 3, size, size) uint8 tensor per rate, T = round(seconds * rate).
        duration: Seconds of real material in the time range; may exceed the seconds that were sampled.
        fps: Average frame rate of the source.
    """

    frames: tuple[Tensor, ...]
    duration: float
    fps: float


def sample_frames(
    source: VideoSource,
    *,
    rates: Sequence[float],
    seconds: float,
    time_range: TimeRange,
    trim: Trim | None = None,
    size: int = 224,
    resize: Resize = "squash",
    transforms: Sequence[FrameTransform | None] = (),
    check_cancelled: Callable[[], None] | None = None,
) -> SampledFrames:
    """Sample the frames on screen at time_range.start + i / rate, for each rate, in one decoding pass.

    Args:
        source: A path, a seekable binary file (read from its beginning), or an `ImageSequence`.
        rates: Frames per second.
        seconds: Length to sample. Past the end of the time range, the trim or the video, the last frame is
            repeated.
        time_range: The part of the trimmed video to sample.
        trim: (start, duration) of the part of the source that counts as the video; duration 0: to the end.
        size: Side of the sampled frames in pixels.
        resize: "squash" to size x size, or "crop" to the centre square first; bilinear with antialiasing.
            Rotation metadata is applied.
        transforms: Per rate, a final change to its frames, or None; empty: no changes.
        check_cancelled: Called for every source frame; may raise.

    Returns:
        The frames, the length of real material, and the source's frame rate. A damaged video is used up to
        the damage, with a warning in the log.

    Raises:
        InputError: A time, a rate or the images are impossible, or an image that is used holds NaN.
        MediaError: The file cannot be read.
    """
    _check_request(rates, seconds, size, resize)
    if isinstance(source, ImageSequence):
        source.check()
    start, limit = time_range.in_source(trim)
    sampler = _FrameSampler(rates, seconds, start, size, transforms)
    shrink = partial(_resize_picture, size=size, resize=resize)
    if isinstance(source, ImageSequence):
        return _sample_pictures(sampler, source, limit, shrink, check_cancelled)
    animation = open_animation(source)
    if animation is not None:
        return _sample_pictures(sampler, animation, limit, shrink, check_cancelled)
    with open_frames(source, start, check_cancelled) as film:
        sampler.tolerance = film.tolerance
        sampler.take(film.frames, limit, lambda frame: _resize_frame(frame, film, size, resize))
        if sampler.exhausted:
            end = sampler.latest_time + frame_seconds(sampler.held, film.fps)
            end = film.find_end(at_least=end)
        else:
            end = film.find_end(at_least=sampler.latest_time, stop=limit)
    _ensure_before_end(start, end)
    return SampledFrames(sampler.frames, min(limit, end) - start, film.fps)


def _sample_pictures(
    sampler: _FrameSampler,
    pictures: ImageSequence | Animation,
    limit: float,
    shrink: Callable[[Any], Tensor],
    check_cancelled: Callable[[], None] | None,
) -> SampledFrames:
    """Pass pictures through the sampler."""
    _ensure_before_end(sampler.start, pictures.duration)
    sampler.take(pictures.read_frames(check_cancelled, sampler.start + TOLERANCE), limit, shrink)
    duration = min(limit, pictures.duration) - sampler.start
    return SampledFrames(sampler.frames, duration, float(pictures.fps))


class _FrameSampler:
    """Collects the requested frames while source frames pass by in the order of their times."""

    def __init__(
        self,
        rates: Sequence[float],
        seconds: float,
        start: float,
        size: int,
        transforms: Sequence[FrameTransform | None] = (),
    ) -> None:
        self.frames = tuple(
            torch.empty(round(seconds * rate), 3, size, size, dtype=torch.uint8) for rate in rates
        )
        self.start = start
        self._rates = tuple(rates)
        self._transforms = tuple(transforms) or (None,) * len(self._rates)
        self._filled = [0] * len(self.frames)
        self.held: Any = None  # the source frame that is on screen: a VideoFrame or an image
        self._held_since = 0.0
        self.latest_time = 0.0  # of the latest source frame that passed by
        self.tolerance = TOLERANCE
        self.exhausted = False  # whether the source ended before all frames were collected

    def take(
        self, timed_frames: Iterable[tuple[float, Any]], limit: float, shrink: Callable[[Any], Tensor]
    ) -> None:
        """Collect from (time, frame) pairs. Frames that appear at `limit` or later are ignored."""
        for time, frame in timed_frames:
            if self.held is not None:
                self.latest_time = max(self.latest_time, time)
                if time >= limit - TOLERANCE:
                    break
                if self._fill(time, shrink):
                    return
            self.held, self._held_since, self.latest_time = frame, time, max(self.latest_time, time)
        else:
            self.exhausted = True
        self._fill(math.inf, shrink)

    def _fill(self, until: float, shrink: Callable[[Any], Tensor]) -> bool:
        """Use the held frame for the requested times before `until`. Returns whether all are collected."""
        # Resized and transformed once, however many rates and times use it.
        small: Tensor | None = None
        transformed: dict[FrameTransform | None, Tensor] = {}
        for index, (rate, out) in enumerate(zip(self._rates, self.frames, strict=True)):
            first = stop = self._filled[index]
            while stop < len(out) and self.start + stop / rate + self.tolerance < until:
                stop += 1
            if stop > first:
                small = shrink(self.held) if small is None else small
                transform = self._transforms[index]
                if transform not in transformed:
                    transformed[transform] = (
                        small if transform is None else transform(self._held_since, small)
                    )
                # numpy copies in this thread; torch would wake its thread pool for each small copy.
                out.numpy()[first:stop] = transformed[transform].numpy()
                self._filled[index] = stop
        return all(count == len(out) for count, out in zip(self._filled, self.frames, strict=True))


def _check_request(rates: Sequence[float], seconds: float, size: int, resize: str) -> None:
    """Raise InputError for lengths, rates and sizes that give no frames."""
    if not (math.isfinite(seconds) and seconds > 0):
        raise InputError(f"The length to sample is {seconds} s. Give a number of seconds above 0.")
    for rate in rates:
        if not (math.isfinite(rate) and rate > 0 and round(seconds * rate) > 0):
            raise InputError(f"A frame rate of {rate} gives no frame in {seconds} s. Choose a higher rate.")
    if size < 1:
        raise InputError(f"The frame size is {size} pixels. Choose 1 or more.")
    if resize not in get_args(Resize):
        raise InputError(f"resize is {quote_value(resize)}. Choose one of {', '.join(get_args(Resize))}.")


def _ensure_before_end(start: float, end: float) -> None:
    """Raise InputError unless a video that ends at `end` shows anything from `start` on."""
    if start >= end - TOLERANCE:
        raise InputError(_past_the_end(start, end))


def _past_the_end(start: float, end: float) -> str:
    return f"start is {start:g} s, but the video is only {end:.6g} s long. Choose an earlier start."


def _resize_picture(picture: Tensor | Image, size: int, resize: Resize) -> Tensor:
    """(H, W, C) floating point 0..1, or RGB -> (3, size, size) uint8. Raises InputError for NaN."""
    if not isinstance(picture, Tensor):
        return _resize_pixels(torch.from_numpy(np.array(picture)), size, resize)
    picture = picture.detach().to("cpu", torch.float32)
    if picture.isnan().any():
        raise InputError("An image contains NaN. Check the node that made it.")
    picture = lay_over_black(picture.clamp(0, 1))
    return _resize_pixels(picture.mul(255).round().to(torch.uint8), size, resize)


def _resize_frame(frame: VideoFrame, film: Film, size: int, resize: Resize) -> Tensor:
    """A decoded frame of a film -> (3, size, size) uint8, upright."""
    small = _resize_pixels(torch.from_numpy(read_pixels(frame)), size, resize, film.pixel_aspect)
    return film.orientation.apply(small, height_axis=1)  # resizing commutes with turning


def _resize_pixels(pixels: Tensor, size: int, resize: Resize, aspect: Fraction = Fraction(1)) -> Tensor:
    """(H, W, 3) uint8 -> (3, size, size) uint8.

    torch's uint8 kernel stays within one step of rounded float arithmetic and is ten times as fast.
    """
    if resize == "crop":
        height, width = pixels.shape[:2]
        pixels = pixels[find_centre_square(height, width, aspect)]
    batch = pixels.permute(2, 0, 1)[None]
    return F.interpolate(batch, size=(size, size), mode="bilinear", antialias=True)[0]


def find_centre_square(height: int, width: int, aspect: Fraction = Fraction(1)) -> tuple[slice, slice]:
    """Find the rows and columns of the largest centred square, as it is shown.

    Args:
        height: Pixels.
        width: Pixels.
        aspect: Width / height of a pixel as it is shown.
    """
    side = min(Fraction(height), width * aspect)
    rows, columns = max(1, round(side)), max(1, round(side / aspect))
    top, left = (height - rows) // 2, (width - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)
