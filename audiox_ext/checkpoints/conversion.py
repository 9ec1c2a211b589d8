"""Converts a checkpoint to one model.safetensors in the types that the loader uses.

Such a file is memory-mapped without conversion: it loads immediately, and only the parts in use take memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
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
from .pretrained import DTYPES
from .safetensors_writer import write_safetensors
from .state_dict import fold_weight_norm
from .weights import dtypes_of, read_fitting_checkpoint, used_keys

WEIGHTS = "model.safetensors"
_SYNCHFORMER = tuple(
    f"{folder}synchformer_state_dict{suffix}"
    for folder in ("", "synchformer/")
    for suffix in (".safetensors", ".ckpt", ".pth", ".pt")
)


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
    and Synchformer are copied if they are in the model's own folder.

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
    encoders = text_encoder_names(config)
    in_place = target.resolve() == folder.resolve()
    _check_target(target, files, in_place=in_place, force=force)
    state, dtypes = _convert_state(files, config, DTYPES[precision])
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target} cannot be created ({error}). Choose another folder.") from None
    metadata = {"source": _source(files), "dtype": precision}
    _write_model(target, data, config, state, dtypes, metadata)
    if not in_place:
        _copy_encoders(folder, target, encoders)
    return target / WEIGHTS


def write_changed_model(
    files: CheckpointFiles, target: Path, changes: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write a model with new values for some of its tensors to a new folder; everything else is copied.

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
    target.mkdir(parents=True, exist_ok=True)
    _write_model(target, data, config, {**state, **changes}, dtypes, {"finetuned_from": _source(files)})
    _copy_encoders(files.folder, target, text_encoder_names(config))


def add_license(data: dict[str, Any], files: CheckpointFiles) -> dict[str, Any]:
    """Return a config.json that names the licence of published weights."""
    published = files.is_student or files.folder.name in PUBLISHED
    if data.get("license") is None and published:
        return {"license": PUBLISHED_LICENSE, **data}
    return data


def _check_target(target: Path, files: CheckpointFiles, *, in_place: bool, force: bool) -> None:
    """Raise `InputError` if the target cannot be written, or if files would be lost without `force`."""
    weights, config = target / WEIGHTS, target / "config.json"
    existing = next((path for path in (weights, config) if path.exists()), None)
    if existing is not None and not force and not (in_place and existing == config):
        raise InputError(f"{existing} exists already. Choose another folder, or replace it with --force.")
    if weights.exists() and weights.samefile(files.weights):
        raise InputError(f"{weights} is the source of this conversion. Choose another folder.")
    check_folder_writable(target)


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


def _write_model(
    target: Path,
    data: Mapping[str, Any],
    config: ModelConfig,
    state: Mapping[str, Tensor],
    dtypes: Mapping[str, torch.dtype],
    metadata: Mapping[str, str],
) -> None:
    """Write model.safetensors and config.json."""
    metadata = {"format": "pt", "license": config.license or "unknown", **metadata}
    write_safetensors(target / WEIGHTS, state, dtypes, metadata)
    with write_atomically(target / "config.json") as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _copy_encoders(folder: Path, target: Path, encoders: list[str]) -> None:
    """Copy the text encoders and Synchformer if they are in the model's own folder."""
    for name in (*encoders, *(name.split("/")[-1] for name in encoders), *_SYNCHFORMER):
        source, copy = folder / name, target / name
        if not source.exists() or copy.exists():
            continue
        check_space(target, sum(f.stat().st_size for f in (source, *source.rglob("*")) if f.is_file()))
        with write_atomically(copy) as temporary:
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, temporary)
