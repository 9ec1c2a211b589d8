"""Memory: which parts of a model are on which device, as ComfyUI decides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import torch

from .progress import check_cancelled


class ComfyPlacement:
    """The engine's `Placement` inside ComfyUI: one ModelPatcher per part of the model.

    Only the network, by far the largest part, may be loaded partially. The other parts need all their weights
    at once; the T5 encoder, for example, has plain layers that cannot convert weights one by one.
    """

    def __init__(self, parts: Mapping[str, torch.nn.Module]) -> None:
        """Wrap the parts.

        Args:
            parts: modules by their name in the engine, such as "network" or "autoencoder".
        """
        self._patchers = {name: self._wrap(name, module) for name, module in parts.items()}

    def use(self, part: str, module: torch.nn.Module, activation_bytes: int) -> torch.device:
        """Load a part before it runs.

        Args:
            part: the part's name.
            module: the part itself, wrapped here if it is new.
            activation_bytes: memory that the run needs besides the weights.

        Returns:
            The device for the part's inputs.

        Raises:
            InterruptProcessingException: the user cancelled the run.
        """
        check_cancelled()
        if part not in self._patchers:
            self._patchers[part] = self._wrap(part, module)
        patcher = self._patchers[part]
        mm.load_models_gpu([patcher], memory_required=activation_bytes, force_full_load=part != "network")
        return patcher.load_device

    def check_cancelled(self) -> None:
        """See `progress.check_cancelled`."""
        check_cancelled()

    def free_memory(self, *, models: bool = False) -> None:
        """Release cached memory.

        Args:
            models: also unload all models, as ComfyUI does when a node runs out of memory.
        """
        if models:
            mm.unload_all_models()
        mm.soft_empty_cache()

    def patchers(self) -> list[comfy.model_patcher.ModelPatcher]:
        """Return the ModelPatchers, one per part."""
        return list(self._patchers.values())

    def with_patches(self, part: str, patches: Mapping[str, Any], strength: float) -> ComfyPlacement:
        """Return a placement of the same modules in which one part is patched.

        ComfyUI applies the patches when it loads the part through this placement. It removes them when the
        part is unloaded or loaded through another placement.

        Args:
            part: the part to patch.
            patches: ComfyUI's patches by weight key, such as `comfy.lora.load_lora` returns.
            strength: factor for the patches.
        """
        patcher = self._patchers[part].clone()
        applied = patcher.add_patches(patches, strength)
        assert len(applied) == len(patches), f"not applied: {sorted(patches.keys() - set(applied))}"
        placement = copy(self)
        placement._patchers = {**self._patchers, part: patcher}
        return placement

    @staticmethod
    def _wrap(part: str, module: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
        """Create the part's ModelPatcher."""
        load_device, offload_device = _get_devices(part)
        # Newer ComfyUI also has CoreModelPatcher, which loads weights one by one. The plain class exists in
        # every version; CoreModelPatcher has yet to be tested with these modules on a GPU.
        return comfy.model_patcher.ModelPatcher(
            module, load_device=load_device, offload_device=offload_device
        )


def _get_devices(part: str) -> tuple[torch.device, torch.device]:
    """Return the devices on which a part runs and waits; obeys --cpu-vae, --lowvram and similar options."""
    if part == "autoencoder":
        return mm.vae_device(), mm.vae_offload_device()
    if part == "conditioner.text_prompt":
        return mm.text_encoder_device(), mm.text_encoder_offload_device()
    return mm.get_torch_device(), mm.unet_offload_device()


def get_network_device() -> torch.device:
    """Return the device on which the denoising network runs."""
    return mm.get_torch_device()


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Leave ComfyUI's inference mode: weights loaded in it can never be changed in place."""
    with torch.inference_mode(False):
        yield
