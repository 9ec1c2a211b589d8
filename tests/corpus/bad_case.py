"""A bad input, and the sentence that it must give."""

from __future__ import annotations

import contextlib
import io
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Place:
    """Where a case runs.

    Attributes:
        own: Folder of the case, and its working folder. Only here may anything be written.
        outside: Folder that nothing may change. It holds `secret.wav`, `secret.mp4` and `secret.txt`.
        samples: Good files, shared by all cases.
        port: Of a server on 127.0.0.1, to which nothing may connect.
    """

    own: Path
    outside: Path
    samples: Path
    port: int

    @property
    def canary(self) -> Path:
        """The file that code in a bad input would write."""
        return self.outside / "code-ran"

    def write(self, name: str, content: bytes | str) -> Path:
        """Write a file into the case's folder; returns its path."""
        path = self.own / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def put_oddity(self, path: Path, kind: str) -> Path:
        """Put there what is not a plain file: a folder, pipe, device, link, or nothing for other kinds."""
        if kind == "a folder":
            path.mkdir()
        elif kind == "a pipe":
            os.mkfifo(path)
        elif kind == "a socket":
            socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))
        elif kind in ("a device", "an endless device"):
            path.symlink_to("/dev/zero")
        elif kind == "a link to itself":
            path.symlink_to(path)
        elif kind == "a link to nothing":
            path.symlink_to(self.own / "nothing")
        return path

    def sample(self, name: str) -> bytes:
        """The content of a good file."""
        return (self.samples / name).read_bytes()


@dataclass(frozen=True)
class Case:
    """A bad input.

    Attributes:
        name: Unique within its kind.
        make: Makes the bad input. Its time and memory do not count.
        call: Gives it to the code, which must answer with an `AudioXError`, or, on the command line, with an
            exit status and a message.
        pattern: A regular expression that the message contains. It leaves the wording open.
        kind: Name of the group, set by `list_cases`.
        may_work: Whether the code may also use the input, within the same bounds of time and memory.
    """

    name: str
    make: Callable[[Place], Any]
    call: Callable[[Any], Any]
    pattern: str
    kind: str = field(default="", kw_only=True)
    may_work: bool = field(default=False, kw_only=True)

    def __str__(self) -> str:
        """The name of the test."""
        return f"{self.kind}: {self.name}"


@dataclass(frozen=True)
class Exit:
    """What a command did.

    Attributes:
        status: Exit status.
        message: What it wrote to stderr.
    """

    status: int
    message: str


def run_command(words: list[str]) -> Exit:
    """Run a command of `python -m audiox_ext` in this process."""
    from audiox_ext.cli.main import main

    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(words)
        except SystemExit as stop:  # of argparse
            status = int(stop.code or 0)
    return Exit(status, errors.getvalue())
