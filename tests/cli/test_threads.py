"""The number of threads follows from the size of the work; an explicit number wins."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from audiox_ext.cli.main import main
from audiox_ext.devices import choose_thread_count

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("width", "positions", "available", "expected"),
    [
        (288, 79, 2, 1),  # audiox-pocket
        (288, 79, 64, 1),
        (288, 79 * 16, 64, 4),  # a batch
        (1536, 216, 4, 4),  # AudioX
        (1536, 216, 64, 20),
        (64, 10, 1, 1),
    ],
)
def test_small_networks_get_one_thread(width: int, positions: int, available: int, expected: int) -> None:
    assert choose_thread_count(width, positions, available) == expected


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The threads with which a sound is made, on a machine with six cores; the sound is not made."""
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    monkeypatch.setattr(
        "audiox_ext.cli.generate._make_audio", lambda *_: seen.append(torch.get_num_threads())
    )
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    yield seen
    assert torch.get_num_threads() == 6
    torch.set_num_threads(before)


def generate(folder: Path, *options: str) -> int:
    line = ["generate", "--prompt", "x", "--device", "cpu", "-o", str(folder / "x.wav")]
    return main([*line, *options])


def test_the_size_decides_unless_a_number_is_given(
    counts: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate(tmp_path) == 0
    assert generate(tmp_path, "--batch", "16") == 0
    assert generate(tmp_path, "--threads", "5") == 0
    assert generate(tmp_path, "--model", "AudioX-MAF", "--models", str(tmp_path)) == 0  # not on disk yet
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert generate(tmp_path) == 0
    assert generate(tmp_path, "--threads", "2") == 0
    assert counts == [1, 4, 5, 6, 6, 2]


def test_a_negative_number_is_refused(counts: list[int], tmp_path: Path, capsys: Any) -> None:
    assert generate(tmp_path, "--threads", "-1") == 1
    assert "--threads is -1. Give 1 or more" in capsys.readouterr().err
    assert counts == []


@pytest.mark.parametrize(("before", "after"), [(None, "passive"), ("active", "active")])
def test_waiting_threads_sleep_unless_the_environment_says_otherwise(before: str | None, after: str) -> None:
    code = """
import os, sys
from audiox_ext.cli import main
assert "torch" not in sys.modules  # its OpenMP reads the variable once
try:
    main.main(["--help"])
except SystemExit:
    sys.stderr.write(os.environ["OMP_WAIT_POLICY"])
"""
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    env |= {} if before is None else {"OMP_WAIT_POLICY": before}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env)
    assert done.stderr == after
