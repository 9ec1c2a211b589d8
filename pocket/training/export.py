"""Trained weights in the published file layout, which `get_pretrained_model` reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from audiox_ext.checkpoints.encoders import SYNCHFORMER_PREFIX
from audiox_ext.checkpoints.safetensors_writer import write_safetensors
from audiox_ext.conditioning.conditioners import TextConditioner
from audiox_ext.errors import TrainingError
from audiox_ext.files import write_atomically
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.keys import published_key
from audiox_ext.networks.vision.synchformer import Synchformer

from ..diffusion.text_encoder import write_text_encoder
from .weight_norm import plain_state, split_weight_norm

if TYPE_CHECKING:
    from ..diffusion.training_module import DiffusionTraining


def write_autoencoder(autoencoder: Autoencoder, path: Path, license_name: str | None) -> None:
    """Write the weights of an autoencoder, float32, under the keys of the module, with weight norm folded.

    Args:
        autoencoder: Autoencoder, normalised or not.
        path: File to write.
        license_name: Licence of the weights, for the file's header.
    """
    state = {key: value.cpu().contiguous() for key, value in plain_state(autoencoder).items()}
    write_safetensors(path, state, {}, _metadata(license_name))


def write_synchformer(synchformer: Synchformer, path: Path, license_name: str | None) -> None:
    """Write the weights of a sync encoder, float32, under the published keys.

    Args:
        synchformer: The sync encoder.
        path: File to write.
        license_name: Licence of the weights, for the file's header.
    """
    state = {key: value.cpu().contiguous() for key, value in synchformer_state(synchformer).items()}
    write_safetensors(path, state, {}, _metadata(license_name))


def export_model(training: DiffusionTraining, folder: Path, dtype: torch.dtype = torch.float16) -> int:
    """Write a trained model with its averaged weights, atomically.

    Args:
        training: The training.
        folder: Folder for config.json, model.safetensors, text_encoder/ and the sync encoder.
        dtype: Type of the stored weights.

    Returns:
        The size of all files in bytes.
    """
    with training.average.apply():
        with write_atomically(folder) as temporary:
            _write(training, temporary, dtype)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _write(training: DiffusionTraining, folder: Path, dtype: torch.dtype) -> None:
    """Write the files."""
    folder.mkdir()
    text = json.dumps(training.config.config_json, indent=1)
    (folder / "config.json").write_text(text + "\n", encoding="utf-8")
    metadata = _metadata(training.config.model.license)
    write_safetensors(
        folder / "model.safetensors", _stored(published_state(training.model), dtype), {}, metadata
    )
    for module in training.model.conditioner.conditioners.values():
        if isinstance(module, TextConditioner) and module.text_encoder is not None:
            write_text_encoder(module.text_encoder, folder / module.config.t5_model_name, dtype)
    if training.synchformer is not None:
        state = synchformer_state(training.synchformer)
        write_safetensors(folder / "synchformer_state_dict.safetensors", _stored(state, dtype), {}, metadata)


def _metadata(license_name: str | None) -> dict[str, str]:
    """The texts in the header of a file."""
    return {"format": "pt", "license": license_name or "unknown"}


def published_state(model: nn.Module) -> dict[str, Tensor]:
    """Collect the tensors of a model under the published keys.

    Args:
        model: Model with plain weights.

    Returns:
        The tensors by key: weight-normalised ones as pairs, without parts that have separate files.
    """
    outside = tuple(f"{name}." for name, m in model.named_modules() if getattr(m, "not_in_checkpoint", False))
    normalised = {
        f"{name}.weight" for name, m in model.named_modules() if getattr(m, "weight_norm", False) is True
    }
    state: dict[str, Tensor] = {}
    for key, tensor in model.state_dict().items():
        if outside and key.startswith(outside):
            continue
        if key in normalised:
            state[f"{key}_g"], state[f"{key}_v"] = split_weight_norm(tensor.float())
        else:
            state[published_key(key)] = tensor
    return state


def synchformer_state(synchformer: Synchformer) -> dict[str, Tensor]:
    """Collect the tensors of a sync encoder; the inverse of `convert_synchformer_keys`.

    Args:
        synchformer: The sync encoder.

    Returns:
        The tensors by published key.
    """
    state = dict(synchformer.state_dict())
    stem = "spatial_attn_agg.self_attn"
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{stem}.{part}.{kind}") for part in ("q", "kv")]
        state[f"{stem}.in_proj_{kind}"] = torch.cat(parts)
    return {f"{SYNCHFORMER_PREFIX}{key}": value for key, value in state.items()}


def _stored(state: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors on the CPU in one type; raises `TrainingError` for values beyond its range."""
    stored = {key: value.detach().to("cpu", dtype).contiguous() for key, value in state.items()}
    for key, value in stored.items():
        if not bool(torch.isfinite(value).all()):
            name = str(dtype).removeprefix("torch.")
            raise TrainingError(f"{key} has values that are too large for {name}: export as float32.")
    return stored
