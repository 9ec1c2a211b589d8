"""Memory, descriptors and threads of a process, and whether they stay flat."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MEMORY_TOLERANCE = 32 * 2**20  # bytes between the medians of early and late readings
COUNT_TOLERANCE = 2  # descriptors and threads; a connection may be open during a reading


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a process uses at one moment.

    Attributes:
        prompts: Prompts that it has been sent so far.
        memory: Bytes in memory that belong to no file.
        resident: Bytes in memory, memory-mapped files included.
        descriptors: Open files and connections.
        threads: Threads.
    """

    prompts: int
    memory: int
    resident: int
    descriptors: int
    threads: int


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Differences between the medians of the last and the first third of the readings.

    Attributes:
        memory: Bytes that belong to no file.
        descriptors: Open files and connections.
        threads: Threads.
        prompts: Prompts between the middles of both thirds.
    """

    memory: float
    descriptors: float
    threads: float
    prompts: float

    @property
    def is_flat(self) -> bool:
        """Whether nothing grew by more than its tolerance."""
        return (
            self.memory <= MEMORY_TOLERANCE
            and self.descriptors <= COUNT_TOLERANCE
            and self.threads <= COUNT_TOLERANCE
        )


def read_process(pid: int, prompts: int) -> Reading:
    """Read what a process uses. Needs Linux.

    Args:
        pid: Number of the process.
        prompts: Prompts that it has been sent so far.

    Returns:
        The reading.
    """
    folder = Path("/proc") / str(pid)
    status = dict(re.findall(r"^(\w+):\s*(\d+)", (folder / "status").read_text(), re.MULTILINE))
    return Reading(
        prompts=prompts,
        memory=1024 * int(status["RssAnon"]),
        resident=1024 * int(status["VmRSS"]),
        descriptors=len(list((folder / "fd").iterdir())),
        threads=int(status["Threads"]),
    )


def compare_thirds(readings: Sequence[Reading]) -> Growth:
    """Compare the last third of the readings with the first.

    Args:
        readings: At least three readings in their order.

    Returns:
        The differences of the medians.
    """
    size = len(readings) // 3
    early, late = ([asdict(reading) for reading in part] for part in (readings[:size], readings[-size:]))
    return Growth(
        **{
            name: statistics.median(row[name] for row in late) - statistics.median(row[name] for row in early)
            for name in ("memory", "descriptors", "threads", "prompts")
        }
    )
