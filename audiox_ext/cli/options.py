"""The options of the command line that become `GenerationSettings`."""

from __future__ import annotations

import argparse
from typing import Any


def add_sampling_options(command: argparse.ArgumentParser) -> None:
    """Add the options for sampling."""
    numbers: tuple[tuple[str, type[float], str], ...] = (
        ("steps", int, "sampling steps: more take longer and sound cleaner"),
        ("cfg", float, "how closely to follow the prompt, 1 or more"),
        ("sigma-min", float, "lowest noise level"),
        ("sigma-max", float, "highest noise level"),
    )
    for name, kind, purpose in numbers:
        text = f"{purpose} (default: the model's own)"
        command.add_argument(f"--{name}", type=kind, default=0, metavar="N", help=text)
    command.add_argument("--sampler", default="", help="sampler (default: the model's own)")
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
        "--guidance-start",
        type=float,
        default=0.0,
        help="apply guidance only after this fraction of the steps, 0 to 1 (default 0)",
    )
    command.add_argument(
        "--guidance-end",
        type=float,
        default=1.0,
        help="apply guidance only up to this fraction of the steps, 0 to 1 (default 1)",
    )
    command.add_argument(
        "--guidance-rescale",
        type=float,
        default=0.0,
        help="take back the loudness that guidance adds, 0 (off, default) to 1",
    )
    command.add_argument(
        "--reuse-threshold",
        type=float,
        default=0.0,
        help="skip most of the network in steps that change less than this, 0 (off, default) to 1",
    )
    command.add_argument("--seed", type=int, default=0, help="equal seeds give equal sound (default 0)")
    command.add_argument(
        "--batch",
        type=int,
        default=1,
        help="how many variations to make, with the seeds seed, seed + 1 and so on; files are numbered",
    )


def add_window_options(command: argparse.ArgumentParser) -> None:
    """Add the options for long sounds and the audio prompt."""
    command.add_argument(
        "--full-audio-prompt",
        dest="audio_prompt_masking",
        action="store_false",
        help="use all of the audio prompt, even if the model was trained with a random part of it",
    )
    command.add_argument(
        "--window-overlap",
        type=float,
        default=0.0,
        help="seconds by which windows of a long sound overlap; default a quarter of the model's own length",
    )
    command.add_argument(
        "--window-batch",
        type=int,
        default=0,
        help="windows of a long sound in one pass of the network; default 4, fewer need less memory",
    )


_OPEN = (
    "steps",
    "cfg",
    "sampler",
    "schedule",
    "sigma_min",
    "sigma_max",
    "preset",
    "window_overlap",
    "window_batch",
)
_CLOSED = (
    "seed",
    "batch",
    "audio_prompt_masking",
    "guidance_start",
    "guidance_end",
    "guidance_rescale",
    "reuse_threshold",
)


def settings_from(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of `GenerationSettings` that these options set. 0 and "" become None."""
    settings: dict[str, Any] = {name: getattr(options, name) or None for name in _OPEN}
    return settings | {name: getattr(options, name) for name in _CLOSED}
