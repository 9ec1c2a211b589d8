"""How much of what is asked of a model is in its sounds, on held-out prompts and videos: a table in Markdown.

    python -m benchmarks.quality audiox-pocket --preset balanced
    python -m benchmarks.quality path/to/model --steps 25 --sampler dpmpp-2m --items 12 --json quality.json

Beside the model stand the held-out data themselves, which is what the measures can give at best, and the
same architecture with random weights. `docs/quality.md` says what the measures are.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.errors import AudioXError, InputError
from audiox_ext.pipeline.presets import PRESETS
from audiox_ext.sampling.schedules import SCHEDULE_NAMES

from .evaluation import evaluate, evaluate_data, reference_of
from .items import GROUPS, held_out_items, varied_items
from .report import QualityReport, table, write_text
from .sounds import Prompts, Sampling, untrained

# What comes of random weights is the same noise after few steps as after many.
UNTRAINED = Sampling(steps=4, cfg_scale=1.0)
_VARIED, _TAKES = 4, 4  # prompts that are made several times, and how often


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        reports = _measure(options)
    except AudioXError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(reports))
    if options.json:
        write_text(options.json, json.dumps(_as_json(options, reports), indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("model", help="a name such as audiox-pocket, or a folder")
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), help="how sounds are sampled; default the model's"
    )
    parser.add_argument("--steps", type=int)
    parser.add_argument("--sampler", choices=SAMPLER_NAMES)
    parser.add_argument("--schedule", choices=SCHEDULE_NAMES)
    parser.add_argument("--cfg", type=float, help="scale of the guidance")
    parser.add_argument(
        "--guidance", type=float, nargs=2, metavar=("START", "END"), help="its part of the run"
    )
    parser.add_argument("--reuse-threshold", type=float)
    parser.add_argument("--items", type=int, default=12, help="of each group (default 12)")
    parser.add_argument("--groups", nargs="+", choices=tuple(GROUPS), default=tuple(GROUPS), metavar="GROUP")
    parser.add_argument("--seed", type=int, default=0, help="of the sounds; the items stay the same")
    parser.add_argument("--batch", type=int, default=8, help="sounds that are made at once")
    parser.add_argument("--no-diversity", action="store_true", help="do without the sounds for equal prompts")
    parser.add_argument("--no-baselines", action="store_true", help="the model alone")
    parser.add_argument("--autoencoder", action="store_true", help="also the data through the autoencoder")
    parser.add_argument("--precision", default="fp32", choices=("auto", "fp32", "bf16", "fp16"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the processor; default what torch takes")
    parser.add_argument("--accept-cc-by-nc", action="store_true", help="as for `python -m audiox_ext`")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the report also goes here")
    return parser


def sampling_of(options: argparse.Namespace) -> Sampling:
    """The options' sampling: the preset's, with what else is named."""
    values = vars(Sampling.of_preset(options.preset)) if options.preset else {}
    named = {
        "steps": options.steps,
        "sampler_type": options.sampler,
        "schedule": options.schedule,
        "cfg_scale": options.cfg,
        "guidance_interval": tuple(options.guidance) if options.guidance else None,
        "reuse_threshold": options.reuse_threshold,
    }
    return Sampling(**{**values, **{name: value for name, value in named.items() if value is not None}})


def _measure(options: argparse.Namespace) -> dict[str, QualityReport]:
    if options.items < 1 or options.batch < 1:
        raise InputError(f"--items is {options.items} and --batch {options.batch}: give at least 1.")
    model, _ = get_pretrained_model(
        options.model,
        accept_cc_by_nc=options.accept_cc_by_nc,
        precision=options.precision,
        device=options.device,
        download=False,
    )
    seconds = model.conditioning_seconds
    items = held_out_items(options.items, seconds=seconds, groups=options.groups)
    varied = [] if options.no_diversity else varied_items(_VARIED, _TAKES, seconds=seconds)
    reference = reference_of(model, items)
    shared: dict[str, Any] = {"reference": reference, "varied": varied}
    making: dict[str, Any] = {**shared, "seed": options.seed, "batch": options.batch}
    sampling, prompts = sampling_of(options), Prompts.of(model, items)
    reports = {Path(options.model).name: evaluate(model, prompts, sampling, **making)}
    if options.autoencoder:
        reports["data, coded"] = evaluate_data(model, items, through_codec=True, **shared)
    if not options.no_baselines:
        reports["data"] = evaluate_data(model, items, **shared)
        with tempfile.TemporaryDirectory(prefix="audiox-quality-") as scratch:
            noise = untrained(model, Path(scratch))
            reports["untrained"] = evaluate(noise, prompts, UNTRAINED, **making)
    return reports


def _as_json(options: argparse.Namespace, reports: dict[str, QualityReport]) -> dict[str, Any]:
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    return {
        "benchmark": "quality",
        "settings": settings,
        "reports": {name: report.as_dict() for name, report in reports.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
