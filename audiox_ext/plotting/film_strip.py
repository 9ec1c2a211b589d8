"""A few pictures of a video, evenly spaced in time, to be drawn along a time line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..conditioning.video_features import ImageSequence
from ..media.frames import VideoSource, Window, frames_from_images, frames_from_video, probe_video

if TYPE_CHECKING:
    from PIL.Image import Image

# Seconds between pictures from which on each is sought in the file: nearer ones are quicker met in passing.
_WORTH_A_SEEK = 4.0


@dataclass(frozen=True)
class TimedFrame:
    """A picture, upright and in its true proportions, and the second at which it is on the screen."""

    time: float
    image: Image


def video_aspect(source: VideoSource | ImageSequence) -> float:
    """Width / height as displayed. Raises MediaError."""
    if isinstance(source, ImageSequence):
        return source.images.shape[2] / max(1, source.images.shape[1])
    info = probe_video(source)
    return info.width / max(1, info.height)


def film_strip(
    source: VideoSource | ImageSequence,
    *,
    window: Window,
    seconds: float,
    count: int,
    height: int,
    trim: tuple[float, float] | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> list[TimedFrame]:
    """`count` pictures, `height` pixels high, i * seconds / count after window.start (their time counts from
    there); those past the end of the window or of the video are left out, so there may be none.

    source, window, trim, check_cancelled: see `frames_from_video`. Raises InputError and MediaError.
    """
    width = max(1, round(height * video_aspect(source)))
    end = min(_end(source, trim), window.start + (window.duration or math.inf))
    if end <= window.start:
        return []
    settings: dict[str, Any] = {"trim": trim, "size": max(width, height), "check_cancelled": check_cancelled}
    step = seconds / count
    times, pictures = [], []
    if isinstance(source, ImageSequence) or step < _WORTH_A_SEEK:
        settings |= {"rates": (count / seconds,), "seconds": seconds, "window": window}
        if isinstance(source, ImageSequence):
            sampled = frames_from_images(source.images, fps=source.fps, **settings)
        else:
            sampled = frames_from_video(source, **settings)
        shown = math.ceil(sampled.duration / step - 1e-6)
        times = [index * step for index in range(min(count, shown))]
        pictures = list(sampled.frames[0])
    else:
        times = [index * step for index in range(count) if window.start + index * step < end - 1e-6]
        for time in times:
            moment = Window(start=window.start + time, duration=step)
            settings |= {"rates": (1.0,), "seconds": 1.0, "window": moment}
            pictures.append(frames_from_video(source, **settings).frames[0][0])
    return [
        TimedFrame(time, _proportioned(picture, width, height))
        for time, picture in zip(times, pictures, strict=False)
    ]


def _end(source: VideoSource | ImageSequence, trim: tuple[float, float] | None) -> float:
    """Where the (trimmed) video ends, in its own seconds."""
    if isinstance(source, ImageSequence):
        end = len(source.images) / source.fps
    else:
        end = probe_video(source).duration
    start, length = trim or (0.0, 0.0)
    return min(end - start, length or math.inf)


def _proportioned(square: torch.Tensor, width: int, height: int) -> Image:
    """(3, side, side) uint8, squashed -> a picture of its true proportions."""
    from PIL import Image

    whole = Image.fromarray(square.permute(1, 2, 0).contiguous().numpy())
    return whole.resize((width, height), Image.Resampling.LANCZOS)
