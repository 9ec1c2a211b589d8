"""Samples a few frames of a video, evenly spaced in time, to be drawn along a time axis."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..media.frames import TimeRange, Trim, VideoSource, sample_frames
from ..media.pictures import ImageSequence, open_animation
from ..media.probing import probe_video

if TYPE_CHECKING:
    from PIL.Image import Image

# Seconds between frames from which seeking to each frame is quicker than decoding everything in between.
_WORTH_A_SEEK = 4.0


@dataclass(frozen=True)
class TimedFrame:
    """A video frame, upright and in its true proportions.

    Attributes:
        time: Seconds from the start of the strip at which the frame is on screen.
        image: RGB.
    """

    time: float
    image: Image


def sample_film_strip(
    source: VideoSource,
    *,
    time_range: TimeRange,
    seconds: float,
    count: int,
    height: int,
    trim: Trim | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> list[TimedFrame]:
    """Sample `count` frames, one every seconds / count from time_range.start on.

    Args:
        source: A path, a seekable binary file, or images.
        time_range: The part of the trimmed video to use.
        seconds: Length of the strip.
        count: Number of frames.
        height: Height of the frames in pixels.
        trim: (start, duration) of the part of the source that counts as the video.
        check_cancelled: Called for every decoded frame; may raise.

    Returns:
        The frames up to the end of the time range or of the video; there may be none.

    Raises:
        InputError: A setting or the images are invalid.
        MediaError: The file cannot be read.
    """
    info = probe_video(source)
    width = max(1, round(height * info.aspect_ratio))
    trim_start, trim_duration = trim or (0.0, 0.0)
    video_end = min(info.duration - trim_start, trim_duration or math.inf)
    end = min(video_end, time_range.start + (time_range.duration or math.inf))
    if end <= time_range.start:
        return []
    settings: dict[str, Any] = {"trim": trim, "size": max(width, height), "check_cancelled": check_cancelled}
    step = seconds / count
    without_seek = isinstance(source, ImageSequence) or open_animation(source) is not None
    if without_seek or step < _WORTH_A_SEEK:
        sampled = sample_frames(
            source, rates=(count / seconds,), seconds=seconds, time_range=time_range, **settings
        )
        visible = math.ceil(sampled.duration / step - 1e-6)
        times = [index * step for index in range(min(count, visible))]
        squares = list(sampled.frames[0])
    else:
        times = [index * step for index in range(count) if time_range.start + index * step < end - 1e-6]
        squares = []
        for time in times:
            moment = TimeRange(start=time_range.start + time, duration=step)
            sampled = sample_frames(source, rates=(1.0,), seconds=1.0, time_range=moment, **settings)
            squares.append(sampled.frames[0][0])
    return [
        TimedFrame(time, _unsquash(square, width, height))
        for time, square in zip(times, squares, strict=False)
    ]


def _unsquash(square: torch.Tensor, width: int, height: int) -> Image:
    """(3, side, side) uint8, squashed -> an image of its true proportions."""
    from PIL import Image

    image = Image.fromarray(square.permute(1, 2, 0).contiguous().numpy())
    return image.resize((width, height), Image.Resampling.LANCZOS)
