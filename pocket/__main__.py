"""Command line of the package that makes audiox-pocket: `python -m pocket dataset|train`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audiox_ext.cli.common import add_device
from audiox_ext.cli.main import run_command
from audiox_ext.files import check_folder_writable

_INITIAL_MODEL_HELP = {
    "autoencoder": "folder of a model with a waveform autoencoder, whose decoder alone is trained further",
    "diffusion": "folder of a model of the same configuration to train further",
}


def add_dataset(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command `dataset`.

    Args:
        commands: The subparsers of the parser.
        common: Options of every command.
    """
    command = commands.add_parser(
        "dataset", parents=[common], help="write synthesised sounds and videos with captions as files"
    )
    command.set_defaults(run=_dataset)
    command.add_argument("folder", type=Path, help="folder to write to; created if it does not exist")
    command.add_argument("--count", type=int, default=20, help="number of items (default 20)")
    command.add_argument("--first", type=int, default=0, help="number of the first item (default 0)")
    command.add_argument(
        "--split",
        choices=("training", "held-out"),
        default="training",
        help="split of the data (default training)",
    )
    command.add_argument(
        "--kinds", metavar="A,B", help="kinds of sound, such as bell,rain (default: all but frog)"
    )
    command.add_argument(
        "--videos",
        type=float,
        default=0.25,
        metavar="FRACTION",
        help="fraction of videos, 0 to 1 (default 0.25)",
    )
    command.add_argument("--seconds", type=float, default=10.0, help="length of each item (default 10)")
    command.add_argument("--rate", type=int, default=16000, help="sample rate in hertz (default 16000)")
    command.add_argument("--no-pictures", action="store_true", help="do not draw waveforms and spectrograms")


def add_train(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command `train`.

    Args:
        commands: The subparsers of the parser.
        common: Options of every command.
    """
    command = commands.add_parser("train", help="train a model, or resume its training")
    parts = command.add_subparsers(dest="part", required=True)
    for name, what in (("autoencoder", "step 1"), ("sync", "step 2"), ("diffusion", "step 3")):
        part = parts.add_parser(
            name, parents=[common], help=f"{what}: train the {name} from scratch on synthesised data"
        )
        part.set_defaults(run=_train)
        part.add_argument("config", type=Path, help="training file (JSON), such as pocket/config.json")
        part.add_argument(
            "--output",
            type=Path,
            required=True,
            metavar="FOLDER",
            help="training folder, the same for all parts",
        )
        part.add_argument(
            "--dtype",
            choices=("float16", "float32"),
            default="float16",
            help="type of the written weights (default float16)",
        )
        if name in _INITIAL_MODEL_HELP:
            part.add_argument("--initial-model", type=Path, metavar="MODEL", help=_INITIAL_MODEL_HELP[name])
        if name == "diffusion":
            part.add_argument(
                "--teacher",
                type=Path,
                metavar="MODEL",
                help="folder of a finished model with the same latents, whose predictions to follow",
            )
        add_device(part)


def _train(options: argparse.Namespace) -> None:
    import torch

    from audiox_ext.devices import resolve_device

    from .pipeline import train_autoencoder, train_diffusion, train_sync
    from .training_file import read_training_config

    def report(line: str) -> None:
        print(line, flush=True)

    check_folder_writable(options.output)
    config = read_training_config(options.config)
    device = resolve_device(options.device)
    if options.part == "autoencoder":
        print(
            train_autoencoder(
                config, options.output, device=device, report=report, start=options.initial_model
            )
        )
    elif options.part == "sync":
        print(train_sync(config, options.output, device=device, report=report))
    else:
        dtype = getattr(torch, options.dtype)
        model_folder = train_diffusion(
            config,
            options.output,
            device=device,
            report=report,
            dtype=dtype,
            start=options.initial_model,
            teacher=options.teacher,
        )
        print(model_folder)


def _dataset(options: argparse.Namespace) -> None:
    from .world.dataset import Dataset, Split
    from .world.kinds import KNOWN_KINDS
    from .world.preview import write_items

    check_folder_writable(options.folder)
    split: Split = "held out" if options.split == "held-out" else "training"
    kinds = tuple(name.strip() for name in options.kinds.split(",")) if options.kinds else KNOWN_KINDS
    dataset = Dataset(
        split,
        rate=options.rate,
        seconds=options.seconds,
        kinds=kinds,
        film_fraction=options.videos,
        first=options.first,
        length=options.count,
    )
    for path in write_items(options.folder, dataset, pictures=not options.no_pictures):
        print(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status.

    Args:
        arguments: Command line arguments; None for those of the process.
    """
    return run_command(build_parser(), arguments, "pocket")


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m pocket", description="Make audiox-pocket, or a model like it."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="log progress in detail")
    commands = parser.add_subparsers(dest="command", required=True)
    add_dataset(commands, common)
    add_train(commands, common)
    return parser


if __name__ == "__main__":
    sys.exit(main())
