"""Options and checks that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, quote_value
from ..files import check_file_writable

if TYPE_CHECKING:
    from ..checkpoints.catalog import ModelFolders
    from ..checkpoints.lora_file import Lora

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

_INPUTS = ("track", "sound", "video", "mask", "features", "audio_prompt", "init_audio", "synchformer")
_POSITIONAL = ("track", "sound")
_MAY_BE_FOLDERS = ("video", "mask")


def add_command(
    commands: Commands,
    name: str,
    common: argparse.ArgumentParser,
    summary: str,
    run: Callable[[argparse.Namespace], None],
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: the group that the command joins.
        name: the word that the user types.
        common: the options that all commands have.
        summary: a sentence for the help.
        run: the command's function.
    """
    command = commands.add_parser(name, parents=[common], help=summary, description=summary)
    command.set_defaults(run=run)
    return command


def add_device(command: argparse.ArgumentParser) -> None:
    """Add --device."""
    command.add_argument(
        "--device", default="cuda", help="where to compute: cuda, mps or cpu (default: the best available)"
    )


def add_consent(command: argparse.ArgumentParser) -> None:
    """Add --accept-cc-by-nc."""
    command.add_argument(
        "--accept-cc-by-nc",
        action="store_true",
        help="accept the CC-BY-NC-4.0 licence of the published weights: no commercial use, with attribution",
    )


def add_loras(command: argparse.ArgumentParser) -> None:
    """Add --lora."""
    command.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="apply a LoRA, with a strength (default: 1); may be repeated",
    )


def read_loras(options: argparse.Namespace) -> list[tuple[Lora, float]]:
    """Read the LoRAs of --lora.

    Returns:
        Each LoRA with its strength.

    Raises:
        CheckpointError: a file cannot be read.
        InputError: a strength is not a finite number.
    """
    from ..checkpoints.lora import check_strength
    from ..checkpoints.lora_file import read_lora

    loras = []
    for text in options.lora:
        file, strength = _split_strength(text)
        check_strength(strength)
        loras.append((read_lora(file), strength))
    return loras


def _split_strength(text: str) -> tuple[Path, float]:
    """Split FILE[:STRENGTH]; the name itself may contain a colon, such as after a drive letter."""
    file, _, strength = text.rpartition(":")
    if not file or os.path.isfile(text):
        return Path(text), 1.0
    try:
        return Path(file), float(strength)
    except ValueError:
        return Path(text), 1.0


def model_folders(options: argparse.Namespace) -> ModelFolders:
    """Return the folders to search for models: --models, or the usual ones."""
    from ..checkpoints.catalog import ModelFolders

    return ModelFolders.default() if options.models is None else ModelFolders.below(options.models)


def add_output(command: argparse.ArgumentParser, text: str) -> None:
    """Add --output and --force.

    Args:
        command: the command.
        text: what the file is, for the help.
    """
    command.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=text)
    command.add_argument("--force", action="store_true", help="replace the output if it exists already")


def check_paths(options: argparse.Namespace) -> None:
    """Check that inputs exist and the output can be written, before any long work.

    Raises:
        InputError: an input does not exist, the output's folder does not exist, or one of the files in
            `list_outputs` cannot be written, or exists without --force.
    """
    for name in _INPUTS:
        path: Path | None = getattr(options, name, None)
        if path is None or os.path.isfile(path) or (name in _MAY_BE_FOLDERS and os.path.isdir(path)):
            continue
        option = name if name in _POSITIONAL else f"--{name.replace('_', '-')}"
        raise InputError(f"{option}: there is no file {path}. Check the path.")
    folder = options.output.parent
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(f"--output: {folder} is a file, not a folder. Choose another folder.")
    if not os.path.isdir(folder):
        raise InputError(f"--output: the folder {folder} does not exist. Create it first.")
    for path in list_outputs(options):
        if os.path.isfile(path) and not options.force:
            raise InputError(
                f"--output: {path} exists already. Choose another name, or give --force to replace it."
            )
        try:
            check_file_writable(path)
        except InputError as error:
            raise InputError(f"--output: {error}") from None


def list_outputs(options: argparse.Namespace) -> list[Path]:
    """Return the files that a command will write: those of a batch have numbers, from 1.

    Raises:
        InputError: the batch is too large.
    """
    from ..pipeline.settings import MAX_BATCH

    output: Path = options.output
    count = getattr(options, "batch", 1)
    if count <= 1:
        return [output]
    if count > MAX_BATCH:
        raise InputError(f"--batch is {quote_value(count)}. Give a whole number from 1 to {MAX_BATCH}.")
    return [output.with_name(f"{output.stem}_{index + 1}{output.suffix}") for index in range(count)]


def check_suffix(path: Path, suffixes: tuple[str, ...]) -> None:
    """Check that an output's name ends in a supported suffix.

    Raises:
        InputError: the suffix is not supported.
    """
    if path.suffix.lower() not in suffixes:
        raise InputError(f"--output: {path.name} must end in {' or '.join(suffixes)}.")
