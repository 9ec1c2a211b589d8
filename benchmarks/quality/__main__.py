"""Measure how well a model's sounds match held-out prompts and videos, as a Markdown table.

    python -m benchmarks.quality audiox-pocket --preset balanced
    python -m benchmarks.quality path/to/model --steps 25 --sampler dpmpp-2m --items 12 --json quality.json

Two baselines stand beside the model: the held-out sounds themselves, the best possible score, and the same
architecture with random weights. `docs/quality.md` explains the measures.
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
from audiox_ext.pipeline.settings import PRESETS
from audiox_ext.sampling.schedules import SCHEDULE_NAMES

from ..measuring import add_device_options, add_license_option, settings_of, write_text
from .evaluation import evaluate, evaluate_data, reference_of
from .items import add_item_options, held_out_items, varied_items
from .report import QualityReport, format_table
from .sounds import Prompts, Sampling, build_untrained

# Random weights give the same noise after few steps as after many.
UNTRAINED = Sampling(steps=4, cfg_scale=1.0)
_DIVERSITY_PROMPTS, _TAKES = 4, 4  # prompts for the diversity, and sounds per prompt


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        reports = _measure(options)
    except AudioXError as error:
        print(error, file=sys.stderr)
        return 1
    print(format_table(reports))
    if options.json:
        write_text(options.json, json.dumps(_as_json(options, reports), indent=1) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quality", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("model", help="a name such as audiox-pocket, or a folder")
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), help="sampling preset (default: the model's own settings)"
    )
    parser.add_argument("--steps", type=int, help="sampling steps")
    parser.add_argument("--sampler", choices=SAMPLER_NAMES, help="sampler")
    parser.add_argument("--schedule", choices=SCHEDULE_NAMES, help="noise schedule")
    parser.add_argument("--cfg", type=float, help="guidance scale")
    parser.add_argument(
        "--guidance",
        type=float,
        nargs=2,
        metavar=("START", "END"),
        help="fractions of the steps between which guidance applies (default 0 1)",
    )
    parser.add_argument("--reuse-threshold", type=float, help="threshold of block reuse (default 0: off)")
    add_item_options(parser, items=12)
    parser.add_argument("--seed", type=int, default=0, help="seed of the sounds; the items stay the same")
    parser.add_argument("--no-diversity", action="store_true", help="do not measure the diversity")
    parser.add_argument("--no-baselines", action="store_true", help="measure the model alone")
    parser.add_argument(
        "--autoencoder", action="store_true", help="also measure the data after the model's autoencoder"
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="precision of the network (default fp32)",
    )
    parser.add_argument("--batch", type=int, default=8, help="sounds per batch (default 8)")
    add_device_options(parser)
    add_license_option(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report here, as JSON")
    return parser


def sampling_of(options: argparse.Namespace) -> Sampling:
    """Combine the preset with the settings that are given individually.

    Args:
        options: Options of the command.

    Returns:
        The sampling settings.
    """
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
    """Measure the model and its baselines; reports by name."""
    if options.items < 1 or options.batch < 1:
        raise InputError(
            f"--items is {options.items} and --batch is {options.batch}, but both must be at least 1."
        )
    model, _ = get_pretrained_model(
        options.model,
        accept_cc_by_nc=options.accept_cc_by_nc,
        precision=options.precision,
        device=options.device,
        download=False,
    )
    seconds = model.conditioning_seconds
    items = held_out_items(options.items, seconds=seconds, groups=options.groups)
    varied = [] if options.no_diversity else varied_items(_DIVERSITY_PROMPTS, _TAKES, seconds=seconds)
    reference = reference_of(model, items)
    shared: dict[str, Any] = {"reference": reference, "varied": varied}
    generation: dict[str, Any] = {**shared, "seed": options.seed, "batch": options.batch}
    sampling, prompts = sampling_of(options), Prompts.of(model, items)
    reports = {Path(options.model).name: evaluate(model, prompts, sampling, **generation)}
    if options.autoencoder:
        reports["data, coded"] = evaluate_data(model, items, through_codec=True, **shared)
    if not options.no_baselines:
        reports["data"] = evaluate_data(model, items, **shared)
        with tempfile.TemporaryDirectory(prefix="audiox-quality-") as folder:
            noise = build_untrained(model, Path(folder))
            reports["untrained"] = evaluate(noise, prompts, UNTRAINED, **generation)
    return reports


def _as_json(options: argparse.Namespace, reports: dict[str, QualityReport]) -> dict[str, Any]:
    """The reports with the options that produced them."""
    return {
        "benchmark": "quality",
        "settings": settings_of(options),
        "reports": {name: report.as_dict() for name, report in reports.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
