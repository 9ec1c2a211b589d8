"""Asks the server of bad inputs to run a case."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SERVER = Path(__file__).with_name("case_server.py")
MOST_SECONDS = 2.0
MOST_GROWTH = 500 << 20  # bytes
LONGEST_MESSAGE = 4000  # characters; a command's usage has 2000


@dataclass(frozen=True)
class CaseResult:
    """What became of a case, see `case_server.run_in_copy`."""

    outcome: str
    message: str
    seconds: float = 0.0
    growth: int = 0
    violations: list[str] = field(default_factory=list)

    def find_faults(self, pattern: str, may_work: bool = False) -> list[str]:
        """List what is wrong.

        Args:
            pattern: What the message must contain.
            may_work: Whether the input may be accepted, too.

        Returns:
            Nothing if the input gave the right sentence within the bounds.
        """
        import re

        faults = [f"forbidden: {violation}" for violation in self.violations]
        if self.outcome == "passed" and may_work:
            pass
        elif self.outcome not in ("sentence", "status"):
            faults.append(f"{self.outcome}: {self.message}")
        elif not re.search(pattern, self.message, re.DOTALL):
            faults.append(f"the message does not match {pattern}: {self.message[:600]}")
        for word in ("Traceback", "weights_only", "Error:"):
            if word in self.message and self.outcome in ("sentence", "status"):
                faults.append(f"the message contains {word!r}: {self.message[:600]}")
        if len(self.message) > LONGEST_MESSAGE:
            faults.append(f"the message has {len(self.message)} characters")
        try:
            self.message.encode()
        except UnicodeEncodeError as error:
            faults.append(f"the message is not valid UTF-8: {error}")
        if self.seconds > MOST_SECONDS:
            faults.append(f"it took {self.seconds:.1f} s, more than {MOST_SECONDS:g} s")
        if self.growth > MOST_GROWTH:
            faults.append(f"it took {self.growth >> 20} MB, more than {MOST_GROWTH >> 20} MB")
        return faults


class CaseServer:
    """A running server."""

    def __init__(self, folder: Path, *comfyui: Path, python: str = sys.executable, cases: str = "") -> None:
        """Start a server.

        Args:
            folder: Takes the files of the cases.
            *comfyui: For the cases of the nodes: the checkout, the base directory and the pack.
            python: The interpreter.
            cases: "self" for the cases of `self_check`, "mutations" for those of tests/fuzzing, "" for the
                corpus.
        """
        self.folder = folder
        self._log = folder / "server.log"
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for name in ("AUDIOX_ACCEPT_CC_BY_NC", "AUDIOX_DISABLE", "AUDIOX_MODELS", "MALLOC_ARENA_MAX"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [python, str(SERVER), str(folder), *map(str, comfyui), *([f"--{cases}"] if cases else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("wb"),
            text=True,
            env=environment,
            cwd=folder,
        )
        self._expect("ready")

    def run(self, number: int) -> CaseResult:
        """Run the case of this number."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{number}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._expect("{"))
        return CaseResult(**answer)

    def stop(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _expect(self, beginning: str) -> str:
        """Read a line that begins so."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith(beginning), f"{line!r}\n{self._log.read_text(errors='replace')[-3000:]}"
        return line
