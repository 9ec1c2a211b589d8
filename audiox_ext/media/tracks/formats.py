"""Knows which formats can restart or jump in their times, and which have no decoding times."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.container import InputContainer

# Seconds without any packet after which the times of a streaming format have jumped; FFmpeg's own limit.
_STREAMED_JUMP = 10.0
# Seconds, for the other formats: they may show a picture for minutes.
_STORED_JUMP = 600.0
# Formats that are written packet by packet, beside those that FFmpeg marks as discontinuous.
_STREAMED = {"flv", "live_flv", "asf"}
# Formats without decoding times: FFmpeg guesses them, and wrongly after a restart.
_UNDATED = {"matroska", "webm", "asf"}
# Seconds after which the times of a format begin again at 0: they have 33 bits.
_PERIODS = {"mpegts": 2**33 / 90000, "mpeg": 2**33 / 90000}
# Bytes. Files of the other formats are searched for jumps only up to this size, because all of it is read.
_LARGEST_SEARCH = 1 << 28


def needs_search(container: InputContainer) -> bool:
    """Whether all packets of a file must be read to know its times.

    Args:
        container: The open file; another position in it may be current afterwards.
    """
    if is_discontinuous(container):
        return True
    unknown = container.duration is None or container.duration / 1e6 > _STORED_JUMP
    return unknown and container.size <= _LARGEST_SEARCH and not _has_even_index(container)


def is_discontinuous(container: InputContainer) -> bool:
    """Whether times of a format can restart or jump without anything being wrong."""
    from av.format import Flags

    flagged = Flags.ts_discont in Flags(container.format.flags)
    return flagged or bool(_names(container) & _STREAMED)


def can_be_joined(container: InputContainer) -> bool:
    """Whether files of a format that are put end to end are read as one."""
    return "matroska" in container.format.name


def is_undated(container: Any) -> bool:
    """Whether the packets of a format have display times only."""
    return bool(_names(container) & _UNDATED)


def jump_seconds(container: InputContainer) -> float:
    """Seconds without any packet after which the times of a format have jumped."""
    return _STREAMED_JUMP if is_discontinuous(container) else _STORED_JUMP


def period_seconds(container: InputContainer) -> float:
    """Seconds after which the times of a format begin again; 0: never."""
    return _PERIODS.get(container.format.name, 0.0)


def _names(container: Any) -> set[str]:
    return set(container.format.name.split(","))


def _has_even_index(container: InputContainer) -> bool:
    """Whether the index of a video shows that its times do not jump, so that its packets need not be read."""
    import av

    if container.duration is None or not container.streams.video:
        return False
    stream: Any = container.streams.video[0]
    try:
        container.seek(container.start_time or 0)  # Matroska reads its index for this
        entries = stream.index_entries
    except (av.error.FFmpegError, AttributeError):  # older PyAV has no index
        return False
    start, base = (container.start_time or 0) / 1e6, float(stream.time_base)
    times = [start, *(entry.timestamp * base for entry in entries), start + container.duration / 1e6]
    return all(later - earlier < _STORED_JUMP for earlier, later in pairwise(times))
