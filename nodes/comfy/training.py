"""Devices and memory for training, which ComfyUI's memory management does not plan for."""

from __future__ import annotations

import comfy.model_management as mm
import torch

from ...audiox_ext.utf8 import get_logger

log = get_logger(__name__)


def unload_all_models() -> None:
    """Free the GPU before training: ComfyUI does not know how much memory training needs."""
    mm.unload_all_models()
    mm.soft_empty_cache()


def choose_training_device() -> torch.device:
    """Return ComfyUI's device if Lightning supports it, else the CPU."""
    device = mm.get_torch_device()
    if device.type in ("cuda", "mps", "cpu"):
        return device
    log.warning("AudioX: training does not support %s and runs on the CPU.", device)
    return torch.device("cpu")
