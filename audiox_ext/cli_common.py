"""What several commands of the command line share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    from .catalog import ModelFolders

_INPUTS = ("track", "sound", "video", "mask", "features", "audio_prompt", "init_audio", "synchformer")
_MAY_BE_FOLDERS = ("video", "mask")


def add_device(command: argparse.ArgumentParser) -> None:
    """The option of where to compute."""
    command.add_argument("--device", default="cuda", help="cuda, mps or cpu; default the best there is")


def model_folders(options: argparse.Namespace) -> ModelFolders:
    """Where models are looked for: --models, or the usual places."""
    from .catalog import ModelFolders

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
