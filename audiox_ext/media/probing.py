"""Reads a video's length, frame rate and size, and the times of its frames."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from .containers import (
    frame_rate,
    frame_seconds,
    open_frames,
    open_media,
    quarter_turns,
    seconds_per_tick,
    video_end,
    video_stream,
)
from .frames import ImageSequence, VideoSource

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts about a video.

    Attributes:
        duration: Seconds.
        fps: Average frames per second; 0 if unknown.
        width: Pixels as displayed.
        height: Pixels as displayed.
        has_audio: Whether the file has an audio track.
    """

    duration: float
    fps: float
    width: int
    height: int
    has_audio: bool

    @property
    def aspect_ratio(self) -> float:
        """Width / height as displayed."""
        return self.width / max(1, self.height)


def probe_video(source: VideoSource) -> VideoInfo:
    """Read length, rate and displayed size; for a file, from its header and its first frame.

    Raises:
        InputError: The images cannot be played as a video.
        MediaError: The file cannot be read.
    """
    if isinstance(source, ImageSequence):
        source.check()
        _, height, width, _ = source.images.shape
        return VideoInfo(
            duration=source.duration, fps=source.fps, width=width, height=height, has_audio=False
        )
    with open_frames(source) as (container, stream, timed_frames):
        time, frame = next(timed_frames)
        width, height = frame.width, frame.height
        if quarter_turns(frame) % 2:
            width, height = height, width
        return VideoInfo(
            duration=video_end(container, stream, at_least=time + frame_seconds(frame, frame_rate(stream))),
            fps=frame_rate(stream),
            width=width,
            height=height,
            has_audio=bool(container.streams.audio),
        )


def read_packet_times(source: VideoSource) -> list[float]:
    """Read when each frame appears; for a file, from its packets alone, without decoding.

    Some formats have packets that show nothing (VP8), or two packets per frame; `decode_frame_times` is
    exact.

    Returns:
        Seconds, ascending.

    Raises:
        MediaError: The file cannot be read.
    """
    if isinstance(source, ImageSequence):
        return [index / source.fps for index in range(len(source.images))]
    import av

    stamps: list[int | None] = []
    with open_media(source) as container:
        stream = video_stream(container, source)
        unstamped = "avi" in container.format.name.split(",")  # its display times are guesses
        try:
            for packet in container.demux(stream):
                if packet.size and not packet.is_discard:
                    stamps.append(packet.dts if unstamped or packet.pts is None else packet.pts)
        except av.error.FFmpegError as error:  # the decoder stops at the same place
            log.debug("%s", error)
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if len(known) < len(stamps) or not known:  # a bare stream: count its frames
            return [index / (frame_rate(stream) or 25.0) for index in range(len(stamps))]
        origin = known[0] if stream.start_time is None else stream.start_time
        return [(stamp - origin) * seconds_per_tick(stream) for stamp in known]


def decode_frame_times(source: VideoSource, check_cancelled: Callable[[], None] | None = None) -> list[float]:
    """Read when each frame appears; for a file, by decoding every frame.

    Args:
        source: A path, a seekable binary file, or images.
        check_cancelled: Called for every frame; may raise.

    Returns:
        Seconds, ascending.

    Raises:
        MediaError: The file cannot be read.
    """
    if isinstance(source, ImageSequence):
        return read_packet_times(source)
    with open_frames(source, check_cancelled=check_cancelled) as (_, _, timed_frames):
        return sorted(time for time, _ in timed_frames)
