"""Audio and video files as PyAV opens them: readable errors, the right stream, decoding past damage."""

from __future__ import annotations

import logging
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
# Shorter ways are decoded instead: a seek costs more than a second of frames.
_SHORTEST_SEEK = 1.0
# Without an index (MPEG-TS) a seek lands between keyframes: further tries start so much earlier.
_EARLIER = (0.0, 2.0, 10.0)

MediaSource = str | Path | BinaryIO  # a path, or a seekable binary file


@contextmanager
def open_media(source: MediaSource) -> Iterator[InputContainer]:
    """Open a path or a seekable binary file with PyAV. Raises MediaError if it is no readable media."""
    import av

    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise MediaError(f"There is no file {path}: check the path.")
        size = path.stat().st_size
        file: Any = str(path.absolute())  # absolute: a name with a colon would be taken for a protocol
    elif not hasattr(source, "seek"):
        raise MediaError(f"A {type(source).__name__} cannot be read: give a path or a seekable binary file.")
    else:
        size = source.seek(0, 2)
        source.seek(0)
        file = source
    if size == 0:
        raise MediaError(f"{name_of(source)} is empty (0 bytes): choose another file.")
    try:
        container = av.open(file, metadata_errors="ignore")
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{name_of(source)} cannot be read ({error}): it is no audio or video, or damaged, or cut off."
        ) from error
    with container:
        yield container


def name_of(source: MediaSource) -> str:
    """How messages call a source."""
    return str(source) if isinstance(source, str | Path) else "The file in memory"


@contextmanager
def frames_shown(
    source: MediaSource, start: float = 0.0, check_cancelled: Callable[[], None] | None = None
) -> Iterator[tuple[InputContainer, VideoStream, Iterator[tuple[float, VideoFrame]]]]:
    """Open a video and decode from the frame that is on screen at `start`, or from a little before it.

    Gives the container, its video stream, and an iterator over at least one (time, frame): seconds since the
    start of the stream, in display order. check_cancelled is called for every frame. Raises MediaError.
    """
    for seek_to in _seek_points(start):
        with open_media(source) as container:
            stream = video_stream(container, source)
            shown = _timed_frames(container, stream, seek_to, check_cancelled)
            first = next(shown, None)
            if seek_to is not None and (first is None or first[0] > start + TOLERANCE):
                continue  # the seek landed too late; the last seek point is None, the beginning
            if first is None:
                raise MediaError(
                    f"No frame of {name_of(source)} can be decoded: the file is damaged or cut off."
                )
            yield container, stream, chain([first], shown)
            return


def video_stream(container: InputContainer, source: MediaSource) -> VideoStream:
    """The first moving-picture stream (cover art is none), decoding with threads. Raises MediaError."""
    from av.stream import Disposition

    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic and stream.codec_context is not None:
            stream.thread_type = "AUTO"
            return stream
    holds = "only audio" if container.streams.audio else "no video that can be decoded"
    raise MediaError(f"{name_of(source)} holds {holds}: choose a file with a video track.")


def frame_rate(stream: VideoStream) -> float:
    """Average frames per second, 0 if the container does not say."""
    return float(stream.average_rate or stream.guessed_rate or 0)


def quarter_turns(frame: VideoFrame) -> int:
    """Counter-clockwise quarter turns that show the frame upright (0..3). Older PyAV does not know: 0."""
    return round(getattr(frame, "rotation", 0) / 90) % 4


def _seek(container: InputContainer, stream: VideoStream, seconds: float) -> None:
    """Go to the keyframe at or before `seconds` of the stream, if the container can."""
    import av

    try:
        container.seek(round((stream.start_time or 0) + seconds / tick(stream)), stream=stream)
    except av.error.FFmpegError as error:
        log.debug("No seek to %s s: %s", seconds, error)


def _decoded_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """All frames from here on, in display order; what cannot be decoded is left out, with one warning."""
    import av

    # AVI stores no display times, and what is guessed for H.264 in it is up to two frames off: there the
    # decoding times are handed out in display order instead.
    unstamped = "avi" in container.format.name.split(",")
    times: deque[int | None] = deque()
    packets, broken = container.demux(stream), 0
    try:
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:  # the container breaks off: get what the decoder still holds
                broken, packet = broken + 1, None
            if unstamped and packet is not None and packet.size:
                times.append(packet.dts)
            try:
                frames = stream.codec_context.decode(packet) if packet is None else packet.decode()
            except (av.error.FFmpegError, EOFError):  # flushing twice is EOFError, and no damage
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
            log.warning("%d packets of the video cannot be decoded; going on with the rest.", broken)


def tick(stream: VideoStream) -> float:
    """Seconds per unit of the stream's timestamps."""
    assert stream.time_base is not None, "a demuxed stream has a time base"
    return float(stream.time_base)


def frame_seconds(frame: VideoFrame, fps: float) -> float:
    """How long a frame stays on screen: as it says itself, else one frame of the average rate."""
    own = getattr(frame, "duration", 0) or 0  # older PyAV does not tell
    base = frame.time_base
    return float(own * base) if own > 0 and base else 1 / (fps or 25.0)


def _timed_frames(
    container: InputContainer,
    stream: VideoStream,
    seek_to: float | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds since the start of the stream, frame), from the keyframe before `seek_to` on."""
    origin = stream.start_time  # None (bare streams): counted from the first frame, and no seeking
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
            time = (stamp - origin) * tick(stream)
        yield time, frame


def _seek_points(start: float) -> list[float | None]:
    """Places to decode from, best first; the last one, the beginning, always works."""
    points = [start - earlier for earlier in _EARLIER]
    return [*(point for point in points if point >= _SHORTEST_SEEK), None]
