"""LoRAs as ComfyUI patches on the network, which cost no time once they are applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.lora
import torch

from ...audiox_ext.errors import InputError
from .placement import outside_inference_mode

if TYPE_CHECKING:
    from ...audiox_ext.checkpoints.lora_file import Lora
    from ..shared.sockets import AudioXModelHandle


def add_lora(handle: AudioXModelHandle, path: Path, strength: float) -> AudioXModelHandle:
    """Return the model with a LoRA added to those it already has.

    `handle` is not changed. Both share their weights: ComfyUI patches them when it loads the returned model
    and restores them when it loads the original.

    Args:
        handle: the model.
        path: the LoRA file.
        strength: LoRA strength; 0 returns `handle` itself.

    Raises:
        InputError: the model's engine takes no LoRAs, or the strength is not a usable number.
        AudioXError: the file cannot be read, does not fit the model, or its licence was not accepted.
    """
    from ...audiox_ext.checkpoints.lora import check_lora_fits, check_lora_license, check_strength
    from ...audiox_ext.checkpoints.lora_file import read_lora

    if handle.placement is None:
        raise InputError(
            f"{handle.name} was loaded with engine {handle.engine}, which does not support LoRAs. Choose "
            "engine native in the AudioX Model Loader."
        )
    check_strength(strength)
    with outside_inference_mode():
        lora = read_lora(path)
    check_lora_license(lora, handle.model, handle.accepted)
    check_lora_fits(lora, handle.model)
    if strength == 0:
        return handle
    placement = handle.placement.with_patches("network", _build_patches(lora), strength)
    return replace(
        handle, model=handle.model.with_placement(placement), placement=placement, base_handle=handle
    )


def _build_patches(lora: Lora) -> dict[str, Any]:
    """Build ComfyUI's patches for the weights of the part `network`, by weight key."""
    tensors: dict[str, Any] = {}
    for name, layer in lora.layers.items():
        tensors[f"{name}.lora_down.weight"] = layer.down
        tensors[f"{name}.lora_up.weight"] = layer.up
        tensors[f"{name}.alpha"] = torch.tensor(layer.alpha)
    return comfy.lora.load_lora(tensors, {name: f"model.{name}.weight" for name in lora.layers})
