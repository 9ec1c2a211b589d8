"""The results of a study, a line of JSON each, written the moment they are there.

A file that broke off in the middle of a line is as good as without that line.
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
    """report: None where it did not work; error: why. device: that made the sounds, such as cpu or cuda."""

    trial: Trial
    report: QualityReport | None
    device: str
    error: str = ""


@dataclass(frozen=True)
class StudyFile:
    """subject: what was measured with what, such as the weights and the items; a file holds results of one
    alone, since others could not be compared with them. Devices may differ: they change a sound by less than
    can be heard, and only times cannot be compared.
    """

    path: Path
    subject: Mapping[str, Any]

    def results(self) -> list[Result]:
        """In the order in which they came. Raises InputError for a file of another subject, or of none."""
        rows = read_rows(self.path)
        for row in rows:
            differing = sorted(
                name
                for name in {*row["subject"], *self.subject}
                if row["subject"].get(name) != self.subject.get(name)
            )
            if differing:
                raise InputError(
                    f"{self.path} holds results with another {', another '.join(differing)}: they cannot be "
                    "compared. Name another file, or take it away."
                )
        return [result_of(row) for row in rows]

    def append(self, result: Result) -> None:
        """Whole, and on the disk when this returns."""
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
            file.truncate(_whole(self.path.read_bytes()))
            file.write(json.dumps(row).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What the whole lines of a file say; none if it is not there. Raises InputError for what is no such
    file.
    """
    if not path.exists():
        return []
    data = path.read_bytes()
    rows = []
    for number, line in enumerate(data[: _whole(data)].splitlines(), start=1):
        try:
            row = json.loads(line)
            result_of(row)
            rows.append({**row, "subject": dict(row["subject"])})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"Line {number} of {path} is no result of a study ({error!r}). Take it out, or name another "
                "file."
            ) from None
    return rows


def result_of(row: Mapping[str, Any]) -> Result:
    """A line of the file."""
    report = row["report"]
    return Result(
        trial=Trial.from_dict(row["trial"]),
        report=None if report is None else QualityReport.from_dict(report),
        device=row["device"],
        error=row["error"],
    )


def _whole(data: bytes) -> int:
    """How many bytes the whole lines are."""
    return data.rfind(b"\n") + 1
