"""Measure the sampler's shortcuts, their speed and their error: `python -m tools.shortcuts FOLDER`.

Generates one sound exactly, and then with each shortcut and the same seed. Prints the number of skipped
passes, the time and the relative L2 difference of the latents. The results mean something for a trained
model; with random weights (`--random maf`) they only show that the shortcuts work.
"""

from __future__ import annotations

import argparse
import logging
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.pipeline.generate import generate_diffusion_cond
from tools.random_checkpoint import write_tiny_checkpoint

SHORTCUTS: tuple[dict[str, Any], ...] = (
    *({"reuse_threshold": threshold} for threshold in (0.02, 0.05, 0.1, 0.2, 0.3)),
    *({"guidance_start": start, "guidance_end": end} for start, end in ((0.0, 0.8), (0.2, 0.8), (0.2, 1.0))),
)


class PassCounter(logging.Handler):
    """Reads the number of skipped passes from the engine's log."""

    def __init__(self) -> None:
        """Start without a message."""
        super().__init__()
        self.summary = ""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the message if it is about skipped passes.

        Args:
            record: the message.
        """
        match = re.match(r"\d+ of \d+ passes", record.getMessage())
        self.summary = match[0] if match else self.summary


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", nargs="?", type=Path, help="a model's folder")
    parser.add_argument("--random", choices=("base", "maf", "mmdit"), help="use a tiny random model instead")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sampler", default="dpmpp-3m-sde")
    parser.add_argument("--prompt", default="rain on a tin roof")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if (options.folder is None) == (options.random is None):
        parser.error("Give either a model folder or --random.")
    counter = PassCounter()
    logging.getLogger("audiox_ext.sampling.windows").setLevel(logging.INFO)
    logging.getLogger("audiox_ext.sampling.windows").addHandler(counter)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or write_tiny_checkpoint(Path(scratch) / "model", options.random)
        model, _ = get_pretrained_model(folder, device=options.device)
    exact, seconds = _generate(model, options, {})
    print(f"exact: {seconds:.2f} s")
    for shortcut in SHORTCUTS:
        counter.summary = ""
        latents, seconds = _generate(model, options, shortcut)
        error = float((latents - exact).norm() / exact.norm())
        name = ", ".join(f"{name} {value}" for name, value in shortcut.items())
        print(f"{name}: {counter.summary or '-'}, {seconds:.2f} s, difference {error:.1e}")


def _generate(model: Any, options: argparse.Namespace, shortcut: dict[str, Any]) -> tuple[Tensor, float]:
    """Generate latents (B, C, L); return them and the time in seconds."""
    start = time.perf_counter()
    latents = generate_diffusion_cond(
        model,
        steps=options.steps,
        sampler_type=options.sampler,
        conditioning={"text_prompt": options.prompt},
        seed=1,
        device=options.device,
        return_latents=True,
        **shortcut,
    )
    return latents, time.perf_counter() - start


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
