"""The benchmark that kills writers: it finds what is wrong, and finds nothing wrong with ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quick_finetuning import needs_training

from audiox_ext.files import write_atomically

ROOT = Path(__file__).parents[2]
OTHER_WRITERS = "write_audio,extract,feature cache,convert,convert --force"
TRAININGS = "train lora,pocket sync"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="NO FORK: the benchmark needs Linux"),
]


@pytest.mark.parametrize(
    "writers", [OTHER_WRITERS, pytest.param(TRAININGS, marks=needs_training)], ids=["files", "trainings"]
)
def test_nothing_is_lost_or_left_after_a_kill(writers: str, tmp_path: Path) -> None:
    output = tmp_path / "kills.json"
    command = [sys.executable, "-m", "benchmarks.kills", "--writers", writers, "--kills", "10"]
    done = subprocess.run(
        [*command, "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert output.is_file(), done.stderr[-3000:]
    report = json.loads(output.read_text())
    assert report["kills"] == 10
    assert [row["writer"] for row in report["writers"]] == writers.split(",")
    assert not [row for row in report["writers"] if row["faults"]], json.dumps(report["writers"], indent=1)
    assert done.returncode == 0


def write_carelessly(folder: Path, materials: Path) -> int:
    with (folder / "result.ckpt").open("wb") as file:
        for _ in range(50):
            file.write(bytes(1000))
            file.flush()
            time.sleep(0.01)
    return 0


def write_two_files(folder: Path, materials: Path) -> int:
    for name in ("one.txt", "two.txt"):
        with write_atomically(folder / name) as temporary:
            temporary.write_text("new")
        time.sleep(0.3)
    return 0


def leave_a_file(folder: Path, materials: Path) -> int:
    (folder / ".result.0123.partial.txt").write_text("half")
    time.sleep(0.3)
    (folder / "result.txt").write_text("whole")
    return 0


def put_old_files(folder: Path, materials: Path) -> None:
    for name in ("one.txt", "two.txt"):
        (folder / name).write_text("old")


def give_the_time(folder: Path, materials: Path) -> int:
    with write_atomically(folder / "result.txt") as temporary:
        temporary.write_text(str(time.time_ns()))
    return 0


@pytest.mark.parametrize(
    ("run", "prepare", "fault"),
    [
        (write_carelessly, None, "result.ckpt is incomplete"),
        (write_two_files, put_old_files, "the folder mixes two results: one.txt belongs to the new one"),
        (leave_a_file, None, "after the next run there is still .result.0123.partial.txt"),
        (give_the_time, None, "the next run did not give what an unbroken run gives"),
    ],
)
def test_a_careless_writer_is_found_out(
    run: Callable[[Path, Path], int], prepare: Any, fault: str, tmp_path: Path
) -> None:
    from benchmarks.kills.trials import run_killed, run_unbroken
    from benchmarks.kills.writers import Writer

    writer = Writer(name="careless", run=run, results=("*.txt", "*.ckpt"), prepare=prepare)
    (tmp_path / "materials").mkdir()
    reference = run_unbroken(writer, tmp_path / "materials")
    trial = run_killed(writer, tmp_path / "materials", reference, 0.15)
    assert fault in trial.faults
