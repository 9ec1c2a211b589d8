"""Converts a checkpoint to one model.safetensors in the types that the loader uses.

Such a file is memory-mapped without conversion: it loads immediately, and only the parts in use take memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig
from ..errors import InputError
from ..files import check_folder_writable, check_space, write_atomically
from ..license import check_license
from ..model import AudioXModel
from ..networks.keys import module_key
from .catalog import (
    PUBLISHED,
    PUBLISHED_LICENSE,
    CheckpointFiles,
    ModelFolders,
    find_files,
    require_model_folder,
)
from .config_parser import parse_config, read_model_config
from .encoders import text_encoder_names
from .model_parts import list_encoders, list_parts, name_encoders, write_model_folder
from .pretrained import DTYPES
from .safetensors_writer import measure_safetensors, write_safetensors
from .state_dict import fold_weight_norm
from .weights import check_files, dtypes_of, read_fitting_checkpoint, used_keys

WEIGHTS = "model.safetensors"
_BLOCK = 4096  # bytes that a file may take in addition to its content


def convert_checkpoint(
    name: str,
    target: Path,
    *,
    precision: str = "bf16",
    accept_cc_by_nc: bool = False,
    folders: ModelFolders | None = None,
    force: bool = False,
) -> Path:
    """Write config.json and model.safetensors of a model on disk to a new folder.

    Weight-normalised convolutions are folded; tensors without influence stay as they are. The text encoder
    and Synchformer are copied if they are in the model's own folder. The whole model is written beside
    `target` and checked before it gets its name. With `force` it replaces all parts of the model in `target`;
    other files there stay.

    Args:
        name: the model's name, or the path of its folder.
        target: the new folder.
        precision: fp32, bf16 or fp16 for the network; everything else is float32, as in the loader.
        accept_cc_by_nc: your consent to the licence of non-commercial weights.
        folders: folders to search, by default `ModelFolders.default()`.
        force: whether an existing model in `target` is replaced.

    Returns:
        The weights file.

    Raises:
        AudioXError: the model cannot be converted. The subclass says why: `LicenseError`,
            `ModelNotFoundError`, `ConfigError`, `CheckpointError` or `InputError`.
    """
    if precision not in DTYPES:
        raise InputError(f"precision is {precision!r}. Choose one of {', '.join(DTYPES)}.")
    folder = require_model_folder(name, folders or ModelFolders.default())
    files = find_files(folder)
    data = add_license(read_model_config(files), files)
    config = parse_config(data)
    check_license(config.license, folder.name, accept_cc_by_nc)
    text_encoder_names(config)  # raises an error for a name outside the folder
    check_files(config, files)
    in_place = target.resolve() == folder.resolve()
    _check_target(target, files, in_place=in_place, force=force)
    state, dtypes = _convert_state(files, config, DTYPES[precision])
    model = _NewModel(data, config, state, dtypes, {"source": _source(files), "dtype": precision})
    if in_place:
        check_space(target, model.measure())
        # First config.json, which differs by the licence alone: the folder holds the same model at all times.
        model.write_config(target)
        model.write_weights(target)
    else:
        _write_beside(target, model, folder)
    return target / WEIGHTS


def write_changed_model(
    files: CheckpointFiles, target: Path, changes: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write a model with new values for some of its tensors to a new folder; everything else is copied.

    A model in `target` is replaced as `convert_checkpoint` does it.

    Args:
        files: the model's files.
        target: the new folder.
        changes: the new values by their keys in the checkpoint.
        dtype: the type of the new values in the file, by default the checkpoint's.

    Raises:
        AudioXError: as `convert_checkpoint`.
    """
    data = add_license(read_model_config(files), files)
    config = parse_config(data)
    with torch.device("meta"):
        model = AudioXModel(config)
    state = read_fitting_checkpoint(model, files)
    dtypes = {key: dtype or state[key].dtype for key in changes}
    new = _NewModel(data, config, {**state, **changes}, dtypes, {"finetuned_from": _source(files)})
    _write_beside(target, new, files.folder)


def add_license(data: dict[str, Any], files: CheckpointFiles) -> dict[str, Any]:
    """Return a config.json that names the licence of published weights."""
    published = files.is_student or files.folder.name in PUBLISHED
    if data.get("license") is None and published:
        return {"license": PUBLISHED_LICENSE, **data}
    return data


def _check_target(target: Path, files: CheckpointFiles, *, in_place: bool, force: bool) -> None:
    """Raise `InputError` if the target cannot be written, or if files would be lost without `force`."""
    weights, config = target / WEIGHTS, target / "config.json"
    present = [weights] if in_place else [weights, config, *list_parts(target)]
    existing = next((path for path in present if path.exists()), None)
    if existing is not None and not force:
        raise InputError(f"{existing} exists already. Choose another folder, or replace it with --force.")
    if weights.exists() and weights.samefile(files.weights):
        raise InputError(f"{weights} is the source of this conversion. Choose another folder.")
    check_folder_writable(target)
    if not in_place and target.exists():
        check_folder_writable(target.resolve().parent)  # the new model is written there


def _source(files: CheckpointFiles) -> str:
    """Return the weights file's path from the folder that contains the model."""
    return f"{files.folder.name}/{files.weights.relative_to(files.folder).as_posix()}"


def _convert_state(
    files: CheckpointFiles, config: ModelConfig, dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, torch.dtype]]:
    """Return the tensors to write, memory-mapped or folded, and the types of those that the model uses."""
    with torch.device("meta"):
        model = AudioXModel(config, dtype=dtype)
    state = read_fitting_checkpoint(model, files)
    used = used_keys(model)
    unused = {key: state.pop(key) for key in list(state) if key not in used}
    folded = fold_weight_norm(state)
    dtypes = dtypes_of(model)
    return folded | unused, {key: dtypes[module_key(key)] for key in folded}


@dataclass(frozen=True)
class _NewModel:
    """A model to be written.

    Attributes:
        data: its config.json.
        config: the same, typed.
        state: its tensors by key.
        dtypes: the types in the file of those that are converted.
        origin: further metadata for the file's header.
    """

    data: Mapping[str, Any]
    config: ModelConfig
    state: Mapping[str, Tensor]
    dtypes: Mapping[str, torch.dtype]
    origin: Mapping[str, str]

    @property
    def metadata(self) -> dict[str, str]:
        """The texts in the file's header."""
        return {"format": "pt", "license": self.config.license or "unknown", **self.origin}

    @property
    def text(self) -> str:
        """The content of config.json."""
        return json.dumps(self.data, indent=1) + "\n"

    def measure(self) -> int:
        """Return the size of both files in bytes."""
        size = measure_safetensors(self.state, self.dtypes, self.metadata)
        return size + len(self.text.encode()) + 2 * _BLOCK

    def write_config(self, folder: Path) -> None:
        """Write config.json."""
        with write_atomically(folder / "config.json") as temporary:
            temporary.write_text(self.text, encoding="utf-8")

    def write_weights(self, folder: Path) -> None:
        """Write model.safetensors."""
        write_safetensors(folder / WEIGHTS, self.state, self.dtypes, self.metadata)

    def check(self, folder: Path) -> None:
        """Read what was written, and check that it is complete. Raises `AudioXError` if it is not."""
        with torch.device("meta"):
            model = AudioXModel(self.config)
        read_fitting_checkpoint(model, find_files(folder))


def _write_beside(target: Path, model: _NewModel, source: Path) -> None:
    """Write a whole model, with the encoders in the source's folder, and let it replace that in `target`."""
    names = list(dict.fromkeys([*text_encoder_names(model.config), *name_encoders(model.data)]))
    encoders = list_encoders(source, names)
    files = [file for path in encoders for file in (path, *path.rglob("*")) if file.is_file()]
    size = model.measure() + sum(file.stat().st_size + _BLOCK for file in files)
    check_space(target.resolve().parent, size)

    def write(folder: Path) -> None:
        """Write all parts."""
        model.write_config(folder)
        model.write_weights(folder)
        for path in encoders:
            copy = folder / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
        model.check(folder)

    write_model_folder(target, names, write)
