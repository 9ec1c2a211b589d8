"""The command line's part about how a sound is sampled."""

from __future__ import annotations

import argparse
from typing import Any


def add_sampling_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `sampling_of`."""
    for name, kind in (("steps", int), ("cfg", float), ("sigma-min", float), ("sigma-max", float)):
        command.add_argument(f"--{name}", type=kind, default=0, help="default: the model's own")
    command.add_argument("--sampler", default="", help="default: the model's own")
    command.add_argument(
        "--schedule",
        default="",
        help="which noise levels are visited: polyexponential (default), karras, exponential, beta or "
        "align-your-steps",
    )
    command.add_argument(
        "--preset",
        default="",
        help="published, balanced (50 steps) or fast (25 steps), for what is left at its default",
    )
    command.add_argument(
        "--guidance-start", type=float, default=0.0, help="share of the run before which there is no guidance"
    )
    command.add_argument(
        "--guidance-end", type=float, default=1.0, help="share of the run after which there is no guidance"
    )
    command.add_argument(
        "--guidance-rescale", type=float, default=0.0, help="0 to 1: take back what guidance adds in strength"
    )
    command.add_argument(
        "--reuse-threshold",
        type=float,
        default=0.0,
        help="above 0: leave out most of the network in steps that change less than that",
    )


def sampling_of(options: argparse.Namespace) -> dict[str, Any]:
    """The fields of an `AudioRequest` that the options name."""
    return {
        "steps": options.steps,
        "cfg_scale": options.cfg,
        "sampler_type": options.sampler,
        "sigma_min": options.sigma_min,
        "sigma_max": options.sigma_max,
        "schedule": options.schedule,
        "preset": options.preset,
        "guidance_interval": (options.guidance_start, options.guidance_end),
        "guidance_rescale": options.guidance_rescale,
        "reuse_threshold": options.reuse_threshold,
    }
