"""The file of a study: one line of JSON per result, written as soon as the result exists.

An incomplete last line is ignored, and replaced by the next result.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiox_ext.errors import InputError

from ..quality.report import QualityReport
from .grid import Trial


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of one trial.

    Attributes:
        trial: The settings.
        report: The measurements, None if the trial failed.
        device: Type of the device that generated the sounds, such as cpu or cuda.
        error: Reason of the failure, or empty.
    """

    trial: Trial
    report: QualityReport | None
    device: str
    error: str = ""


@dataclass(frozen=True)
class StudyFile:
    """A file of results that can be compared with each other.

    Devices may differ within a file: they change the sounds inaudibly, and only the times are not comparable.

    Attributes:
        path: The file, which need not exist.
        subject: Properties that all results share, such as the weights and the items.
    """

    path: Path
    subject: Mapping[str, Any]

    def results(self) -> list[Result]:
        """Read all results.

        Returns:
            The results in the order of the file; none if the file does not exist.

        Raises:
            InputError: If the file belongs to a different subject, or is not a file of results.
        """
        rows = read_rows(self.path)
        for row in rows:
            differing = sorted(
                name
                for name in {*row["subject"], *self.subject}
                if row["subject"].get(name) != self.subject.get(name)
            )
            if differing:
                raise InputError(
                    f"The results in {self.path} cannot be compared with this study, because these differ: "
                    f"{', '.join(differing)}. Choose another file with --results, or delete this one."
                )
        return [result_of(row) for row in rows]

    def append(self, result: Result) -> None:
        """Append a result, and flush it to the disk.

        Args:
            result: Result to append.
        """
        report = None if result.report is None else result.report.as_dict()
        row = {
            "subject": dict(self.subject),
            "trial": result.trial.as_dict(),
            "device": result.device,
            "report": report,
            "error": result.error,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab+") as file:
            file.truncate(_complete_length(self.path.read_bytes()))
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the complete lines of a file of results.

    Args:
        path: The file, which need not exist.

    Returns:
        One dictionary per line.

    Raises:
        InputError: If a line is not a result.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    rows = []
    for number, line in enumerate(data[: _complete_length(data)].splitlines(), start=1):
        try:
            row = json.loads(line)
            result_of(row)
            rows.append({**row, "subject": dict(row["subject"])})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"Line {number} of {path} is not a result of a study ({error!r}). Delete the line, or choose "
                "another file with --results."
            ) from None
    return rows


def result_of(row: Mapping[str, Any]) -> Result:
    """Convert a line of the file.

    Args:
        row: Dictionary of `read_rows`.

    Returns:
        The result.
    """
    report = row["report"]
    return Result(
        trial=Trial.from_dict(row["trial"]),
        report=None if report is None else QualityReport.from_dict(report),
        device=row["device"],
        error=row["error"],
    )


def _complete_length(data: bytes) -> int:
    """Size in bytes of the complete lines."""
    return data.rfind(b"\n") + 1
