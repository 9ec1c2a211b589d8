"""A full-size AudioX-MAF with random weights in the published form: loads, takes a guided step, decodes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from forked_runs import measure_in_copies

ROOT = Path(__file__).parent.parent
needs_linux = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from /proc, on Linux alone"
)
LIMITS = {("fp32", "text"): 6.6, ("bf16", "text"): 3.6, ("bf16", "all"): 3.6}  # GiB, torch included

WRITE = """
import json, sys
from pathlib import Path
from tools.random_checkpoint import write_random_checkpoint
config = json.loads(Path(sys.argv[2]).read_text())
write_random_checkpoint(Path(sys.argv[1]), config, form="ckpt")
"""

RUN = """
import torch
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from benchmarks.models import random_prompt

def measure(precision, inputs):
    reset_peak()
    model, _ = get_pretrained_model(sys.argv[2], accept_cc_by_nc=True, precision=precision)
    wave = generate_diffusion_cond(
        model, steps=1, cfg_scale=7, conditioning=random_prompt(model, inputs), seed=1, device="cpu"
    )
    report = {"finite": bool(torch.isfinite(wave).all()), "std": float(wave.std())}
    return {**report, "shape": list(wave.shape), "peak_bytes": resident("VmHWM")}
"""
CONVERT = """
import sys
from pathlib import Path
from audiox_ext.checkpoints.conversion import convert_checkpoint
convert_checkpoint(sys.argv[1], Path(sys.argv[2]), precision="bf16", accept_cc_by_nc=True)
"""


def run(script: str, *arguments: object) -> None:
    """Run a script in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint, 6 GB, removed after use."""
    folder = tmp_path_factory.mktemp("full") / "AudioX-MAF"
    run(WRITE, folder, ROOT / "tests" / "configs" / "AudioX-MAF.json")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def reports(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The sound's shape and spread and the peak of memory, for each of `LIMITS`."""
    return dict(zip(LIMITS, measure_in_copies(RUN, LIMITS, folder), strict=True))


@pytest.mark.slow
@needs_linux
@pytest.mark.parametrize("case", LIMITS, ids="-".join)
def test_full_size_needs_little_more_than_the_largest_part(case: tuple[str, str], reports: Any) -> None:
    report = reports[case]
    assert report["shape"] == [1, 2, 236 * 2048]
    assert report["finite"]
    assert report["std"] > 0
    peak = report["peak_bytes"] / 2**30
    assert peak < LIMITS[case], f"peak of {peak:.2f} GiB"


@pytest.mark.slow
@needs_linux
def test_a_converted_checkpoint_needs_less(folder: Path, tmp_path: Path) -> None:
    run(CONVERT, folder, tmp_path / "new")
    (report,) = measure_in_copies(RUN, [("bf16", "text")], tmp_path / "new")
    peak = report["peak_bytes"] / 2**30
    assert peak < 3.1, f"peak of {peak:.2f} GiB"
    shutil.rmtree(tmp_path / "new")
