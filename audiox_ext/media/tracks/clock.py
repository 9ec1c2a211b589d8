"""One clock for the picture and the sound of a file: restarts become continuous, empty jumps are closed.

In recordings that are joined end to end (dash cams, streams, broadcasts) times start again in the middle; in
interrupted ones they jump ahead. Every part keeps its picture and its sound together, and begins where the
part before it ends. Times are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import MediaError
from ...utf8 import get_logger
from .formats import can_be_joined, is_discontinuous, is_undated, jump_seconds, period_seconds
from .rates import frame_rate, seconds_per_tick

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer
    from av.video.stream import VideoStream

log = get_logger(__name__)

# Seconds. Times that go back by less than this are not a restart: they are rounded and interleaved.
_JITTER = 0.2
# Seconds. The duration of a lone packet that has none.
_SHORTEST_PART = 0.04
# Parts of a file; each costs time for every packet of those after it.
_MOST_PARTS = 1000


@dataclass(frozen=True)
class Shift:
    """A correction of one track's times.

    Attributes:
        packet: Number of the track's first packet that it applies to.
        seconds: Seconds to add.
    """

    packet: int
    seconds: float


@dataclass(frozen=True)
class Clock:
    """The corrections of a file's times.

    Attributes:
        shifts: The corrections of each track by its index, in order; empty if the file's times are right.
        starts: When each track begins, by its index; those that were not looked for are missing.
        ends: When each track ends by its packets; empty unless all packets were read.
        counts: The number of packets of each track; empty unless all packets were read.
        is_undated: Whether the format has no decoding times.
    """

    shifts: dict[int, tuple[Shift, ...]] = field(default_factory=dict)
    starts: dict[int, float] = field(default_factory=dict)
    ends: dict[int, float] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)
    is_undated: bool = False

    @property
    def is_continuous(self) -> bool:
        """Whether the file's own times are right, so that it can be searched by time."""
        return not self.shifts

    def origin(self, stream: Any) -> float | None:
        """Read when a track begins; None for a bare stream, whose packets have no times."""
        # FFmpeg's own start is a guess where there are no decoding times.
        if stream.index in self.starts and (self.shifts or self.is_undated):
            return self.starts[stream.index]
        if stream.start_time is None:
            return None
        return float(stream.start_time * stream.time_base)

    def demux(self, container: InputContainer, stream: Any) -> Iterator[Any]:
        """Read the packets of a track with their corrected times.

        Args:
            container: The open file, at its beginning unless the clock is continuous.
            stream: One of its audio or video tracks.

        Yields:
            The packets in file order, then an empty one. In files that joined recordings without decoding
            times, they have none.
        """
        if stream.index not in self.shifts:
            yield from container.demux(stream)
            return
        correct = self._correct_undated if self.is_undated else self._correct_dated
        yield from correct(container, stream)

    def _correct_dated(self, container: InputContainer, stream: Any) -> Iterator[Any]:
        """`demux` of a file whose decoding times are true."""
        shifts, count = self._ticks(stream), 0
        period = round(period_seconds(container) / stream.time_base)
        ticks = 0
        for packet in container.demux(stream):
            if packet.size:
                ticks = next((ticks for first, ticks in reversed(shifts) if count >= first), 0)
                count += 1
            if packet.dts is not None:
                packet.dts += ticks
            if packet.pts is not None:
                near = packet.dts if packet.dts is not None else packet.pts + ticks
                # Pictures are stored before those that they follow on screen: a jump may lie in between.
                choices = {0, ticks, ticks + period, *(ticks for _, ticks in shifts)}
                packet.pts = min((packet.pts + choice for choice in choices), key=lambda pts: abs(pts - near))
            yield packet

    def _correct_undated(self, container: InputContainer, stream: Any) -> Iterator[Any]:
        """`demux` of a file without decoding times."""
        shifts, count = self._ticks(stream), 0
        half_a_jump = jump_seconds(container) / 2 / stream.time_base
        before, ticks, first = 0, 0, -math.inf
        for packet in container.demux(stream):
            if packet.size:
                if shifts and count >= shifts[0][0]:
                    before, ticks, first = ticks, shifts.pop(0)[1], packet.pts or 0
                count += 1
            packet.dts = None
            if packet.pts is not None:  # a picture before the jump may be stored after it
                packet.pts += ticks if packet.pts >= first - half_a_jump else before
            yield packet

    def _ticks(self, stream: Any) -> list[tuple[int, int]]:
        """The shifts of a track, in its own ticks."""
        return [
            (shift.packet, round(shift.seconds / stream.time_base)) for shift in self.shifts[stream.index]
        ]

    def date_packets(self, container: InputContainer, stream: VideoStream) -> list[int]:
        """Find decoding times for the packets of an undated file, as an encoder would choose them.

        Args:
            container: The open file, at its beginning; its packets are used up.
            stream: Its video track.

        Returns:
            Ticks of each packet of `demux` in file order, ascending and at or before its display time.
        """
        import av

        shown: list[int] = []
        with suppress(av.error.FFmpegError):  # damage ends the file
            for packet in self.demux(container, stream):
                if packet.size:
                    shown.append(packet.pts or 0)
        order = sorted(range(len(shown)), key=shown.__getitem__)
        delay = max((number - place for place, number in enumerate(order)), default=0)  # in packets
        frame = max(1, round(1 / ((frame_rate(stream) or 25.0) * seconds_per_tick(stream))))
        dates = [shown[number] for number in order[: len(shown) - delay]]
        return [*(dates[0] - early * frame for early in range(delay, 0, -1)), *dates]


def read_starts(container: InputContainer) -> Clock:
    """Find where the picture begins, without reading all packets, if FFmpeg can only guess that.

    Args:
        container: A file that was just opened; its first packets are used up.

    Returns:
        A clock without corrections.
    """
    import av

    if not is_undated(container):
        return Clock()
    starts: dict[int, float] = {}
    pictures = [track for track in _timed_tracks(container) if track.type == "video"]
    with suppress(av.error.FFmpegError):
        for packet in container.demux(pictures[:1]) if pictures else ():
            if packet.pts is not None:
                starts[packet.stream.index] = float(packet.pts * packet.time_base)
                break
    return Clock(starts=starts, is_undated=True)


def read_clock(container: InputContainer, name: str) -> Clock:
    """Read all packets of a file and find where its times restart or jump.

    Args:
        container: A file that was just opened; its packets are used up.
        name: The name of the file, for the log.

    Returns:
        The clock. Damage ends the search, as it ends the file for those who read it.

    Raises:
        MediaError: The times restart too often.
    """
    import av

    tracks = _timed_tracks(container)
    search = _Search(
        jump=jump_seconds(container),
        restarts=is_discontinuous(container) or can_be_joined(container),
        undated=is_undated(container),
        period=period_seconds(container),
        seconds={track.index: float(track.time_base) for track in tracks},
    )
    try:
        for packet in container.demux(tracks):
            if packet.size:
                search.add(packet)
    except av.error.FFmpegError as error:
        log.debug("%s: %s", name, error)
    return search.finish(name)


def _timed_tracks(container: InputContainer) -> list[Any]:
    """The audio and video tracks, without cover art, whose times say nothing."""
    from av.stream import Disposition

    tracks: Sequence[Any] = [*container.streams.video, *container.streams.audio]
    return [track for track in tracks if not track.disposition & Disposition.attached_pic]


@dataclass
class _Track:
    """One track within one part of the file. Decoding times unless stated, in seconds of the file.

    Attributes:
        last: When the last packet is decoded.
        wraps: From which packet on how many periods are added to the file's times.
        is_open: Whether the part can begin in the middle of a group of pictures.
        duration: Of the last packet.
        usual: Duration of a packet that seems long because a jump follows it.
        first_shown: When the first picture is shown, or the first sound heard.
        last_shown: When the last one is.
    """

    last: float
    wraps: list[tuple[int, int]]
    is_open: bool
    duration: float = 0.0
    usual: float = 0.0
    first_shown: float = math.inf
    last_shown: float = -math.inf

    def add(self, time: float, shown: float, duration: float) -> None:
        """Add a packet of the part."""
        if time > self.last:
            self.usual = time - self.last
        self.last, self.duration = max(self.last, time), duration or self.usual
        if self.is_open or math.isinf(self.first_shown):  # what precedes a keyframe cannot be decoded
            self.first_shown = min(self.first_shown, shown)
        self.last_shown = max(self.last_shown, shown)

    def length_of_last(self, jump: float) -> float:
        """Seconds from the last packet to the next part."""
        return (self.duration if self.duration < jump else self.usual) or _SHORTEST_PART


@dataclass(eq=False)
class _Part:
    """A stretch of the file without restart or jump."""

    tracks: dict[int, _Track] = field(default_factory=dict)

    @property
    def first(self) -> float:
        return min(track.first_shown for track in self.tracks.values())

    @property
    def last(self) -> float:
        return max(track.last for track in self.tracks.values())


class _Search:
    """Sorts the packets of a file into parts."""

    def __init__(
        self, *, jump: float, restarts: bool, undated: bool, period: float, seconds: dict[int, float]
    ) -> None:
        self._seconds = seconds  # per tick of each track
        self._jump, self._restarts = jump, restarts
        self._undated, self._period = undated, period
        self._parts: list[_Part] = [_Part()]
        self._current: dict[int, int] = {}  # the part that each track is in
        self._counts: dict[int, int] = {}
        self._ahead: dict[int, float] = {}  # when a picture of the next part is shown that was decoded before

    def add(self, packet: Any) -> None:
        """Add the next packet of the file."""
        index = packet.stream.index
        seconds = self._seconds[index]
        number = self._counts.get(index, 0)
        self._counts[index] = number + 1
        if packet.is_discard or (packet.pts is None and packet.dts is None):
            return
        shown = (packet.dts if packet.pts is None else packet.pts) * seconds
        time = shown if self._undated or packet.dts is None else packet.dts * seconds
        part = self._parts[self._find_part(index, time, packet.is_keyframe)]
        wraps = self._count_wraps(part, index, time)
        time += wraps * self._period
        if index not in part.tracks:
            ahead = self._ahead.pop(index, math.inf)
            part.tracks[index] = _Track(time, [(number, wraps)], not packet.is_keyframe, first_shown=ahead)
        track = part.tracks[index]
        if wraps != track.wraps[-1][1]:
            track.wraps.append((number, wraps))
        if self._undated and time < track.last - self._jump / 2:
            self._extend_part_before(part, index, time)
            return
        shown += self._periods(time - shown) * self._period
        if abs(shown - time) > self._jump:  # a jump lies between: the picture is shown in the next part
            self._ahead[index] = min(shown, self._ahead.get(index, math.inf))
            shown = time
        track.add(time, shown, (packet.duration or 0) * seconds)

    def _extend_part_before(self, part: _Part, index: int, time: float) -> None:
        """Count a picture that is stored after a jump, but shown before it."""
        earlier = self._parts[: self._parts.index(part)]
        before = next((one.tracks[index] for one in reversed(earlier) if index in one.tracks), None)
        if before is not None:
            before.last_shown = max(before.last_shown, time)

    def _find_part(self, index: int, time: float, is_keyframe: bool) -> int:
        """The part that a packet belongs to; a new one after a restart or a jump."""
        current = self._current.setdefault(index, len(self._parts) - 1)
        track = self._parts[current].tracks.get(index)
        if track is not None and self._is_break(self._parts[current], index, time, is_keyframe):
            later = range(current + 1, len(self._parts))
            reached = (number for number in later if self._reaches(self._parts[number], index, time))
            current = next(reached, len(self._parts))
            if current == len(self._parts):
                if current == _MOST_PARTS:
                    raise MediaError(
                        f"The times of this file restart or jump more than {_MOST_PARTS} times. It is "
                        "damaged. Convert it, or choose another file."
                    )
                self._parts.append(_Part())
            self._current[index] = current
        return current

    def _is_break(self, part: _Part, index: int, time: float, is_keyframe: bool) -> bool:
        """Whether a track cannot go on at `time` in the same part."""
        time += self._count_wraps(part, index, time) * self._period
        went_back = time < part.tracks[index].last - _JITTER
        if self._undated and not is_keyframe:  # without decoding times, pictures go back all the time
            went_back = False
        return (self._restarts and went_back) or time > part.last + self._jump

    def _reaches(self, part: _Part, index: int, time: float) -> bool:
        time += self._count_wraps(part, index, time) * self._period
        return part.first - self._jump <= time <= part.last + self._jump

    def _count_wraps(self, part: _Part, index: int, time: float) -> int:
        """The periods that bring a time near to what the part has."""
        if not part.tracks:
            return 0
        near = part.tracks[index].last if index in part.tracks else part.last
        return self._periods(near - time)

    def _periods(self, seconds: float) -> int:
        return round(seconds / self._period) if self._period else 0

    def finish(self, name: str) -> Clock:
        """Put the parts one after the other."""
        shifts: dict[int, list[Shift]] = {}
        starts: dict[int, float] = {}
        ends: dict[int, float] = {}
        for number, part in enumerate(self._parts):
            if not part.tracks:
                continue
            offset = self._offset(part, ends) if number else 0.0
            if number:
                log.warning(
                    "The times of %s change from %.2f to %.2f s in the middle. The rest follows directly, "
                    "at %.2f s.",
                    name,
                    self._parts[number - 1].last,
                    part.first,
                    part.first + offset,
                )
            last = number == len(self._parts) - 1
            for index, track in part.tracks.items():
                length = track.duration if last else track.length_of_last(self._jump)
                starts.setdefault(index, track.first_shown + offset)
                ends[index] = max(ends.get(index, -math.inf), track.last_shown + length + offset)
                for packet, wraps in track.wraps:
                    if number or wraps or index in shifts:
                        shifts.setdefault(index, []).append(Shift(packet, offset + wraps * self._period))
        fixed = {index: tuple(values) for index, values in shifts.items()}
        return Clock(fixed, starts, ends, self._counts, self._undated)

    @staticmethod
    def _offset(part: _Part, ends: dict[int, float]) -> float:
        """The seconds that let a part follow without covering the end of any track."""
        known = [ends[index] - track.first_shown for index, track in part.tracks.items() if index in ends]
        return max(known, default=max(ends.values(), default=part.first) - part.first)
