"""The commands `train lora` and `train finetune`, which train a model on a user's own sounds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import add_command, add_consent, add_device, model_folders
from .threads import add_threads, limited_threads

if TYPE_CHECKING:
    import torch

    from ..training.finetune import TrainingRequest
    from .common import Commands


def add_train(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `train`."""
    summary = "Train a model on your own sounds, or resume an interrupted training."
    command = commands.add_parser("train", help=summary, description=summary)
    methods = command.add_subparsers(dest="part", required=True, metavar="METHOD", title="methods")
    _add_lora(methods, common)
    _add_finetune(methods, common)


def _add_lora(methods: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `train lora`."""
    summary = "Train a LoRA: a small file that adds your sounds to a model."
    command = add_command(methods, "lora", common, summary, _train_lora)
    _add_request(command)
    command.add_argument("--name", help="name of the LoRA's file (default: the output folder's)")
    command.add_argument(
        "--rank", type=int, default=16, metavar="N", help="rank of the matrices, 1 or more (default: 16)"
    )
    command.add_argument(
        "--alpha", type=float, metavar="N", help="the LoRA is scaled by alpha / rank (default: the rank)"
    )
    command.add_argument(
        "--targets",
        metavar="A,B",
        help="layers to train: ends of their names, or regular expressions (default: all in the blocks)",
    )
    command.add_argument(
        "--dropout",
        type=float,
        default=0.0,
        metavar="FRACTION",
        help="fraction of the LoRA's inputs that are left out in training, 0 to below 1 (default: 0)",
    )
    _add_settings(command, learning_rate=5e-4)


def _add_finetune(methods: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `train finetune`."""
    summary = "Train all weights of a model's network; the result is a new model."
    command = add_command(methods, "finetune", common, summary, _finetune)
    _add_request(command)
    command.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        help="type of the network's weights in the new model's file (default: as in the original)",
    )
    _add_settings(command, learning_rate=5e-5)


def _add_request(command: argparse.ArgumentParser) -> None:
    """Add the model, the folders and the device."""
    command.add_argument("model", help="the name of a model, or its folder")
    command.add_argument(
        "dataset",
        type=Path,
        help="folder of sounds or videos, each with a caption in a .txt of the same name",
    )
    command.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of the result and of checkpoints",
    )
    command.add_argument(
        "--caption", default="", metavar="TEXT", help="caption of every sound without one (default: none)"
    )
    command.add_argument(
        "--preserve",
        dest="preservation_dataset",
        type=Path,
        metavar="FOLDER",
        help="folder of sounds that the model should still make as before (default: none)",
    )
    add_consent(command)
    add_device(command)
    add_threads(command)


def _add_settings(command: argparse.ArgumentParser, *, learning_rate: float) -> None:
    """Add the settings that both methods have."""

    def number(name: str, kind: type[float], default: float, text: str) -> None:
        """Add an option for a number."""
        command.add_argument(
            f"--{name}", type=kind, default=default, metavar="N", help=f"{text} (default: {default:g})"
        )

    number("steps", int, 1000, "optimizer steps")
    number("batch-size", int, 4, "sounds per step")
    number("learning-rate", float, learning_rate, "highest learning rate")
    number("warmup-steps", int, 50, "steps over which the learning rate rises")
    number("ema-decay", float, 0.99, "decay of the averaged weights, which are the result; 0: no averaging")
    number("held-out-fraction", float, 0.1, "fraction of the files for validation")
    number("validate-every", int, 100, "steps between validations")
    number("patience", int, 5, "validations without a lower loss before training stops; 0: never stop early")
    number("checkpoint-every", int, 100, "steps between checkpoints")
    number("preview-every", int, 250, "steps between preview sounds; 0: none")
    number("preview-steps", int, 50, "sampling steps of a preview sound")
    number("min-seconds", float, 0.5, "shortest file that is used, in seconds")
    number("context-dropout", float, 0.1, "fraction of sounds trained without a prompt, which guidance needs")
    number("preservation-fraction", float, 0.25, "fraction of a batch from --preserve")
    number("seed", int, 0, "seed of all random numbers")
    command.add_argument(
        "--preview-prompt",
        default="",
        metavar="TEXT",
        help="prompt of the preview sounds (default: the first caption)",
    )
    command.add_argument(
        "--precision",
        choices=("auto", "32", "bf16"),
        default="auto",
        help="arithmetic of the training (default: auto, which is bf16 on GPUs that support it)",
    )
    command.add_argument(
        "--gradient-checkpointing", action="store_true", help="use less memory and a third more time"
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


def _settings(options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Return the settings that both methods have."""
    from ..training.trainer import choose_precision

    values = {name: getattr(options, name) for name in _SETTINGS}
    precision = choose_precision(device) if options.precision == "auto" else options.precision
    return {**values, "precision": precision}


def _request(options: argparse.Namespace, device: torch.device) -> TrainingRequest:
    """Return what is trained, on which sounds, and where."""
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
    """Train a LoRA."""
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
    with limited_threads(options, settings.batch_size):
        train_lora(_request(options, device), settings, path=path, report=_report)


def _finetune(options: argparse.Namespace) -> None:
    """Train all weights of the network."""
    import torch

    from ..devices import resolve_device
    from ..training.finetune import finetune
    from ..training.settings import FinetuneSettings

    device = resolve_device(options.device)
    settings = FinetuneSettings(**_settings(options, device))
    dtype = None if options.dtype is None else getattr(torch, options.dtype)
    with limited_threads(options, settings.batch_size):
        finetune(_request(options, device), settings, dtype=dtype, report=_report)


def _report(line: str) -> None:
    """Print a line of progress."""
    print(line, flush=True)
