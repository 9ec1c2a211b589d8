"""A full-size AudioX-MAF with random weights in the published form: loads, takes a guided step, decodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIMIT = 12 * 2**30  # bytes

WRITE = """
import json, sys
from pathlib import Path
from audiox_ext.random_checkpoint import write_random_checkpoint
config = json.loads(Path(sys.argv[2]).read_text())
write_random_checkpoint(Path(sys.argv[1]), config, form="ckpt")
"""

RUN = """
import json, resource, sys, time
import torch
from audiox_ext.generation import generate_diffusion_cond
from audiox_ext.pretrained import get_pretrained_model

start = time.perf_counter()
model, _ = get_pretrained_model(sys.argv[1], accept_cc_by_nc=True)
loaded = time.perf_counter()
wave = generate_diffusion_cond(
    model, steps=1, cfg_scale=7, conditioning={"text_prompt": "rain on a roof"}, seed=1, device="cpu"
)
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({
    "shape": list(wave.shape), "finite": bool(torch.isfinite(wave).all()), "std": float(wave.std()),
    "load_seconds": loaded - start, "run_seconds": done - loaded, "peak_bytes": peak,
}))
"""


@pytest.mark.slow
def test_full_size_runs_in_twelve_gibibytes(tmp_path: Path) -> None:
    folder = tmp_path / "AudioX-MAF"
    config = ROOT / "tests" / "configs" / "AudioX-MAF.json"
    for script, arguments in ((WRITE, [folder, config]), (RUN, [folder])):
        result = subprocess.run(
            [sys.executable, "-c", script, *map(str, arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-3000:]
    report = json.loads(result.stdout.splitlines()[-1])

    assert report["shape"] == [1, 2, 236 * 2048]
    assert report["finite"]
    assert report["std"] > 0
    assert report["peak_bytes"] < LIMIT, f"peak of {report['peak_bytes'] / 2**30:.1f} GiB"
