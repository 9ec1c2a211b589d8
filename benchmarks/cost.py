"""What duration and batch cost: seconds a step, seconds of decoding, peak of memory, and a plot.

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

from .measuring import parse, parser, peak_bytes, report
from .models import prompts, random_model


def main(arguments: list[str] | None = None) -> None:
    """The command."""
    command = parser(__doc__, plain=False)
    command.add_argument("--durations", type=float, nargs="+", default=[11, 22, 33, 44, 66, 88])
    command.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4])
    command.add_argument("--plot", type=Path, metavar="FILE", help="a .png; needs matplotlib")
    options = parse(command, arguments)

    model = random_model(options.model, options.precision, options.device)
    _run(model, options, 0.0, 1)  # so that nothing is done for the first time below
    by_duration = [_run(model, options, seconds, 1) for seconds in sorted(options.durations)]
    by_batch = [_run(model, options, 0.0, batch) for batch in sorted(options.batches)]
    results = {"by_duration": by_duration, "by_batch": by_batch}
    whole = report("cost", options, results)
    if options.plot:
        _plot(whole, options.plot)


def _run(model: AudioXModel, options: argparse.Namespace, seconds: float, batch: int) -> dict[str, Any]:
    ratio, native = model.config.autoencoder.downsampling_ratio, model.config.latent_count
    latents = native
    if seconds > model.native_seconds:
        latents = -(-round(seconds * model.sample_rate) // ratio)
    ends: list[float] = []

    def note(info: StepInfo) -> None:
        ends.append(time.perf_counter())

    generate_diffusion_cond(
        model,
        steps=1 + min(3, options.repeats),
        conditioning=[prompts(model, "text")],
        sample_size=latents * ratio,
        batch_size=batch,
        seed=1,
        device=options.device,
        callback=note,
    )
    decode = time.perf_counter() - ends[-1]
    steps = sorted(later - earlier for earlier, later in pairwise(ends))
    return {
        "duration": latents * ratio / model.sample_rate,
        "batch": batch,
        "windows": len(plan_windows(latents, native).starts),
        "step_seconds": steps[len(steps) // 2],
        "step_seconds_per_window": steps[len(steps) // 2] / len(plan_windows(latents, native).starts),
        "decode_seconds": decode,
        "output_bytes": 8 * batch * latents * ratio,
        "peak_bytes_so_far": peak_bytes(),
    }


def _plot(whole: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for panel, rows, axis, label in (
        (panels[0], whole["by_duration"], "duration", "seconds of sound"),
        (panels[1], whole["by_batch"], "batch", "sounds at once"),
    ):
        for what in ("step", "decode"):
            times = [row[f"{what}_seconds"] for row in rows]
            panel.plot([row[axis] for row in rows], times, marker="o", label=what)
        panel.set(xlabel=label, ylabel="seconds", xlim=(0, None), ylim=(0, None))
        panel.legend()
    figure.suptitle(
        f"{whole['settings']['model']}, {whole['settings']['precision']}, {whole['settings']['device']}"
    )
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
