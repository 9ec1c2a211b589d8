"""The files and folders that make up a model, and the replacement of a model's folder as a whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..files import check_space, is_temporary, write_atomically
from .catalog import DOWNLOAD_MARK, SYNCHFORMER_NAMES, WEIGHT_SUFFIXES, CheckpointFiles
from .untrusted.json_files import read_config

_FILES = ("config.json", DOWNLOAD_MARK)
_FOLDERS = ("audiox_turbo", "pretransform", "synchformer")
_STEMS = ("model", "vae", "synchformer_state_dict")


def list_weights(files: CheckpointFiles, data: Mapping[str, Any]) -> Iterator[Path]:
    """List the weights files of a model in its own folder: its own, and those of its encoders.

    Args:
        files: the model's files.
        data: its config.json, which may be malformed.
    """
    yield files.weights
    if files.vae is not None:
        yield files.vae
    yield from (path for path in list_encoders(files.folder, name_encoders(data)) if path.is_file())
    for name in name_encoders(data):
        yield files.folder / name / "model.safetensors"


def list_encoders(folder: Path, text_encoders: Iterable[str]) -> list[Path]:
    """List the text encoders and Synchformer in a model's folder, as files and folders.

    Args:
        folder: the model's folder.
        text_encoders: names of the text encoders, from its config.json.
    """
    names = dict.fromkeys([*text_encoders])
    names |= dict.fromkeys(f"{stem}{suffix}" for stem in SYNCHFORMER_NAMES for suffix in WEIGHT_SUFFIXES)
    return [folder / name for name in names if (folder / name).exists()]


def name_encoders(data: Mapping[str, Any]) -> list[str]:
    """Return the names that a model's text encoders may have in its folder.

    Args:
        data: its config.json, which may be malformed.
    """
    try:
        sections = [entry.get("config", {}) for entry in data["model"]["conditioning"]["configs"]]
        names = [section.get("t5_model_name", "t5-base") for section in sections]
    except (KeyError, TypeError, AttributeError):
        return []
    usable = [name for name in names if isinstance(name, str) and name.isprintable() and len(name) < 200]
    inside = [name for name in usable if not Path(name).is_absolute() and ".." not in Path(name).parts]
    return list(dict.fromkeys(form for name in inside for form in (name, name.split("/")[-1]) if form))


def list_parts(folder: Path, text_encoders: Iterable[str] = ()) -> list[Path]:
    """List the entries of a folder that are parts of a model; everything else in it is the user's.

    Args:
        folder: the folder, which may be missing.
        text_encoders: further names of text encoders, beside those in the folder's config.json.
    """
    if not folder.is_dir():
        return []
    try:
        own = name_encoders(read_config(folder / "config.json"))
    except ConfigError:
        own = []
    encoders = {Path(name).parts[0] for name in (*own, *text_encoders)}

    def is_part(path: Path) -> bool:
        """Whether an entry belongs to a model."""
        if path.is_dir():
            return path.name in _FOLDERS or path.name in encoders
        is_weights = path.suffix in WEIGHT_SUFFIXES and path.stem.lower() in _STEMS
        return path.name in _FILES or is_weights

    return sorted(path for path in folder.iterdir() if is_part(path))


def write_model_folder(target: Path, text_encoders: Iterable[str], write: Callable[[Path], None]) -> None:
    """Write a whole model beside its place, and let it replace the model that is there.

    Files in `target` that are not parts of a model stay. If anything fails, `target` stays as it is.

    Args:
        target: the model's folder, which may be missing.
        text_encoders: names of the new model's text encoders.
        write: writes all parts of the model into the empty folder that it is called with.

    Raises:
        InputError: the disk is full, or the folder cannot be written.
    """
    with write_atomically(target) as temporary:
        temporary.mkdir()
        if target.is_dir():
            shutil.copymode(target, temporary)
            parts = set(list_parts(target, text_encoders))
            _keep_entries((path for path in target.iterdir() if path not in parts), temporary)
        write(temporary)


def _keep_entries(paths: Iterable[Path], folder: Path) -> None:
    """Let files and folders of the user appear in another folder on the same disk, too."""
    for path in paths:
        place = folder / path.name
        if path.is_symlink():
            place.symlink_to(os.readlink(path))
        elif path.is_dir():
            shutil.copytree(path, place, symlinks=True, copy_function=_link_or_copy)
        elif not is_temporary(path):
            _link_or_copy(path, place)


def _link_or_copy(source: str | Path, place: str | Path) -> None:
    """Give a file a second name, or copy it where the disk allows only one."""
    try:
        os.link(source, place)
    except OSError:
        check_space(Path(place).parent, os.stat(source).st_size)
        shutil.copy2(source, place)
