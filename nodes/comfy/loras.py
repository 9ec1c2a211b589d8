"""LoRAs as ComfyUI patches on the network, which cost no time once they are applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.lora
import torch
from comfy.weight_adapter import WeightAdapterBase

from ...audiox_ext.errors import InputError
from .placement import outside_inference_mode

if TYPE_CHECKING:
    from ...audiox_ext.checkpoints.adapters.base import WeightChange
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
    from ...audiox_ext.checkpoints.lora import check_lora_license, check_strength, fit_lora
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
    changes = fit_lora(lora, handle.model)
    if strength == 0:
        return handle
    placement = handle.placement.with_patches("network", _build_patches(changes), strength)
    return replace(
        handle, model=handle.model.with_placement(placement), placement=placement, base_handle=handle
    )


def _build_patches(changes: Mapping[str, WeightChange]) -> dict[str, Any]:
    """Build ComfyUI's patches for the weights of the part `network`, by weight key.

    ComfyUI applies plain LoRAs itself, because it also moves their matrices to the GPU in time. The engine
    computes everything else.
    """
    from ...audiox_ext.checkpoints.adapters.additions import LoraLayer

    tensors: dict[str, Any] = {}
    patches: dict[str, Any] = {}
    for name, change in changes.items():
        if isinstance(change, LoraLayer):
            tensors[f"{name}.lora_down.weight"] = change.down
            tensors[f"{name}.lora_up.weight"] = change.up
            tensors[f"{name}.alpha"] = torch.tensor(change.alpha)
        else:
            patches[f"model.{name}"] = _EngineChange(set(), (change,))
    return patches | comfy.lora.load_lora(tensors, {name: f"model.{name}" for name in changes})


class _EngineChange(WeightAdapterBase):
    """A change of a weight that the engine computes.

    ComfyUI copies it with the arguments of its constructor.
    """

    name = "audiox"

    def __init__(self, loaded_keys: set[str], weights: tuple[WeightChange]) -> None:
        """Wrap a change, `weights[0]`."""
        self.loaded_keys = loaded_keys
        self.weights = weights

    def calculate_weight(
        self, weight: torch.Tensor, key: str, strength: float, *arguments: object, **settings: object
    ) -> torch.Tensor:
        """Return the weight with the change.

        Args:
            weight: the weight, with earlier changes.
            key: its name.
            strength: LoRA strength.
            arguments: ComfyUI's other arguments, which only matter for parts of weights and for types.
            settings: the same by name.
        """
        return weight + self.weights[0].difference(strength, weight).to(weight.dtype)
