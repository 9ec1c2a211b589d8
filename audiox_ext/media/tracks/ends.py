"""Finds where a video ends: what a file holds decides, not what its header claims."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ...utf8 import get_logger
from .clock import Clock
from .rates import frame_rate, seconds_per_tick

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = get_logger(__name__)

# Seconds before the claimed end of a file from which its last packets are read.
_TAIL = 2.0


def find_end(
    container: InputContainer, stream: VideoStream, clock: Clock, *, at_least: float, stop: float
) -> float:
    """Find where a video ends; afterwards its packets are used up.

    A header that claims more than the pictures is right as far as another track supports it: the last picture
    stays on screen.

    Args:
        container: The open file.
        stream: Its video track.
        clock: The times of its tracks.
        at_least: Seconds; a lower bound, from the frames that were already decoded.
        stop: Seconds; packets are read only up to here.

    Returns:
        Seconds since the start of the track.
    """
    frame = 1 / (frame_rate(stream) or 25.0)
    start = clock.origin(stream)
    if clock.counts and start is None:  # a bare stream
        return max(at_least, clock.counts[stream.index] * frame)
    origin = start or 0.0
    claimed = _claimed_end(container, stream, origin)
    if clock.ends:
        video = max(at_least, clock.ends.get(stream.index, origin) - origin)
        anything = max(clock.ends.values()) - origin
        return _judge_end(claimed if clock.is_continuous else None, video, anything, frame)
    video, anything = _read_ends(container, stream, origin, claimed, stop)
    return _judge_end(claimed, max(at_least, video), anything, frame)


def seek(container: InputContainer, stream: VideoStream, seconds: float) -> None:
    """Seek to the keyframe at or before `seconds` of a track, if the container supports it."""
    import av

    try:
        container.seek(round((stream.start_time or 0) + seconds / seconds_per_tick(stream)), stream=stream)
    except av.error.FFmpegError as error:
        log.debug("No seek to %s s: %s", seconds, error)


def _claimed_end(container: InputContainer, stream: VideoStream, origin: float) -> float | None:
    """Where the header says that a video ends, in seconds since `origin`; None if it says nothing."""
    if stream.duration:
        return stream.duration * seconds_per_tick(stream)
    tagged = _parse_clock(stream.metadata.get("DURATION", ""))  # Matroska has no field for a track's length
    if tagged is not None:
        return tagged - origin
    if container.duration:
        return ((container.start_time or 0) + container.duration) / 1e6 - origin
    return None


def _judge_end(claimed: float | None, video: float, anything: float, frame: float) -> float:
    """Choose where a video ends.

    Args:
        claimed: By its header; None if it says nothing.
        video: The end of its last packet.
        anything: The end of the last packet of any track.
        frame: Seconds per frame: headers and packets may round differently by this.
    """
    if claimed is None:
        return video
    if abs(claimed - video) <= 1.5 * frame:
        return claimed
    return max(video, min(claimed, anything))


def _read_ends(
    container: InputContainer, stream: VideoStream, origin: float, claimed: float | None, stop: float
) -> tuple[float, float]:
    """Read the last packets: the ends of the video and of all tracks, in seconds since `origin`.

    If a seek to the claimed end finds nothing there, all packets are read.
    """
    import av

    for seek_to in (None,) if claimed is None else (max(0.0, claimed - _TAIL), None):
        if seek_to is not None:
            seek(container, stream, seek_to)
        elif claimed is not None:
            with suppress(av.error.FFmpegError):  # a damaged index: what follows is read
                container.seek(container.start_time or 0)
        video, anything = _last_times(container, stream, origin, stop)
        if seek_to is None or video > 0:
            break
    return video, anything


def _last_times(
    container: InputContainer, stream: VideoStream, origin: float, stop: float
) -> tuple[float, float]:
    """Read the packets from here on up to `stop`; the latest end of the video and of any track."""
    import av

    video = anything = 0.0
    streams = [*container.streams.video, *container.streams.audio]
    with suppress(av.error.FFmpegError):
        for packet in container.demux(streams):
            base = float(packet.time_base or 0)
            if packet.is_discard:
                continue
            if packet.pts is not None:
                end = (packet.pts + (packet.duration or 0)) * base - origin
                if packet.stream.index == stream.index:
                    video = max(video, end)
            elif packet.size and packet.stream.index == stream.index:  # a bare stream: count its frames
                video += 1 / (frame_rate(stream) or 25.0)
                end = video
            else:
                continue
            anything = max(anything, end)
            if video > stop:
                break
    return video, max(video, anything)


def _parse_clock(text: str) -> float | None:
    """'00:01:02.500' -> 62.5; None if it is not a time."""
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None
