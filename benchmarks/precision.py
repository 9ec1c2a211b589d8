"""How far half precision is from float32 after a whole run: `python -m benchmarks.precision`.

The golden checkpoints, small models of every kind, make the latents of one prompt with equal seeds in each
precision of the network. Printed are the relative L2 distances from float32, sampler by sampler.
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
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias)


class _CastingConv1d(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight.to(x.dtype), self.bias)


class CastingOperations(PlainOperations):
    """Layers that cast their weights as ComfyUI's do."""

    Linear = _CastingLinear
    Conv1d = _CastingConv1d


def main() -> None:
    """Measure and print a table, or with --json the same for programs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description=__doc__)
    parser.add_argument("--steps", type=int, default=50, help="of the multi-step models (default 50)")
    parser.add_argument("--seeds", type=int, default=3, help="runs that the mean is taken of (default 3)")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    options = parser.parse_args()
    rows = [row for kind in KINDS for row in measure(kind, options.steps, options.seeds)]
    print(json.dumps(rows, indent=1) if options.json else table(rows))


def measure(kind: str, steps: int, seeds: int) -> list[dict[str, Any]]:
    """A row for each sampler of a golden model: its distances by precision."""
    models = {precision: _load(kind, precision) for precision in ("fp32", *PRECISIONS)}
    few = models["fp32"].config.few_step_count
    rows = []
    for sampler in (None,) if few else SAMPLER_NAMES:
        row: dict[str, Any] = {"model": kind, "sampler": sampler or "few steps", "steps": few or steps}
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
    settings: dict[str, Any] = {"precision": precision}
    if precision == "fp8":
        settings = {"operations": CastingOperations, "rest_operations": PlainOperations}
        settings |= {"dtype": torch.bfloat16, "block_dtype": torch.float8_e4m3fn}
    return get_pretrained_model(GOLDEN / kind, accept_cc_by_nc=True, **settings)[0]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table in Markdown."""
    lines = [
        f"| model | sampler | steps | {' | '.join(PRECISIONS)} |",
        "|---|---|---|" + "---|" * len(PRECISIONS),
    ]
    for row in rows:
        figures = " | ".join(f"{row[precision]:.1e}" for precision in PRECISIONS)
        lines.append(f"| {row['model']} | {row['sampler']} | {row['steps']} | {figures} |")
    return "\n".join(lines)


def _latents(model: Any, sampler: str | None, steps: int, seed: int) -> Tensor:
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
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))


if __name__ == "__main__":
    main()
