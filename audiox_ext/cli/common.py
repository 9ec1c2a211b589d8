"""What several commands of the command line share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from ..checkpoints.catalog import ModelFolders
    from ..checkpoints.lora_file import Lora

_INPUTS = ("track", "sound", "video", "mask", "features", "audio_prompt", "init_audio", "synchformer")
_MAY_BE_FOLDERS = ("video", "mask")


def add_device(command: argparse.ArgumentParser) -> None:
    """The option of where to compute."""
    command.add_argument("--device", default="cuda", help="cuda, mps or cpu; default the best there is")


def add_loras(command: argparse.ArgumentParser) -> None:
    """The option of LoRAs for the model."""
    command.add_argument(
        "--lora",
        action="append",
        default=[],
        metavar="FILE[:STRENGTH]",
        help="a LoRA for the model, and a strength other than 1; may be given several times",
    )


def loras_of(options: argparse.Namespace) -> list[tuple[Lora, float]]:
    """The LoRAs of --lora with their strengths.

    Raises `CheckpointError` for a file that cannot be read, `InputError` for a strength that is no number.
    """
    from ..checkpoints.lora import check_strength
    from ..checkpoints.lora_file import read_lora

    loras = []
    for text in options.lora:
        file, strength = _file_and_strength(text)
        check_strength(strength)
        loras.append((read_lora(file), strength))
    return loras


def _file_and_strength(text: str) -> tuple[Path, float]:
    file, _, strength = text.rpartition(":")
    if not file or Path(text).is_file():
        return Path(text), 1.0
    try:
        return Path(file), float(strength)
    except ValueError:
        return Path(text), 1.0  # a colon of the name, such as that of a drive


def model_folders(options: argparse.Namespace) -> ModelFolders:
    """Where models are looked for: --models, or the usual places."""
    from ..checkpoints.catalog import ModelFolders

    if options.models is None:
        return ModelFolders.default()
    root = options.models
    return ModelFolders(audiox=(root,), synchformer=(root,), text_encoders=(root / "text_encoders",))


def check_places(options: argparse.Namespace) -> None:
    """Refuse what could not be read or written before the long work, not after it."""
    for name in _INPUTS:
        path: Path | None = getattr(options, name, None)
        folder = name in _MAY_BE_FOLDERS and path is not None and path.is_dir()
        if path is not None and not path.is_file() and not folder:
            option = name if name in ("track", "sound") else f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: there is no file {path}.")
    if not options.output.parent.is_dir():
        raise InputError(f"The folder {options.output.parent} does not exist. Make it first.")
    if options.output.is_dir():
        raise InputError(f"{options.output} is a folder. Give the name of a file.")


def check_suffix(path: Path, known: tuple[str, ...]) -> None:
    """Raises `InputError` for an output whose name does not say a known format."""
    if path.suffix.lower() not in known:
        raise InputError(f"{path.name}: choose a name that ends in one of {', '.join(known)}.")
