"""A checkpoint of any form rewritten as model.safetensors in the types that the loader keeps it in.

Such a file is mapped as it is: it loads at once, and only what is in use is in memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..config import ModelConfig, TextConditionerConfig
from ..errors import InputError, ModelNotFoundError
from ..files import write_atomically
from ..license import check_license
from ..model import AudioXModel
from ..networks.keys import module_key
from .catalog import (
    PUBLISHED,
    PUBLISHED_LICENSE,
    CheckpointFiles,
    ModelFolders,
    check_encoder_name,
    find_files,
    find_model_folder,
)
from .config_parser import parse_config
from .pretrained import DTYPES, built_keys, config_of, fitting_state
from .safetensors_writer import check_space, write_safetensors
from .state_dict import fold_weight_norm

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
    """Write the model `name` (on disk) to the folder `target`, which is made: config.json, model.safetensors.

    precision: fp32, bf16 or fp16, of the network; the rest is float32, as it is in use. Weight-normalised
    convolutions are folded, and what has no influence stays as it is. Text encoder and Synchformer are copied
    if they lie in the model's own folder. force: replace a model that is there.

    Returns the file. Raises `LicenseError`, `ModelNotFoundError`, `ConfigError`, `CheckpointError` or
    `InputError`.
    """
    if precision not in DTYPES:
        raise InputError(f"precision is {precision!r}; choose one of {', '.join(DTYPES)}.")
    folders = folders or ModelFolders.default()
    folder = find_model_folder(name, folders, allow_paths=True)
    if folder is None:
        raise ModelNotFoundError(f"{name} is not on disk. Give a folder, or a model in {folders.audiox[0]}.")
    files = find_files(folder)
    data = with_license(config_of(files), files)
    config = parse_config(data)
    check_license(config.license, folder.name, accept_cc_by_nc)
    encoders = _text_encoders(config)
    path = target / WEIGHTS
    in_place = target.resolve() == folder.resolve()
    for there in (path, target / "config.json"):
        if there.exists() and not force and not (in_place and there != path):
            raise InputError(f"{there} is there already. Choose another folder, or replace it with --force.")
    if path.exists() and path.samefile(files.weights):
        raise InputError(f"{path} is the file that is read. Choose another folder.")
    state, dtypes = _converted_state(files, config, DTYPES[precision])
    metadata = {
        "format": "pt",
        "source": f"{folder.name}/{files.weights.relative_to(folder).as_posix()}",
        "license": config.license or "unknown",
        "dtype": precision,
    }
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target} cannot be made ({error}). Choose another folder.") from None
    write_safetensors(path, state, dtypes, metadata)
    with write_atomically(target / "config.json") as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if not in_place:
        _copy_beside(folder, target, encoders)
    return path


def write_changed_model(
    files: CheckpointFiles, target: Path, changes: Mapping[str, Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write the model of `files` with other values for some of its tensors to the folder `target`, which is
    made.

    changes: by their keys in checkpoints, stored in `dtype`, by default in the type that they have in the
    checkpoint. All else is as it was there; the licence, too. Raises as `convert_checkpoint`.
    """
    data = with_license(config_of(files), files)
    config = parse_config(data)
    with torch.device("meta"):
        model = AudioXModel(config)
    state = fitting_state(model, files)
    dtypes = {key: dtype or state[key].dtype for key in changes}
    source = f"{files.folder.name}/{files.weights.relative_to(files.folder).as_posix()}"
    metadata = {"format": "pt", "finetuned_from": source, "license": config.license or "unknown"}
    target.mkdir(parents=True, exist_ok=True)
    write_safetensors(target / WEIGHTS, {**state, **changes}, dtypes, metadata)
    with write_atomically(target / "config.json") as temporary:
        temporary.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    _copy_beside(files.folder, target, _text_encoders(config))


def with_license(data: dict[str, Any], files: CheckpointFiles) -> dict[str, Any]:
    """The configuration, with the licence named where the weights are published ones."""
    published = files.is_student or files.folder.name in PUBLISHED
    if data.get("license") is None and published:
        return {"license": PUBLISHED_LICENSE, **data}
    return data


def _converted_state(
    files: CheckpointFiles, config: ModelConfig, dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, torch.dtype]]:
    """The tensors to write, mapped from the checkpoint where they are not folded, and the types of those in
    use.
    """
    with torch.device("meta"):
        model = AudioXModel(config, dtype=dtype)
    state = fitting_state(model, files)
    built = built_keys(model)
    unused = {key: state.pop(key) for key in list(state) if key not in built}
    folded = fold_weight_norm(state)
    targets = dict(model.named_parameters()) | dict(model.named_buffers())
    return folded | unused, {key: targets[module_key(key)].dtype for key in folded}


def _text_encoders(config: ModelConfig) -> list[str]:
    """The names of a model's text encoders, none of which leads out of its folder."""
    names = [c.t5_model_name for c in config.conditioners.values() if isinstance(c, TextConditionerConfig)]
    for name in names:
        check_encoder_name(name)
    return names


def _copy_beside(folder: Path, target: Path, encoders: list[str]) -> None:
    """Copy what the model needs beside its weights, where that lies in its own folder."""
    wanted = [*encoders, *(name.split("/")[-1] for name in encoders), *_SYNCHFORMER]
    for name in wanted:
        source, copy = folder / name, target / name
        if not source.exists() or copy.exists():
            continue
        check_space(target, sum(f.stat().st_size for f in (source, *source.rglob("*")) if f.is_file()))
        with write_atomically(copy) as temporary:
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, temporary)
