"""The output of the command line never fails, whatever stdout and stderr are connected to."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audiox_ext.cli.streams import forgiving_output

ROOT = Path(__file__).parents[2]
PRINT_MUCH = """
import sys
from audiox_ext.cli.streams import forgiving_output
with forgiving_output():
    for number in range(20000):
        print("line", number)
    print("the end", file=sys.stderr)
"""


def encoded(encoding: str, monkeypatch: pytest.MonkeyPatch) -> io.BytesIO:
    """Connect stdout to bytes, in an encoding."""
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding=encoding, newline=""))
    return data


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("cp1252", b"\\u97f3 caf\xe9 \\udce9\n"),
        ("ascii", b"\\u97f3 caf\\xe9 \\udce9\n"),
        ("utf-8", "音 café \\udce9\n".encode()),
    ],
)
def test_what_an_encoding_lacks_is_escaped(
    encoding: str, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded(encoding, monkeypatch)
    with forgiving_output():
        sys.stdout.write("音 café \udce9\n")
    assert data.getvalue() == expected


def test_streams_that_are_missing_or_closed_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    monkeypatch.setattr(sys, "stderr", None)
    with forgiving_output():
        sys.stdout.write("nobody reads this\n")
        logging.StreamHandler(sys.stdout).emit(logging.makeLogRecord({"msg": "nor this"}))
    assert sys.stdout is closed
    assert sys.stderr is None


def test_a_reader_that_leaves_early_ends_nothing() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PRINT_MUCH], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read().decode().split() == ["the", "end"]
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="NO /dev/full on this system")
def test_a_full_disk_under_stdout_ends_nothing() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINT_MUCH], stdout=full, stderr=subprocess.PIPE, cwd=ROOT
        )
    assert (done.returncode, done.stderr.decode().split()) == (0, ["the", "end"])
