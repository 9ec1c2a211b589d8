"""From ComfyUI's VIDEO, IMAGE and VHS_VIDEOINFO to what the engine takes frames from."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy_api.latest import Input, InputImpl

from ...audiox_ext.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ...audiox_ext.media.frames import TimeRange, VideoSource


log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Where frames are read.

    trim: (start, seconds) that `window` counts in; 0 seconds = to the end. fps: to give out in place of the
    source's own, which for a still says only how long it is held.
    """

    source: VideoSource
    window: TimeRange
    trim: tuple[float, float] | None = None
    fps: float | None = None


def clip_of(
    video: Input.Video | None,
    images: Tensor | None,
    *,
    fps: float,
    video_info: dict[str, Any] | None,
    window: TimeRange,
    seconds: float,
    seconds_per_image: float = 0.0,
) -> Clip:
    """The one clip that is connected. `seconds`: how long a still is held, and how much of an edited video is
    read, where the window does not say. `seconds_per_image`: above 0 images are a slideshow, whatever fps and
    `video_info` say.

    Raises `InputError` if both or neither of video and images are connected, or `video_info` is not VHS's.
    """
    if not (math.isfinite(seconds_per_image) and seconds_per_image >= 0):
        raise InputError(
            f"seconds_per_image is {seconds_per_image}: give the seconds that each picture is shown, or 0."
        )
    from ...audiox_ext.media.frames import ImageSequence

    hint = "Connect one of them: a VIDEO, or IMAGE frames and their fps."
    if video is not None and images is not None:
        raise InputError(f"Both video and images are connected. {hint}")
    if video_info is not None and images is None:
        log.warning(
            "AudioX: video_info is not used: it gives the frame rate of images, and none are connected."
        )
    if video is not None:
        if seconds_per_image:
            log.warning("AudioX: seconds_per_image is not used: it is for images, and a video is connected.")
        return _clip_of_video(video, window, seconds)
    if images is None:
        raise InputError(f"Neither video nor images is connected. {hint}")
    if seconds_per_image:
        if video_info is not None:
            log.warning("AudioX: video_info is not used: seconds_per_image says how the images are timed.")
        return Clip(source=ImageSequence(images, 1 / seconds_per_image), window=window)
    return _clip_of_images(images, fps if video_info is None else _loaded_fps(video_info), window, seconds)


def _clip_of_images(images: Tensor, fps: float, window: TimeRange, seconds: float) -> Clip:
    """One image is a still, on screen for as long as is asked for, and not for a frame's time."""
    from ...audiox_ext.media.frames import ImageSequence, TimeRange

    if len(images) != 1:
        return Clip(source=ImageSequence(images, fps), window=window)
    length = window.duration or seconds
    return Clip(source=ImageSequence(images, 1 / length), window=TimeRange(duration=length), fps=fps)


def _clip_of_video(video: Input.Video, window: TimeRange, seconds: float) -> Clip:
    # The default get_stream_source() encodes the whole video to memory first, and in ComfyUI 0.3.64 fails
    # doing so.
    own_stream = type(video).get_stream_source is not Input.Video.get_stream_source
    if own_stream and not isinstance(video, InputImpl.VideoFromComponents):
        # Newer ComfyUI: a trimmed video still hands out the whole file, and a cropped one the uncropped file.
        if not (hasattr(video, "has_pending_frame_edits") and video.has_pending_frame_edits()):
            trim = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
            source = video.get_stream_source()
            if source is not None:
                return Clip(source=source, trim=trim if any(trim) else None, window=window)
        else:
            video, window = _only_the_window(video, window, seconds)
    from ...audiox_ext.media.frames import ImageSequence

    components = video.get_components()
    return Clip(source=ImageSequence(components.images, float(components.frame_rate)), window=window)


def _only_the_window(video: Input.Video, window: TimeRange, seconds: float) -> tuple[Input.Video, TimeRange]:
    """The video cut down to the window before its frames are decoded:

    all of them are held in memory at once, at full size, so without a duration it is the model's own length.
    Raises `InputError` if nothing of it is in the window.
    """
    from ...audiox_ext.conditioning.video_features import MAX_SECONDS
    from ...audiox_ext.media.frames import TimeRange

    length = min(window.duration or seconds, MAX_SECONDS)
    if not window.duration:
        log.warning("AudioX: of an edited (cropped) video %g s are read. Set duration for more.", length)
    trimmed = video.as_trimmed(window.start, length, strict_duration=False)
    if trimmed is None:
        raise InputError(
            f"The start is {window.start:g} s, which is past the end of the video: choose an earlier start."
        )
    return trimmed, TimeRange(duration=length)


def _loaded_fps(video_info: object) -> float:
    fps = video_info.get("loaded_fps") if isinstance(video_info, dict) else None
    if not isinstance(fps, int | float):
        raise InputError(
            "video_info holds no loaded_fps. Connect the video_info output of the Video Helper Suite node "
            "that loaded the images, or nothing and set fps."
        )
    return float(fps)
