"""Cases that show that the runner notices what a bad input must not do."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from bad_case import Case, Place


class AudioXError(Exception):
    """Stands for the engine's error, so that nothing has to be loaded."""


def _raise(message: str) -> Any:
    raise AudioXError(message)


def _spin(seconds: float) -> Any:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return _raise("the value is 5")


def _fill(place: Place) -> Any:
    block = bytearray(600 << 20)
    block[::4096] = b"x" * len(block[::4096])
    return _raise(f"the value is 5{block[1:1]!r:.0}")


def _write_by_the_system(place: Place) -> Any:
    """As a C library would: Python's own functions do not see it."""
    import ctypes

    library = ctypes.CDLL(None)
    library.open(str(place.outside / "new").encode(), os.O_CREAT | os.O_WRONLY, 0o600)
    return _raise("the value is 5")


def _with(action: Any) -> Any:
    """Do something forbidden, then give the right sentence."""

    def call(place: Place) -> Any:
        try:
            action(place)
        except OSError:
            pass
        return _raise("the value is 5")

    return call


def _raise_value_error(place: Place) -> Any:
    raise ValueError("the value is 5")


def _connect(place: Place) -> None:
    socket.create_connection(("127.0.0.1", place.port), 1).close()


_CALLS: dict[str, Any] = {
    "a sentence": lambda place: _raise("the value is 5"),
    "another sentence": lambda place: _raise("the value is 6"),
    "no error": lambda place: None,
    "a bare exception": _raise_value_error,
    "a slow one": lambda place: _spin(2.2),
    "much memory": _fill,
    "an endless loop": lambda place: time.sleep(10**6),
    "a crash": lambda place: os.abort(),
    "a file outside": _with(lambda place: Path(place.outside / "new").write_text("x")),
    "a file outside, by the system": _write_by_the_system,
    "a program": _with(lambda place: subprocess.run(["true"], check=False)),
    "a shell": _with(lambda place: os.system("true")),
    "a connection": _with(_connect),
    "torch's advice": lambda place: _raise("the value is 5: set weights_only=False"),
    "a message of 1 MB": lambda place: _raise("the value is 5" + "0" * 10**6),
}
CASES = [
    Case(name, lambda place: place, call, "the value is 5", kind="runner") for name, call in _CALLS.items()
]
