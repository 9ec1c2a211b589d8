"""What the sampler's shortcuts leave out and how far they lead astray: `python -m tools.shortcuts FOLDER`.

Makes one sound exactly and then with each shortcut, with the same seed; prints the passes that were left out,
the time and the relative L2 difference of the latents. A folder with a trained model tells what to expect of
it; one with random weights (`--random maf` writes one) only that everything works.
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
    *({"guidance_interval": interval} for interval in ((0.0, 0.8), (0.2, 0.8), (0.2, 1.0))),
)


class Reused(logging.Handler):
    """Hears what the engine says about passes that were left out."""

    def __init__(self) -> None:
        super().__init__()
        self.said = ""

    def emit(self, record: logging.LogRecord) -> None:
        found = re.match(r"\d+ of \d+ passes", record.getMessage())
        self.said = found[0] if found else self.said


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("folder", nargs="?", type=Path, help="a model's folder")
    parser.add_argument("--random", choices=("base", "maf", "mmdit"), help="a tiny model in its place")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--sampler", default="dpmpp-3m-sde")
    parser.add_argument("--prompt", default="rain on a tin roof")
    parser.add_argument("--device", default="cuda")
    options = parser.parse_args()
    if (options.folder is None) == (options.random is None):
        parser.error("give a folder or --random")
    heard = Reused()
    logging.getLogger("audiox_ext.sampling.windows").setLevel(logging.INFO)
    logging.getLogger("audiox_ext.sampling.windows").addHandler(heard)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or write_tiny_checkpoint(Path(scratch) / "model", options.random)
        model, _ = get_pretrained_model(folder, device=options.device)
    exact, seconds = _make(model, options, {})
    print(f"exact: {seconds:.2f} s")
    for shortcut in SHORTCUTS:
        heard.said = ""
        made, seconds = _make(model, options, shortcut)
        error = float((made - exact).norm() / exact.norm())
        ((name, value),) = shortcut.items()
        print(f"{name} {value}: {heard.said or '-'}, {seconds:.2f} s, difference {error:.1e}")


def _make(model: Any, options: argparse.Namespace, shortcut: dict[str, Any]) -> tuple[Tensor, float]:
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
