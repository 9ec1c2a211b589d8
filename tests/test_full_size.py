"""A full-size AudioX-MAF with random weights in the published form: loads, takes a guided step, decodes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIMITS = {("fp32", "text"): 6.6, ("bf16", "text"): 3.6, ("bf16", "all"): 3.6}  # GiB, torch included

WRITE = """
import json, sys
from pathlib import Path
from tools.random_checkpoint import write_random_checkpoint
config = json.loads(Path(sys.argv[2]).read_text())
write_random_checkpoint(Path(sys.argv[1]), config, form="ckpt")
"""

RUN = """
import json, resource, sys, time
import torch
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from benchmarks.models import random_prompt

start = time.perf_counter()
model, _ = get_pretrained_model(sys.argv[1], accept_cc_by_nc=True, precision=sys.argv[2])
loaded = time.perf_counter()
wave = generate_diffusion_cond(
    model, steps=1, cfg_scale=7, conditioning=random_prompt(model, sys.argv[3]), seed=1, device="cpu"
)
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({
    "shape": list(wave.shape), "finite": bool(torch.isfinite(wave).all()), "std": float(wave.std()),
    "load_seconds": loaded - start, "run_seconds": done - loaded, "peak_bytes": peak,
}))
"""


def run(script: str, *arguments: object) -> str:
    """The last line that a script prints in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout.splitlines()[-1] if result.stdout else ""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The checkpoint, 6 GB, removed after use."""
    folder = tmp_path_factory.mktemp("full") / "AudioX-MAF"
    run(WRITE, folder, ROOT / "tests" / "configs" / "AudioX-MAF.json")
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "inputs"), LIMITS)
def test_full_size_needs_little_more_than_the_largest_part(precision: str, inputs: str, folder: Path) -> None:
    report = json.loads(run(RUN, folder, precision, inputs))
    assert report["shape"] == [1, 2, 236 * 2048]
    assert report["finite"]
    assert report["std"] > 0
    peak = report["peak_bytes"] / 2**30
    assert peak < LIMITS[precision, inputs], f"peak of {peak:.2f} GiB"


@pytest.mark.slow
def test_a_converted_checkpoint_needs_less(folder: Path, tmp_path: Path) -> None:
    convert = (
        "import sys; from pathlib import Path; "
        "from audiox_ext.checkpoints.conversion import convert_checkpoint as c; "
        "c(sys.argv[1], Path(sys.argv[2]), precision='bf16', accept_cc_by_nc=True)"
    )
    run(convert, folder, tmp_path / "new")
    peak = json.loads(run(RUN, tmp_path / "new", "bf16", "text"))["peak_bytes"] / 2**30
    assert peak < 3.1, f"peak of {peak:.2f} GiB"
    shutil.rmtree(tmp_path / "new")
