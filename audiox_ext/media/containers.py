"""Opens audio and video files with PyAV: readable errors, the right stream, decoding past damage."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import MediaError
from ..utf8 import get_logger
from .tracks.clock import Clock, read_clock, read_starts
from .tracks.ends import find_end, seek
from .tracks.formats import needs_search
from .tracks.matroska import open_joined
from .tracks.orientation import Orientation, read_orientation
from .tracks.rates import find_pixel_aspect, frame_rate, seconds_per_tick

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

log = get_logger(__name__)

# Seconds. Far above the rounding of i / fps in a double, far below the tick of any container.
TOLERANCE = 1e-6
# Seconds. Earlier starts are reached by decoding: a seek costs more than a second of frames.
_SHORTEST_SEEK = 1.0
# Seconds. Without an index (MPEG-TS) a seek lands between keyframes: retries start this much earlier.
_RETRY_OFFSETS = (0.0, 2.0, 10.0)
# Seconds. The tick of FLV and Matroska, which round; coarser ticks are those of a frame rate, and exact.
_LONGEST_ROUNDED_TICK = 0.001

LONGEST_FILM = 86400.0
"""Seconds, a day. A file that claims more has damaged times."""
MOST_PIXELS = 1 << 26
"""Pixels of a picture, such as 8192 x 8192: twice as many as 8K has."""

MediaSource = str | Path | BinaryIO
"""A path, or a seekable binary file."""

# Playlists and scene descriptions (HLS, DASH, concat, SDP, ...) name other files and addresses, which FFmpeg
# would open. With this list of protocols it opens none; files are read through Python, without a protocol.
_NOTHING_ELSE = {"protocol_whitelist": "none"}


@contextmanager
def open_media(source: MediaSource) -> Iterator[InputContainer]:
    """Open a path or a seekable binary file with PyAV. Nothing that the file names is opened.

    Raises:
        MediaError: There is no such file, or it is not readable audio or video, or a list of other files.
    """
    with _open(source) as (container, _):
        yield container


@contextmanager
def _open(source: MediaSource) -> Iterator[tuple[InputContainer, bool]]:
    """`open_media`, and whether the file consists of several recordings, by its structure."""
    import av

    if isinstance(source, str | Path):
        path = Path(source)
        check_is_file(path)
        size = path.stat().st_size
        file: Any = str(path.absolute())  # FFmpeg guesses formats by the name
    elif not hasattr(source, "seek"):
        raise MediaError(f"A {type(source).__name__} cannot be read. Give a path or a seekable binary file.")
    else:
        size = source.seek(0, 2)
        source.seek(0)
        file = source
    if size == 0:
        raise MediaError(f"{source_name(source)} is empty (0 bytes). Choose another file.")
    with ExitStack() as stack:
        try:
            binary = stack.enter_context(open(file, "rb")) if isinstance(file, str) else file
            joined = open_joined(binary)
            container = stack.enter_context(
                av.open(joined or binary, metadata_errors="ignore", options=dict(_NOTHING_ELSE))
            )
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise MediaError(
                f"{source_name(source)} cannot be read ({error}). It is not an audio or video file, or "
                "it is damaged or incomplete, or a list of other files, which are not read. Choose another "
                "file."
            ) from error
        yield container, joined is not None


def check_is_file(path: Path) -> None:
    """Refuse what is not a regular file, once links are followed: a pipe never ends. Raises MediaError."""
    if os.path.isfile(path):
        return
    if os.path.exists(path):
        raise MediaError(f"{path} is not a regular file but a folder, pipe or device. Choose a file.")
    raise MediaError(f"There is no file {path}. Check the path.")


def check_picture_size(source: MediaSource, width: int, height: int) -> None:
    """Refuse pictures that would take too much memory, before they are decoded. Raises MediaError."""
    if width * height > MOST_PIXELS:
        raise MediaError(
            f"The pictures of {source_name(source)} have {width} x {height} pixels. At most {MOST_PIXELS} in "
            "all are possible. Make them smaller."
        )


def source_name(source: MediaSource) -> str:
    """The name of a source in messages."""
    return str(source) if isinstance(source, str | Path) else "The file in memory"


@dataclass(frozen=True)
class Film:
    """An open video.

    Attributes:
        container: The file.
        stream: Its video track.
        clock: The times of its tracks.
        frames: (time, frame) pairs in display order, at least one; times are seconds since the start of the
            track.
        fps: Average frames per second; 0 if unknown.
        pixel_aspect: Width / height of a stored pixel as it is shown.
        orientation: How the stored pictures are shown.
        tolerance: Seconds by which a picture may be later than its time says, because the file rounds.
    """

    container: InputContainer
    stream: VideoStream
    clock: Clock
    frames: Iterator[tuple[float, VideoFrame]]
    fps: float
    pixel_aspect: Fraction
    orientation: Orientation
    tolerance: float

    def find_end(self, *, at_least: float, stop: float = math.inf) -> float:
        """Find where the video ends; uses up the frames. See `ends.find_end`.

        Args:
            at_least: Seconds; a lower bound, from the frames that were already decoded.
            stop: Seconds; packets are read only up to here.

        Returns:
            Seconds since the start of the track.
        """
        return find_end(self.container, self.stream, self.clock, at_least=at_least, stop=stop)


@contextmanager
def open_frames(
    source: MediaSource, start: float = 0.0, check_cancelled: Callable[[], None] | None = None
) -> Iterator[Film]:
    """Open a video and decode from the frame that is on screen at `start`, or from a little earlier.

    Args:
        source: A path or a seekable binary file.
        start: Seconds since the start of the track.
        check_cancelled: Called for every decoded frame; may raise.

    Yields:
        The open video, with at least one frame.

    Raises:
        MediaError: The file cannot be read, or no frame of it can be decoded.
    """
    clock = find_clock(source)
    for seek_to in _seek_points(start) if clock.is_continuous else [None]:
        with open_media(source) as container:
            stream = video_stream(container, source)
            timed_frames = _timed_frames(container, stream, clock, seek_to, check_cancelled)
            first = next(timed_frames, None)
            if seek_to is not None and (first is None or first[0] > start + TOLERANCE):
                continue  # the seek landed too late; the last seek point is None, the beginning
            if first is None:
                raise MediaError(
                    f"No frame of {source_name(source)} can be decoded. The file is damaged or "
                    "incomplete. Choose another file."
                )
            yield Film(
                container,
                stream,
                clock,
                chain([first], timed_frames),
                frame_rate(stream),
                find_pixel_aspect(stream),
                read_orientation(first[1]),
                _rounding(stream),
            )
            return


def find_clock(source: MediaSource) -> Clock:
    """Read the times of a file's tracks, all packets if its format can restart or jump.

    Raises:
        MediaError: The file cannot be read.
    """
    if not isinstance(source, str | Path):
        return _find_clock(source)
    check_is_file(Path(source))
    with suppress(OSError):
        state = Path(source).stat()
        return _find_clock_of_path(str(source), state.st_mtime_ns, state.st_size)
    return _find_clock(source)


@lru_cache(maxsize=64)
def _find_clock_of_path(path: str, modified: int, size: int) -> Clock:
    """Like `_find_clock`, once for each state of a file."""
    return _find_clock(path)


def _find_clock(source: MediaSource) -> Clock:
    with _open(source) as (container, is_joined):
        if not (is_joined or needs_search(container)):
            return read_starts(container)
    with open_media(source) as container:  # at its beginning again
        return read_clock(container, source_name(source))


def video_stream(container: InputContainer, source: MediaSource) -> VideoStream:
    """Find the first video stream, skipping cover art, and let it decode with threads.

    Raises:
        MediaError: There is none that can be decoded, or its pictures are too large.
    """
    from av.stream import Disposition

    for stream in container.streams.video:
        context = stream.codec_context
        if not stream.disposition & Disposition.attached_pic and context is not None:
            check_picture_size(source, context.width, context.height)
            stream.thread_type = "AUTO"
            # Pictures may also grow in the middle of the file.
            context.options = {**context.options, "max_pixels": str(MOST_PIXELS)}
            return stream
    content = "only audio" if container.streams.audio else "no video that can be decoded"
    raise MediaError(f"{source_name(source)} contains {content}. Choose a file with a video track.")


def _decoded_frames(container: InputContainer, stream: VideoStream, clock: Clock) -> Iterator[VideoFrame]:
    """All frames from here on, in display order. Damaged packets are skipped, with one warning."""
    import av

    # AVI stores no display times, and FFmpeg's guesses for H.264 in it are up to two frames off: assign the
    # decoding times in display order instead.
    unstamped = "avi" in container.format.name.split(",")
    times: deque[int | None] = deque()
    packets, broken = clock.demux(container, stream), 0
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


def _timed_frames(
    container: InputContainer,
    stream: VideoStream,
    clock: Clock,
    seek_to: float | None = None,
    check_cancelled: Callable[[], None] | None = None,
) -> Iterator[tuple[float, VideoFrame]]:
    """(seconds since the start of the stream, frame) pairs, from the keyframe before `seek_to` on."""
    origin = clock.origin(stream)  # None in bare streams: count from the first frame, without seeking
    if seek_to is not None and origin is not None:
        seek(container, stream, seek_to)
    rate = frame_rate(stream) or 25.0
    time = -1 / rate
    for frame in _decoded_frames(container, stream, clock):
        if check_cancelled is not None:
            check_cancelled()
        stamp = frame.pts if frame.pts is not None else frame.dts
        if stamp is None:
            time += 1 / rate
        else:
            seconds = stamp * seconds_per_tick(stream)
            origin = seconds if origin is None else origin
            time = seconds - origin
        yield time, frame


def _rounding(stream: VideoStream) -> float:
    """Seconds by which a time in a file may be later than the true one."""
    tick = seconds_per_tick(stream)
    return TOLERANCE + (tick / 2 if tick <= _LONGEST_ROUNDED_TICK + TOLERANCE else 0.0)


def _seek_points(start: float) -> list[float | None]:
    """Times to try seeking to, best first; the last, None, is the beginning and always works."""
    points = [start - offset for offset in _RETRY_OFFSETS]
    return [*(point for point in points if point >= _SHORTEST_SEEK), None]
