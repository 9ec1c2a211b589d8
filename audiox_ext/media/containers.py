"""Opens audio and video files with PyAV: readable errors, the right stream, decoding past damage."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import MediaError

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

log = logging.getLogger(__name__)

# Seconds. Far above the rounding of i / fps in a double, far below the tick of any container.
TOLERANCE = 1e-6
# Seconds. Earlier starts are reached by decoding: a seek costs more than a second of frames.
_SHORTEST_SEEK = 1.0
# Seconds. Without an index (MPEG-TS) a seek lands between keyframes: retries start this much earlier.
_RETRY_OFFSETS = (0.0, 2.0, 10.0)

MediaSource = str | Path | BinaryIO
"""A path, or a seekable binary file."""


@contextmanager
def open_media(source: MediaSource) -> Iterator[InputContainer]:
    """Open a path or a seekable binary file with PyAV.

    Raises:
        MediaError: There is no such file, or it is not readable audio or video.
    """
    import av

    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise MediaError(f"There is no file {path}. Check the path.")
        size = path.stat().st_size
        file: Any = str(path.absolute())  # FFmpeg reads "name:" at the start of a relative path as a protocol
    elif not hasattr(source, "seek"):
        raise MediaError(f"A {type(source).__name__} cannot be read. Give a path or a seekable binary file.")
    else:
        size = source.seek(0, 2)
        source.seek(0)
        file = source
    if size == 0:
        raise MediaError(f"{source_name(source)} is empty (0 bytes). Choose another file.")
    try:
        container = av.open(file, metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{source_name(source)} cannot be read ({error}). It is not an audio or video file, or "
            "it is damaged or incomplete. Choose another file."
        ) from error
    with container:
        yield container


def source_name(source: MediaSource) -> str:
    """The name of a source in messages."""
    return str(source) if isinstance(source, str | Path) else "The file in memory"


@contextmanager
def open_frames(
    source: MediaSource, start: float = 0.0, check_cancelled: Callable[[], None] | None = None
) -> Iterator[tuple[InputContainer, VideoStream, Iterator[tuple[float, VideoFrame]]]]:
    """Open a video and decode from the frame that is on screen at `start`, or from a little earlier.

    Args:
        source: A path or a seekable binary file.
        start: Seconds since the start of the stream.
        check_cancelled: Called for every decoded frame; may raise.

    Yields:
        The container, its video stream, and an iterator over at least one (time, frame) pair in display
        order; times are seconds since the start of the stream.

    Raises:
        MediaError: The file cannot be read, or no frame of it can be decoded.
    """
    for seek_to in _seek_points(start):
        with open_media(source) as container:
            stream = video_stream(container, source)
            timed_frames = _timed_frames(container, stream, seek_to, check_cancelled)
            first = next(timed_frames, None)
            if seek_to is not None and (first is None or first[0] > start + TOLERANCE):
                continue  # the seek landed too late; the last seek point is None, the beginning
            if first is None:
                raise MediaError(
                    f"No frame of {source_name(source)} can be decoded. The file is damaged or "
                    "incomplete. Choose another file."
                )
            yield container, stream, chain([first], timed_frames)
            return


def video_stream(container: InputContainer, source: MediaSource) -> VideoStream:
    """Find the first video stream, skipping cover art, and let it decode with threads.

    Raises:
        MediaError: There is none that can be decoded.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            stream.thread_type = "AUTO"
            return stream
    content = "only audio" if container.streams.audio else "no video that can be decoded"
    raise MediaError(f"{source_name(source)} contains {content}. Choose a file with a video track.")


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second; 0 if unknown."""
    return float(stream.average_rate or stream.guessed_rate or 0)


def quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns (0..3) that bring a frame upright; always 0 in older PyAV."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _seek(container: InputContainer, stream: VideoStream, seconds: float) -> None:
    """Seek to the keyframe at or before `seconds` of the stream, if the container supports it."""
    import av

    try:
        container.seek(round((stream.start_time or 0) + seconds / seconds_per_tick(stream)), stream=stream)
    except av.error.FFmpegError as error:
        log.debug("No seek to %s s: %s", seconds, error)


def _decoded_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames from here on, in display order. Damaged packets are skipped, with one warning."""
    import av

    # AVI stores no display times, and FFmpeg's guesses for H.264 in it are up to two frames off: assign the
    # decoding times in display order instead.
    unstamped = "avi" in container.format.name.split(",")
    times: deque[int | None] = deque()
    packets, broken = container.demux(stream), 0
    try:
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # the file ends early: flush the decoder
                broken, packet = broken + 1, None
            if unstamped and packet is not None and packet.size:
                times.append(packet.dts)
            try:
                frames = stream.codec_context.decode(packet) if packet is None else packet.decode()
            except (av.error.FFmpegError, EOFError):  # flushing twice raises EOFError and is not damage
                broken += packet is not None
                frames = []
                if packet is not None and times:
                    times.pop()
            for frame in frames:
                if times:
                    frame.pts = times.popleft()
                yield frame
            if packet is None:
                break
    finally:
        if broken:
            log.warning("Skipped %d video packets that cannot be decoded.", broken)


def seconds_per_tick(stream: VideoStream) -> float:
    """Seconds per unit of the stream's timestamps."""
    assert stream.time_base is not None, "a demuxed stream has a time base"
    return float(stream.time_base)


def frame_seconds(frame: VideoFrame, fps: float) -> float:
    """Seconds that a frame stays on screen: its own duration if it has one, else 1 / fps."""
    ticks = getattr(frame, "duration", 0) or 0  # older PyAV has no such attribute
    base = frame.time_base
    return float(ticks * base) if ticks > 0 and base else 1 / (fps or 25.0)


def video_end(
    container: InputContainer, stream: VideoStream, *, at_least: float, stop: float = math.inf
) -> float:
    """Find where a video ends, from the header, or else from the remaining packets.

    Args:
        container: The open file.
        stream: Its video stream.
        at_least: Seconds; a lower bound, from the frames that were already decoded.
        stop: Seconds; packets are read only up to here.

    Returns:
        Seconds since the start of the stream.
    """
    origin = (stream.start_time or 0) * seconds_per_tick(stream)
    if stream.duration:
        return max(at_least, stream.duration * seconds_per_tick(stream))
    tagged = _parse_clock(stream.metadata.get("DURATION", ""))  # Matroska has no field for a track's length
    if tagged is not None:
        return max(at_least, tagged - origin)
    if container.duration:
        return max(at_least, ((container.start_time or 0) + container.duration) / 1e6 - origin)
    end = at_least
    for packet in container.demux(stream):
        if packet.pts is not None:
            end = max(end, (packet.pts + (packet.duration or 0)) * seconds_per_tick(stream) - origin)
        elif packet.size:  # a bare stream: count its frames
            end += 1 / (frame_rate(stream) or 25.0)
        if end > stop:
            break
    return end


def _parse_clock(text: str) -> float | None:
    """'00:01:02.500' -> 62.5; None if it is not a time."""
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None


def _timed_frames(
    container: InputContainer,
    stream: VideoStream,
    seek_to: float | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds since the start of the stream, frame) pairs, from the keyframe before `seek_to` on."""
    origin = stream.start_time  # None in bare streams: count from the first frame, without seeking
    if seek_to is not None and origin is not None:
        _seek(container, stream, seek_to)
    rate = frame_rate(stream) or 25.0
    time = -1 / rate
    for frame in _decoded_frames(container, stream):
        if check_cancelled is not None:
            check_cancelled()
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            time += 1 / rate
        else:
            origin = stamp if origin is None else origin
            time = (stamp - origin) * seconds_per_tick(stream)
        yield time, frame


def _seek_points(start: float) -> list[float | None]:
    """Times to try seeking to, best first; the last, None, is the beginning and always works."""
    points = [start - offset for offset in _RETRY_OFFSETS]
    return [*(point for point in points if point >= _SHORTEST_SEEK), None]
