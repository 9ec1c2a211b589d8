"""The benchmark that keeps a server busy: its judgement, and a short form of it with a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.soak.readings import MEMORY_TOLERANCE, Reading, compare_thirds, read_process

ROOT = Path(__file__).parents[2]


def readings(*memory: int, descriptors: int = 8, threads: int = 5) -> list[Reading]:
    """Readings with these megabytes in memory; descriptors and threads grow by as many in each."""
    return [
        Reading(
            prompts=10 * number,
            memory=size * 2**20,
            resident=2 * size * 2**20,
            descriptors=descriptors * (number + 1) if descriptors != 8 else 8,
            threads=threads * (number + 1) if threads != 5 else 5,
        )
        for number, size in enumerate(memory)
    ]


def test_memory_that_goes_up_and_down_is_flat() -> None:
    growth = compare_thirds(readings(700, 760, 720, 750, 690, 730, 760, 700, 725))
    assert growth.memory == 5 * 2**20
    assert growth.prompts == 60
    assert growth.is_flat


@pytest.mark.parametrize(
    "leaking",
    [
        readings(*range(700, 790, 10)),
        readings(*[700] * 9, descriptors=1),
        readings(*[700] * 9, threads=1),
    ],
    ids=["memory", "descriptors", "threads"],
)
def test_what_grows_is_not_flat(leaking: list[Reading]) -> None:
    assert not compare_thirds(leaking).is_flat


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="NO /proc: the benchmark needs Linux")
def test_a_process_is_read_as_the_system_sees_it() -> None:
    before = read_process(os.getpid(), 1)
    block = bytearray(b"x" * (2 * MEMORY_TOLERANCE))
    with Path(os.devnull).open("rb"), Path(os.devnull).open("rb"):
        after = read_process(os.getpid(), 2)
    assert after.memory - before.memory > MEMORY_TOLERANCE
    assert after.descriptors - before.descriptors == 2
    assert len(block) == 2 * MEMORY_TOLERANCE


@pytest.mark.slow
@pytest.mark.server
def test_a_busy_server_makes_the_same_sounds_and_leaves_nothing_open(
    comfyui_dir: Path, tmp_path: Path
) -> None:
    output = tmp_path / "soak.json"
    command = [sys.executable, "-m", "benchmarks.soak", str(comfyui_dir), "--prompts", "30"]
    command += ["--python", os.environ.get("COMFYUI_PYTHON", sys.executable)]
    done = subprocess.run(
        [*command, "--warm-up", "10", "--every", "5", "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert output.is_file(), done.stderr[-3000:]
    report = json.loads(output.read_text())
    assert report["is_equal"]
    assert report["reference_sounds"] == 5
    # Memory needs a longer run: it still grows while things are used for the first time.
    assert report["growth"]["descriptors"] <= 2
    assert report["growth"]["threads"] <= 2
    assert report["ends"]["success"] >= 15
