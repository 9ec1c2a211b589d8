"""Measure how duration and batch size affect step time, decoding time and peak memory.

python -m benchmarks.cost --durations 11 22 44 88 --batches 1 2 4 --plot cost.png
"""

from __future__ import annotations

import argparse
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from audiox_ext.model import AudioXModel
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.denoiser import StepInfo
from audiox_ext.sampling.windows import plan_windows

from .measuring import common_parser, parse_options, peak_bytes, print_report
from .models import random_model, random_prompt


def main(arguments: list[str] | None = None) -> None:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.
    """
    parser = common_parser(__doc__, plain=False)
    parser.add_argument(
        "--durations", type=float, nargs="+", default=[11, 22, 33, 44, 66, 88], help="seconds per sound"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4], help="sounds per batch")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="write a .png plot; needs matplotlib")
    options = parse_options(parser, arguments)

    model = random_model(options.model, options.precision, options.device)
    _measure(model, options, 0.0, 1)  # warm-up
    by_duration = [_measure(model, options, duration, 1) for duration in sorted(options.durations)]
    by_batch = [_measure(model, options, 0.0, batch) for batch in sorted(options.batches)]
    results = {"by_duration": by_duration, "by_batch": by_batch}
    report = print_report("cost", options, results)
    if options.plot:
        _plot(report, options.plot)


def _measure(model: AudioXModel, options: argparse.Namespace, duration: float, batch: int) -> dict[str, Any]:
    """One row of the report; at least the model's own duration."""
    ratio, native_latents = model.config.autoencoder.downsampling_ratio, model.config.latent_count
    latents = native_latents
    if duration > model.native_seconds:
        latents = -(-round(duration * model.sample_rate) // ratio)
    step_ends: list[float] = []

    def on_step(info: StepInfo) -> None:
        step_ends.append(time.perf_counter())

    generate_diffusion_cond(
        model,
        steps=1 + min(3, options.repeats),
        conditioning=[random_prompt(model, "text")],
        sample_size=latents * ratio,
        batch_size=batch,
        seed=1,
        device=options.device,
        callback=on_step,
    )
    decode_seconds = time.perf_counter() - step_ends[-1]
    step_times = sorted(end - start for start, end in pairwise(step_ends))
    median = step_times[len(step_times) // 2]
    windows = len(plan_windows(latents, native_latents).starts)
    return {
        "duration": latents * ratio / model.sample_rate,
        "batch": batch,
        "windows": windows,
        "step_seconds": median,
        "step_seconds_per_window": median / windows,
        "decode_seconds": decode_seconds,
        "output_bytes": 8 * batch * latents * ratio,
        "peak_bytes_so_far": peak_bytes(),
    }


def _plot(report: dict[str, Any], path: Path) -> None:
    """Write a plot of step and decoding time against duration and batch size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, rows, axis, label in (
        (panels[0], report["by_duration"], "duration", "duration (s)"),
        (panels[1], report["by_batch"], "batch", "sounds per batch"),
    ):
        for phase in ("step", "decode"):
            times = [row[f"{phase}_seconds"] for row in rows]
            panel.plot([row[axis] for row in rows], times, marker="o", label=phase)
        panel.set(xlabel=label, ylabel="time (s)", xlim=(0, None), ylim=(0, None))
        panel.legend()
    settings = report["settings"]
    figure.suptitle(f"{settings['model']}, {settings['precision']}, {settings['device']}")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
