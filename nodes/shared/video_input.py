"""Translation of VIDEO, IMAGE and VHS_VIDEOINFO inputs into what the engine reads frames from.

N images, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy_api.latest import Input, InputImpl

from ...audiox_ext.errors import InputError, is_number, quote_value
from ...audiox_ext.utf8 import get_logger
from .plain_numbers import read_number

if TYPE_CHECKING:
    from torch import Tensor

    from ...audiox_ext.media.containers import MediaSource
    from ...audiox_ext.media.frames import TimeRange, Trim, VideoSource

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class FrameClip:
    """Frames to read.

    Attributes:
        source: the video or images.
        time_range: the part to read, in seconds of the trimmed source.
        trim: (start, length) in seconds of the source; length 0: to its end. None: untrimmed.
        fps: frame rate to report instead of the source's. For a still image: 1 / the seconds it is shown.
    """

    source: VideoSource
    time_range: TimeRange
    trim: Trim | None = None
    fps: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class VideoFile:
    """The file behind a VIDEO.

    Attributes:
        source: the file.
        trim: the part to use: (start, length) in seconds; length 0: to the end of the file.
    """

    source: MediaSource
    trim: Trim


def read_clip(
    video: Input.Video | None,
    images: Tensor | None,
    *,
    fps: float,
    video_info: Mapping[str, Any] | None,
    time_range: TimeRange,
    seconds: float,
    seconds_per_image: float = 0.0,
) -> FrameClip:
    """Read the inputs of a node that takes either a video or images.

    Args:
        video: the VIDEO input.
        images: the IMAGE input, (N, H, W, 3).
        fps: frame rate of the images in hertz.
        video_info: Video Helper Suite's information about the images; its frame rate replaces `fps`.
        time_range: the part to read.
        seconds: seconds that a still is held, or that are read of a cropped video, if the time range has
            no duration.
        seconds_per_image: above 0, images are a slideshow, and `fps` and `video_info` are ignored.

    Raises:
        InputError: both or neither of video and images are connected, seconds_per_image is negative or not
            finite, or `video_info` has no frame rate.
    """
    from torch import Tensor

    from ...audiox_ext.media.frames import ImageSequence

    if not (is_number(seconds_per_image) and seconds_per_image >= 0):
        raise InputError(
            f"seconds_per_image is {quote_value(seconds_per_image)}. Enter the seconds that each image is "
            "shown, or 0."
        )
    hint = "Connect one of them: a VIDEO, or IMAGE frames and their fps."
    if video is not None and images is not None:
        raise InputError(f"Both video and images are connected. {hint}")
    _warn_about_unused_inputs(images, video_info, seconds_per_image)
    if video is not None:
        return _read_video(require_video(video), time_range, seconds)
    if images is None:
        raise InputError(f"Neither video nor images is connected. {hint}")
    if not isinstance(images, Tensor):
        raise InputError(
            f"images is a {type(images).__name__}, not an IMAGE. A Video Helper Suite loader with a VAE "
            "outputs latents: disconnect its vae."
        )
    if seconds_per_image:
        return FrameClip(source=ImageSequence(images, 1 / seconds_per_image), time_range=time_range)
    return _read_images(
        images, fps if video_info is None else _read_loaded_fps(video_info), time_range, seconds
    )


def _warn_about_unused_inputs(
    images: Tensor | None, video_info: Mapping[str, Any] | None, seconds_per_image: float
) -> None:
    """Log a warning for each input that another input overrides."""
    if images is None:
        if video_info is not None:
            log.warning("AudioX: video_info is not used: it times images, and none are connected.")
        if seconds_per_image:
            log.warning("AudioX: seconds_per_image is not used: it times images, and none are connected.")
    elif seconds_per_image and video_info is not None:
        log.warning("AudioX: video_info is not used: seconds_per_image times the images.")


def _read_images(images: Tensor, fps: float, time_range: TimeRange, seconds: float) -> FrameClip:
    """Read images as frames; a single image is a still, held for the whole requested time."""
    from ...audiox_ext.media.frames import ImageSequence, TimeRange

    if len(images) != 1:
        return FrameClip(source=ImageSequence(images, fps), time_range=time_range)
    length = time_range.duration or seconds
    return FrameClip(source=ImageSequence(images, 1 / length), time_range=TimeRange(duration=length), fps=fps)


def _read_video(video: Input.Video, time_range: TimeRange, seconds: float) -> FrameClip:
    """Read a video from its file if it has one, else from its decoded frames."""
    from ...audiox_ext.media.frames import ImageSequence

    file = find_video_file(video)
    if file is not None:
        return FrameClip(
            source=file.source, trim=file.trim if any(file.trim) else None, time_range=time_range
        )
    if is_edited(video) and _has_own_stream(video):
        video, time_range = _trim_to_range(video, time_range, seconds)
    components = video.get_components()
    images = _lay_over_black(components.images, getattr(components, "alpha", None))
    return FrameClip(source=ImageSequence(images, float(components.frame_rate)), time_range=time_range)


def _lay_over_black(images: Tensor, alpha: Tensor | None) -> Tensor:
    """Make the transparent pixels of a decoded video black, as they are in its file.

    alpha: (N, H, W) or (N, H, W, 1), 1 where it is opaque; None without transparency and in older ComfyUI.
    """
    return images if alpha is None else images * alpha.reshape(*images.shape[:-1], 1)


def require_video(value: Input.Video) -> Input.Video:
    """Return the value of a video input if it is a VIDEO, of ComfyUI or of another pack.

    Raises:
        InputError: the value is another object; the message names its type.
    """
    if hasattr(value, "get_components"):
        return value
    kind = "None" if value is None else f"a {type(value).__name__}"
    raise InputError(f"video is {kind}, not a VIDEO. Connect Load Video, or Create Video for images.")


def find_video_file(video: Input.Video) -> VideoFile | None:
    """Return the file behind a VIDEO, or None if it has no file or its frames are edited.

    Args:
        video: the VIDEO input.
    """
    # Newer ComfyUI returns the whole file for a trimmed video, and the uncropped file for a cropped one.
    if is_edited(video) or not _has_own_stream(video):
        return None
    source = video.get_stream_source()
    if source is None:
        return None
    trim = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0.0, 0.0)
    return VideoFile(source=source, trim=trim)


def is_edited(video: Input.Video) -> bool:
    """Return whether a VIDEO of newer ComfyUI has edits, such as a crop, that its file does not show.

    Args:
        video: the VIDEO input.
    """
    return hasattr(video, "has_pending_frame_edits") and video.has_pending_frame_edits()


def _has_own_stream(video: Input.Video) -> bool:
    """Return whether a VIDEO has a file or bytes of its own.

    ComfyUI's default get_stream_source() encodes the whole video to memory, and in 0.3.64 fails.
    """
    inherits_default = type(video).get_stream_source is Input.Video.get_stream_source
    return not inherits_default and not isinstance(video, InputImpl.VideoFromComponents)


def _trim_to_range(
    video: Input.Video, time_range: TimeRange, seconds: float
) -> tuple[Input.Video, TimeRange]:
    """Trim a video before decoding, because all its frames are held in memory at full size.

    Raises `InputError` if the time range begins after the end of the video.
    """
    from ...audiox_ext.conditioning.video_features import MAX_SECONDS
    from ...audiox_ext.media.frames import TimeRange

    length = min(time_range.duration or seconds, MAX_SECONDS)
    if not time_range.duration:
        log.warning("AudioX: only %g s of a cropped video are read. Set duration to read more.", length)
    trimmed = video.as_trimmed(time_range.start, length, strict_duration=False)
    if trimmed is None:
        raise InputError(
            f"start is {time_range.start:g} s, which is past the end of the video. Choose an earlier start."
        )
    return trimmed, TimeRange(duration=length)


def _read_loaded_fps(video_info: Mapping[str, Any]) -> float:
    """Return the frame rate that Video Helper Suite reports for the images that it loaded."""
    fps = read_number(video_info.get("loaded_fps")) if isinstance(video_info, Mapping) else None
    if fps is None:
        raise InputError(
            "video_info has no loaded_fps. Connect the video_info output of the Video Helper Suite node "
            "that loaded the images, or disconnect it and set fps."
        )
    return float(fps)
