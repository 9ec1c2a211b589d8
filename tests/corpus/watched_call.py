"""Runs one case in this process, which ends afterwards, and watches what it does."""

from __future__ import annotations

import logging
import os
import resource
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from bad_case import Exit, Place

MOST_MEMORY = 3 << 30  # bytes beyond what is in use, so that a bomb does not take the machine's memory
LARGEST_FILE = 64 << 20  # bytes that a case may write
SECRETS = ("secret.wav", "secret.mp4", "secret.png", "secret.txt")
_STARTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pty.spawn",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "urllib.Request",
    "webbrowser.open",
)
_CHANGES = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.link",
    "os.chmod",
    "os.truncate",
    "os.utime",
    "shutil.rmtree",
    "shutil.move",
)


def run_case(case: Any, folder: Path, number: int) -> dict[str, Any]:
    """Run a case. See `case_server.run_in_copy` for the result."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        place = _prepare_place(folder, number, server.getsockname()[1])
        argument = case.make(place)
        before = _list_files(place.outside)
        watch = _Watch(place.own)
        result = watch.measure(lambda: case.call(argument))
        if _list_files(place.outside) != before:
            watch.violations.append(f"{place.outside} was changed: {sorted(_list_files(place.outside))}")
        try:
            server.accept()
            watch.violations.append("it connected to a server")
        except BlockingIOError:
            pass
    return {**result, "violations": watch.violations}


def _prepare_place(folder: Path, number: int, port: int) -> Place:
    """Make the folders of a case: its own, and one outside with files that it must not read or change."""
    top = folder / str(number)
    samples = folder / "samples"
    own, outside = top / "own", top / "outside"
    for new in (own / "temporary", outside / "home"):
        new.mkdir(parents=True)
    for name in SECRETS:
        (outside / name).write_bytes((samples / name).read_bytes())
    os.chdir(own)
    os.environ |= {"MPLCONFIGDIR": str(own / "temporary"), "XDG_CACHE_HOME": str(own / "temporary")}
    os.environ["HOME"] = str(outside / "home")
    tempfile.tempdir = str(own / "temporary")
    return Place(own=own, outside=outside, samples=samples, port=port)


def _list_files(folder: Path) -> dict[str, tuple[int, int]]:
    """(size, modification time) of everything below a folder."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_size, path.lstat().st_mtime_ns)
        for path in folder.rglob("*")
    }


class _Watch:
    """Notes what a case does that it must not do."""

    def __init__(self, own: Path) -> None:
        self._own, self._is_on = os.path.realpath(own), False
        self.violations: list[str] = []
        self._handler = _Handler()
        logging.getLogger().addHandler(self._handler)

    def measure(self, call: Any) -> dict[str, Any]:
        """Call, and return the outcome with the time and memory that it took."""
        sys.addaudithook(self._note)
        resource.setrlimit(resource.RLIMIT_AS, (_memory("VmSize") + MOST_MEMORY, -1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST_FILE, -1))
        Path("/proc/self/clear_refs").write_text("5")
        memory, started = _memory("VmRSS"), time.process_time()
        self._is_on = True
        outcome, message = _judge(call)
        self._is_on = False
        seconds = time.process_time() - started
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        self.violations += self._handler.problems
        growth = _memory("VmHWM") - memory
        return {"outcome": outcome, "message": message, "seconds": seconds, "growth": growth}

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook."""
        if not self._is_on:
            return
        if event in _STARTS:
            self._is_on = False
            stack = "".join(traceback.format_stack(limit=6))
            self.violations.append(f"{event} {arguments!r:.200}\n{stack}")
            self._is_on = True
        elif event == "open":
            path, _, flags = arguments
            if isinstance(path, (str, bytes, os.PathLike)) and (
                flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            ):
                self._check_place(event, path)
        elif event in _CHANGES:
            for path in arguments:
                if isinstance(path, (str, bytes, os.PathLike)) and self._is_change(event, path):
                    self._check_place(event, path)

    @staticmethod
    def _is_change(event: str, path: Any) -> bool:
        """Whether something changes: what does not exist cannot be removed."""
        return event not in ("os.remove", "os.rmdir", "shutil.rmtree") or os.path.lexists(path)

    def _check_place(self, event: str, path: Any) -> None:
        place = os.path.realpath(os.fsdecode(path))
        if not place.startswith(self._own + os.sep) and place not in (self._own, os.devnull):
            self.violations.append(f"{event} outside: {place}")


class _Handler(logging.Handler):
    """Notes log messages that are not valid UTF-8."""

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Check a record."""
        try:
            record.getMessage().encode()
        except UnicodeEncodeError as error:
            self.problems.append(f"a log message is not valid UTF-8: {error}")


def _memory(name: str) -> int:
    """A figure of this process in bytes: VmRSS, VmHWM or VmSize."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def _judge(call: Any) -> tuple[str, str]:
    """Call, and return the outcome and the message."""
    try:
        value = call()
    except BaseException as error:
        # The nodes have the engine's classes under another name.
        if any(kind.__name__ == "AudioXError" for kind in type(error).__mro__):
            return "sentence", str(error)
        stack = traceback.extract_tb(error.__traceback__)
        places = " < ".join(f"{Path(s.filename).name}:{s.lineno} {s.name}" for s in reversed(stack[-5:]))
        return "raw", f"{type(error).__name__}: {str(error)[:300]!r} at {places}"
    if isinstance(value, Exit):
        return ("status" if value.status in (1, 2) else "passed"), f"{value.message}"
    return "passed", f"{value!r:.200}"
