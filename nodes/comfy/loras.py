"""A model with a LoRA: patches of ComfyUI on the network, which cost nothing once they are applied."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.lora
import torch

from ...audiox_ext.errors import InputError
from . import host

if TYPE_CHECKING:
    from ...audiox_ext.checkpoints.lora_file import Lora
    from ..shared.sockets import AudioXModelHandle


def with_lora(handle: AudioXModelHandle, path: Path, strength: float) -> AudioXModelHandle:
    """The model with a LoRA beside those that it has; the model itself for a strength of 0.

    `handle` stays what it is, and shares its weights with what is returned: they are patched while they are
    loaded for the one, and as they were for the other. Raises what the engine says about the file, whether
    it fits, and its licence.
    """
    from ...audiox_ext.checkpoints.lora import check_lora_fits, check_lora_license, check_strength
    from ...audiox_ext.checkpoints.lora_file import read_lora

    if handle.placement is None:
        raise InputError(
            f"{handle.name} is loaded with engine {handle.engine}, which takes no LoRAs. Choose engine "
            "native in the AudioX Model Loader."
        )
    check_strength(strength)
    with host.outside_inference_mode():
        lora = read_lora(path)
    check_lora_license(lora, handle.model, handle.accepted)
    check_lora_fits(lora, handle.model)
    if strength == 0:
        return handle
    placement = handle.placement.with_patches("network", _patches(lora), strength)
    return replace(
        handle, model=handle.model.with_placement(placement), placement=placement, made_from=handle
    )


def _patches(lora: Lora) -> dict[str, Any]:
    """ComfyUI's patches for the weights of the part `network`, by their keys in it."""
    tensors: dict[str, Any] = {}
    for name, layer in lora.layers.items():
        tensors[f"{name}.lora_down.weight"] = layer.down
        tensors[f"{name}.lora_up.weight"] = layer.up
        tensors[f"{name}.alpha"] = torch.tensor(layer.alpha)
    return comfy.lora.load_lora(tensors, {name: f"model.{name}.weight" for name in lora.layers})
