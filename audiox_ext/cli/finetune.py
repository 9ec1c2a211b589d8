"""The commands `train lora` and `train finetune`: a model is trained further on a user's own sounds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import add_device, model_folders

if TYPE_CHECKING:
    from ..training.finetune import TrainingRequest


def add_train(commands: Any, common: argparse.ArgumentParser) -> None:
    """The command `train`."""
    command = commands.add_parser("train", help="train a model on your own sounds, or resume its training")
    parts = command.add_subparsers(dest="part", required=True)
    add_lora(parts, common)
    add_finetune(parts, common)


def add_lora(parts: Any, common: argparse.ArgumentParser) -> None:
    """The command `train lora`."""
    command = parts.add_parser(
        "lora", parents=[common], help="teach a model your own sounds: a small file beside its weights"
    )
    command.set_defaults(run=_train_lora)
    _add_request(command)
    command.add_argument("--name", help="of the LoRA's file (default: the output folder's)")
    command.add_argument("--rank", type=int, default=16, help="of its matrices (default 16)")
    command.add_argument("--alpha", type=float, help="their scale is alpha / rank (default: the rank)")
    command.add_argument(
        "--targets",
        metavar="A,B",
        help="layers: ends of their names, or regular expressions (default: all in the blocks)",
    )
    command.add_argument("--dropout", type=float, default=0.0, metavar="SHARE", help="default 0")
    _add_settings(command, learning_rate=5e-4)


def add_finetune(parts: Any, common: argparse.ArgumentParser) -> None:
    """The command `train finetune`."""
    command = parts.add_parser(
        "finetune", parents=[common], help="train all of a model's network on your own sounds"
    )
    command.set_defaults(run=_finetune)
    _add_request(command)
    command.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="of the network's weights in the model's file (default: as in the model it comes from)",
    )
    _add_settings(command, learning_rate=5e-5)


def _add_request(command: argparse.ArgumentParser) -> None:
    command.add_argument("model", help="a model's name, or its folder")
    command.add_argument(
        "dataset", type=Path, help="folder of sounds or videos, captions beside them as .txt"
    )
    command.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="for all that is written"
    )
    command.add_argument("--caption", default="", metavar="TEXT", help="of every sound that has none")
    command.add_argument(
        "--preserve",
        "--keep",
        dest="preservation_dataset",
        type=Path,
        metavar="FOLDER",
        help="folder of sounds that the model should still make as before",
    )
    command.add_argument("--accept-cc-by-nc", action="store_true", help="for weights under CC-BY-NC")
    add_device(command)


def _add_settings(command: argparse.ArgumentParser, *, learning_rate: float) -> None:
    def number(name: str, kind: Any, default: Any, text: str, other: str | None = None) -> None:
        names = [f"--{name}"] + ([f"--{other}"] if other else [])
        command.add_argument(
            *names, type=kind, default=default, metavar="N", help=f"{text} (default {default:g})"
        )

    number("steps", int, 1000, "steps of the optimiser")
    number("batch-size", int, 4, "sounds in a step")
    number("learning-rate", float, learning_rate, "largest, after a short rise; then it falls")
    number("warmup-steps", int, 50, "of that rise")
    number("ema-decay", float, 0.99, "of the averaged weights, which are the result; 0 for the last ones")
    number("held-out-fraction", float, 0.1, "fraction of the files for validation", "held-out")
    number("validate-every", int, 100, "steps from one validation to the next")
    number("patience", int, 5, "validations without a better loss after which it ends; 0: never")
    number("checkpoint-every", int, 100, "steps from one checkpoint to the next")
    number("preview-every", int, 250, "steps between preview sounds; 0 makes none", "sound-every")
    number("preview-steps", int, 50, "sampling steps of a preview sound", "sound-steps")
    number("min-seconds", float, 0.5, "shortest file that is used, in seconds", "shortest")
    number("context-dropout", float, 0.1, "share of sounds trained without a prompt, for guidance")
    number(
        "preservation-fraction", float, 0.25, "fraction of a batch for the sounds of --preserve", "keep-share"
    )
    number("seed", int, 0, "of all random numbers")
    command.add_argument(
        "--preview-prompt",
        "--sound-prompt",
        default="",
        metavar="TEXT",
        help="prompt of the preview sounds (default: the first caption)",
    )
    command.add_argument(
        "--precision", choices=("auto", "32", "bf16"), default="auto", help="auto: bf16 on a GPU that has it"
    )
    command.add_argument(
        "--gradient-checkpointing", action="store_true", help="less memory, a third more time"
    )


_SETTINGS = (
    "steps",
    "batch_size",
    "learning_rate",
    "warmup_steps",
    "ema_decay",
    "held_out_fraction",
    "validate_every",
    "patience",
    "checkpoint_every",
    "preview_every",
    "preview_steps",
    "preview_prompt",
    "min_seconds",
    "context_dropout",
    "preservation_fraction",
    "seed",
    "gradient_checkpointing",
)


def _settings(options: argparse.Namespace, device: Any) -> dict[str, Any]:
    from ..training.finetune import choose_precision

    values = {name: getattr(options, name) for name in _SETTINGS}
    precision = choose_precision(device) if options.precision == "auto" else options.precision
    return {**values, "precision": precision}


def _request(options: argparse.Namespace, device: Any) -> TrainingRequest:
    from ..training.finetune import TrainingRequest

    return TrainingRequest(
        model=options.model,
        dataset=options.dataset,
        output=options.output,
        preservation_dataset=options.preservation_dataset,
        default_caption=options.caption,
        accept_cc_by_nc=options.accept_cc_by_nc,
        folders=model_folders(options),
        device=device,
    )


def _train_lora(options: argparse.Namespace) -> None:
    from ..devices import resolve_device
    from ..training.finetune import train_lora
    from ..training.settings import LoraSettings

    device = resolve_device(options.device)
    targets = tuple(name.strip() for name in (options.targets or "").split(",") if name.strip())
    settings = LoraSettings(
        rank=options.rank,
        alpha=options.alpha,
        targets=targets,
        dropout=options.dropout,
        **_settings(options, device),
    )
    name = options.name or options.output.resolve().name
    path = options.output / f"{name.removesuffix('.safetensors')}.safetensors"
    train_lora(_request(options, device), settings, path=path, report=_report)


def _finetune(options: argparse.Namespace) -> None:
    import torch

    from ..devices import resolve_device
    from ..training.finetune import finetune
    from ..training.settings import FinetuneSettings

    device = resolve_device(options.device)
    settings = FinetuneSettings(**_settings(options, device))
    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    finetune(_request(options, device), settings, dtype=dtype, report=_report)


def _report(line: str) -> None:
    print(line, flush=True)
