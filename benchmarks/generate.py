"""Measure time and peak memory of a whole generation, from the model files to the waveform.

    python -m benchmarks.generate --steps 4
    python -m benchmarks.generate --model AudioX-Turbo --precision bf16

The generation runs in a separate process. The model files have the published layout and random weights, 6 to
11 GB in float32. They lie in a temporary folder unless --weights names a folder to keep and reuse.
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

from .measuring import (
    PROMPT_KINDS,
    add_seconds_option,
    common_parser,
    parse_options,
    peak_bytes,
    print_report,
)
from .models import random_prompt


def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.
    """
    parser = common_parser(__doc__, plain=False)
    parser.add_argument("--steps", type=int, help="sampling steps (default: the model's own)")
    add_seconds_option(parser)
    parser.add_argument("--prompts", default="text", choices=PROMPT_KINDS, help="text alone, or all kinds")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="keep the model files here")
    parser.add_argument(
        "--offload", action="store_true", help="keep each part on the device only while it is used"
    )
    parser.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    options = parse_options(parser, arguments)
    if options.inner:
        _generate(options)
        return
    with tempfile.TemporaryDirectory(prefix="audiox-benchmark-") as temporary:
        folder = (options.weights or Path(temporary)) / options.model
        if not folder.is_dir():
            script = "import sys; from pathlib import Path; from benchmarks.models import random_folder; "
            script += "random_folder(Path(sys.argv[1]), sys.argv[2])"
            subprocess.run([sys.executable, "-c", script, str(folder), options.model], check=True)
        # argparse uses the last of two equal options, so these come after the user's.
        own_options = ["--inner", "--weights", str(folder)]
        user_options = sys.argv[1:] if arguments is None else arguments
        command = [sys.executable, "-m", "benchmarks.generate", *user_options, *own_options]
        process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    print_report("generate", options, json.loads(process.stdout))


def _generate(options: argparse.Namespace) -> None:
    """Load, generate and print the measurements as JSON."""
    from audiox_ext.checkpoints.pretrained import get_pretrained_model
    from audiox_ext.pipeline.generate import generate_diffusion_cond
    from audiox_ext.sampling.denoiser import StepInfo

    initial_peak = peak_bytes()
    start = time.perf_counter()
    model, _ = get_pretrained_model(
        options.weights,
        accept_cc_by_nc=True,
        precision=options.precision,
        device=options.device,
        offload=options.offload,
        compile=options.compile,
    )
    load_end, load_peak = time.perf_counter(), peak_bytes()
    step_ends: list[float] = []

    def on_step(info: StepInfo) -> None:
        if torch.device(options.device).type == "cuda":
            torch.cuda.synchronize()
        step_ends.append(time.perf_counter())

    ratio = model.config.autoencoder.downsampling_ratio
    sample_size = -(-round(options.seconds * model.sample_rate) // ratio) * ratio if options.seconds else None
    waveform = generate_diffusion_cond(
        model,
        steps=options.steps,
        conditioning=[random_prompt(model, options.prompts)],
        sample_size=sample_size,
        seed=1,
        device=options.device,
        callback=on_step,
    )
    end = time.perf_counter()
    step_times = [later - earlier for earlier, later in pairwise(step_ends)]
    results = {
        "load_seconds": load_end - start,
        "conditioning_and_first_step_seconds": step_ends[0] - load_end,
        "mean_step_seconds": sum(step_times) / len(step_times) if step_times else None,
        "decode_seconds": end - step_ends[-1],
        "prompt_to_waveform_seconds": end - load_end,
        "steps": len(step_ends),
        "samples": waveform.shape[-1],
        "finite": bool(torch.isfinite(waveform).all()),
        "peak_bytes_before_loading": initial_peak,
        "peak_bytes_after_loading": load_peak,
        "peak_bytes": peak_bytes(),
    }
    if torch.device(options.device).type == "cuda":
        results["peak_gpu_bytes"] = torch.cuda.max_memory_allocated()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
