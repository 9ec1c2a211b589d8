"""A whole generation in a process of its own, from the files to the waveform: times and peaks of memory.

    python -m benchmarks.generate --steps 4
    python -m benchmarks.generate --model AudioX-Turbo --precision bf16

The weights are random, in the published layout, 6 to 11 GB in float32, in a temporary folder that is removed
at the end; --weights names a folder that is kept and used again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

from .measuring import parse, parser, peak_bytes, report
from .models import prompts


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command = parser(__doc__, plain=False)
    command.add_argument("--steps", type=int, help="default the model's own")
    command.add_argument("--seconds", type=float, default=0.0, help="of sound; 0 = the model's own length")
    command.add_argument("--prompts", default="text", choices=("text", "all"))
    command.add_argument("--weights", type=Path, metavar="FOLDER", help="where they are kept")
    command.add_argument("--offload", action="store_true", help="parts are on the device only while in use")
    command.add_argument("--compile", action="store_true", help="with torch.compile")
    command.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    options = parse(command, arguments)
    if options.inner:
        _generate(options)
        return
    with tempfile.TemporaryDirectory(prefix="audiox-benchmark-") as temporary:
        folder = (options.weights or Path(temporary)) / options.model
        if not folder.is_dir():
            write = "import sys; from pathlib import Path; from benchmarks.models import random_folder; "
            write += "random_folder(Path(sys.argv[1]), sys.argv[2])"
            subprocess.run([sys.executable, "-c", write, str(folder), options.model], check=True)
        inner = [sys.executable, "-m", "benchmarks.generate", "--inner", "--weights", str(folder)]
        given = sys.argv[1:] if arguments is None else arguments
        # The last of two equal options counts, so the folder stands behind what was given.
        done = subprocess.run([*inner[:3], *given, *inner[3:]], stdout=subprocess.PIPE, text=True, check=True)
    report("generate", options, json.loads(done.stdout))


def _generate(options: argparse.Namespace) -> None:
    from audiox_ext.checkpoints.pretrained import get_pretrained_model
    from audiox_ext.pipeline.generate import generate_diffusion_cond
    from audiox_ext.sampling.denoiser import StepInfo

    before = peak_bytes()
    start = time.perf_counter()
    model, _ = get_pretrained_model(
        options.weights,
        accept_cc_by_nc=True,
        precision=options.precision,
        device=options.device,
        offload=options.offload,
        compile=options.compile,
    )
    loaded, loaded_peak = time.perf_counter(), peak_bytes()
    ends: list[float] = []

    def note(info: StepInfo) -> None:
        if torch.device(options.device).type == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    ratio = model.config.autoencoder.downsampling_ratio
    size = -(-round(options.seconds * model.sample_rate) // ratio) * ratio if options.seconds else None
    waveform = generate_diffusion_cond(
        model,
        steps=options.steps,
        conditioning=[prompts(model, options.prompts)],
        sample_size=size,
        seed=1,
        device=options.device,
        callback=note,
    )
    done = time.perf_counter()
    steps = [later - earlier for earlier, later in pairwise(ends)]
    results = {
        "load_seconds": loaded - start,
        "conditioning_and_first_step_seconds": ends[0] - loaded,
        "mean_step_seconds": sum(steps) / len(steps) if steps else None,
        "decode_seconds": done - ends[-1],
        "prompt_to_waveform_seconds": done - loaded,
        "steps": len(ends),
        "samples": waveform.shape[-1],
        "finite": bool(torch.isfinite(waveform).all()),
        "peak_bytes_before_loading": before,
        "peak_bytes_after_loading": loaded_peak,
        "peak_bytes": peak_bytes(),
    }
    if torch.device(options.device).type == "cuda":
        results["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
