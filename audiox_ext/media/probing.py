"""Reads a video's length, frame rate and size, and the times of its frames."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from ..errors import MediaError
from ..utf8 import get_logger
from .containers import LONGEST_FILM, find_clock, open_frames, open_media, source_name, video_stream
from .frames import VideoSource
from .pictures import ImageSequence, open_animation
from .tracks.rates import frame_rate, frame_seconds, seconds_per_tick

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class VideoInfo:
    """Facts about a video.

    Attributes:
        duration: Seconds.
        fps: Average frames per second; 0 if unknown.
        width: Pixels as displayed.
        height: Pixels as displayed.
        has_audio: Whether the file has an audio track.
        pixel_aspect: Width / height of a pixel as displayed; not 1 in anamorphic films (DV, DVD).
        is_turned: Whether the file asks players to turn or mirror its pictures.
    """

    duration: float
    fps: float
    width: int
    height: int
    has_audio: bool
    pixel_aspect: Fraction = Fraction(1)
    is_turned: bool = False

    @property
    def aspect_ratio(self) -> float:
        """Width / height as displayed."""
        return float(self.width * self.pixel_aspect / max(1, self.height))


def probe_video(source: VideoSource) -> VideoInfo:
    """Read length, rate and displayed size; for a file, from its header and its first frame.

    Raises:
        InputError: The images cannot be played as a video.
        MediaError: The file cannot be read, or claims to last longer than a day.
    """
    if isinstance(source, ImageSequence):
        source.check()
        _, height, width, _ = source.images.shape
        return VideoInfo(
            duration=source.duration, fps=source.fps, width=width, height=height, has_audio=False
        )
    animation = open_animation(source)
    if animation is not None:
        return VideoInfo(
            duration=animation.duration,
            fps=animation.fps,
            width=animation.width,
            height=animation.height,
            has_audio=False,
        )
    with open_frames(source) as film:
        time, frame = next(film.frames)
        width, height, aspect = frame.width, frame.height, film.pixel_aspect
        if film.orientation.transposed:
            width, height, aspect = height, width, 1 / aspect
        duration = film.find_end(at_least=time + frame_seconds(frame, film.fps))
        if not duration <= LONGEST_FILM:
            raise MediaError(
                f"By its times, {source_name(source)} lasts {duration:.6g} s, and at most {LONGEST_FILM:g} s "
                "are possible. They are damaged: convert the file, or choose a different one."
            )
        return VideoInfo(
            duration=duration,
            fps=film.fps,
            width=width,
            height=height,
            has_audio=bool(film.container.streams.audio),
            pixel_aspect=aspect,
            is_turned=not film.orientation.is_upright,
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
    animation = open_animation(source)
    if animation is not None:
        return list(animation.times)
    import av

    stamps: list[int | None] = []
    clock = find_clock(source)
    with open_media(source) as container:
        stream = video_stream(container, source)
        unstamped = "avi" in container.format.name.split(",")  # its display times are guesses
        try:
            for packet in clock.demux(container, stream):
                if packet.size and not packet.is_discard:
                    stamps.append(packet.dts if unstamped or packet.pts is None else packet.pts)
        except av.error.FFmpegError as error:  # the decoder stops at the same place
            log.debug("%s", error)
        known = sorted(stamp for stamp in stamps if stamp is not None)
        if len(known) < len(stamps) or not known:  # a bare stream: count its frames
            return [index / (frame_rate(stream) or 25.0) for index in range(len(stamps))]
        start, tick = clock.origin(stream), seconds_per_tick(stream)
        origin = known[0] * tick if start is None else start
        return [stamp * tick - origin for stamp in known]


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
    if isinstance(source, ImageSequence) or open_animation(source) is not None:
        return read_packet_times(source)
    with open_frames(source, check_cancelled=check_cancelled) as film:
        return sorted(time for time, _ in film.frames)
