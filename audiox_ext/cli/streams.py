"""Output of the command line that cannot fail: the work counts, not its report."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO


@contextmanager
def forgiving_output() -> Iterator[None]:
    r"""Replace stdout and stderr inside the block by streams that never raise.

    Characters that a stream cannot encode are written as escapes, such as \u97f3. Once a stream cannot be
    written to, because its pipe was closed or its disk is full, its further output is dropped.
    """
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (_ForgivingStream(stream) if stream else stream for stream in streams)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream:
                stream.flush()
        sys.stdout, sys.stderr = streams


class _ForgivingStream(io.TextIOBase):
    """A text stream that writes to a second one, and ignores its errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_broken = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the other stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write a text, with escapes for characters that the encoding lacks."""
        printable = text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        if not self._is_broken:
            try:
                self._stream.write(printable)
            except (OSError, ValueError):  # ValueError: the stream is closed
                self._give_up()
        return len(text)

    def flush(self) -> None:
        """Flush the other stream."""
        if not self._is_broken:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._give_up()

    def isatty(self) -> bool:
        """Whether the other stream is a terminal."""
        with suppress(OSError, ValueError):
            return self._stream.isatty()
        return False

    def fileno(self) -> int:
        """The descriptor of the other stream."""
        return self._stream.fileno()

    def _give_up(self) -> None:
        """Drop further output, and what the other stream still holds, so that exiting cannot fail."""
        self._is_broken = True
        with suppress(OSError, ValueError):  # streams that are not files have no descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
