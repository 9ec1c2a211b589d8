"""Measure how far half precision deviates from float32 over whole runs: `python -m benchmarks.precision`.

The golden checkpoints, one small model per kind, generate latents of one prompt with the same seeds in each
precision. The table shows relative L2 distances from float32 per sampler.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.model import AudioXModel
from audiox_ext.networks.operations import Linear, PlainOperations
from audiox_ext.pipeline.generate import generate_diffusion_cond

GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
KINDS = ("base", "maf", "mmdit", "turbo")
PRECISIONS: tuple[Any, ...] = ("bf16", "fp16", "fp8")


class _CastingLinear(Linear):
    """Linear layer that casts its weights to the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias)


class _CastingConv1d(nn.Conv1d):
    """Convolution that casts its weights to the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias)


class CastingOperations(PlainOperations):
    """Layers that cast their weights at each use, as ComfyUI's layers do."""

    Linear = _CastingLinear
    Conv1d = _CastingConv1d


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--steps", type=int, default=50, help="steps of multi-step models (default 50)")
    parser.add_argument("--seeds", type=int, default=3, help="runs to average over (default 3)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    rows = [row for kind in KINDS for row in measure(kind, options.steps, options.seeds)]
    print(json.dumps(rows, indent=1) if options.json else table(rows))


def measure(kind: str, steps: int, seeds: int) -> list[dict[str, Any]]:
    """Measure a golden model with each of its samplers.

    Args:
        kind: One of `KINDS`.
        steps: Sampling steps of a multi-step model.
        seeds: Number of runs to average over.

    Returns:
        One row per sampler: its settings, and its relative L2 distance from float32 by precision.
    """
    models = {precision: _load(kind, precision) for precision in ("fp32", *PRECISIONS)}
    few_steps = models["fp32"].config.few_step_count
    rows = []
    for sampler in (None,) if few_steps else SAMPLER_NAMES:
        row: dict[str, Any] = {"model": kind, "sampler": sampler or "few steps", "steps": few_steps or steps}
        runs = {
            name: [_latents(m, sampler, row["steps"], s) for s in range(seeds)] for name, m in models.items()
        }
        for precision in PRECISIONS:
            pairs = zip(runs[precision], runs["fp32"], strict=True)
            row[precision] = sum(_distance(a, b) for a, b in pairs) / seeds
        rows.append(row)
        print(".", end="", file=sys.stderr, flush=True)
    return rows


def _load(kind: str, precision: Any) -> AudioXModel:
    """A golden model in a precision."""
    settings: dict[str, Any] = {"precision": precision}
    if precision == "fp8":
        settings = {"operations": CastingOperations, "rest_operations": PlainOperations}
        settings |= {"dtype": torch.bfloat16, "block_dtype": torch.float8_e4m3fn}
    return get_pretrained_model(GOLDEN / kind, accept_cc_by_nc=True, **settings)[0]


def table(rows: list[dict[str, Any]]) -> str:
    """Format rows as a Markdown table.

    Args:
        rows: Rows of `measure`.

    Returns:
        The table.
    """
    lines = [
        f"| model | sampler | steps | {' | '.join(PRECISIONS)} |",
        "|---|---|---|" + "---|" * len(PRECISIONS),
    ]
    for row in rows:
        figures = " | ".join(f"{row[precision]:.1e}" for precision in PRECISIONS)
        lines.append(f"| {row['model']} | {row['sampler']} | {row['steps']} | {figures} |")
    return "\n".join(lines)


def _latents(model: Any, sampler: str | None, steps: int, seed: int) -> Tensor:
    """Latents of one run."""
    settings: dict[str, Any] = {} if sampler is None else {"sampler_type": sampler}
    return generate_diffusion_cond(
        model,
        steps=steps,
        conditioning={"text_prompt": "rain on a tin roof"},
        seed=seed,
        device="cpu",
        return_latents=True,
        **settings,
    )


def _distance(a: Tensor, b: Tensor) -> float:
    """Relative L2 distance of a from b."""
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


if __name__ == "__main__":
    main()
