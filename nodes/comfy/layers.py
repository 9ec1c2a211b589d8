"""ComfyUI's layers and attention for the engine's networks."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
from torch import Tensor

from ...audiox_ext.networks.operations import accelerate_operations, torch_attention


def build_network_layers(operations: Any) -> Any:
    """Add ComfyUI's chosen attention to its layer classes for a denoising network.

    Args:
        operations: a class of layers, from `comfy.ops.pick_operations`.
    """
    return accelerate_operations(operations, None if mm.is_device_cpu(mm.get_torch_device()) else _attend)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Compute attention as ComfyUI is set to (--use-sage-attention and similar options).

    Not used on a CPU, where ComfyUI's choice saves memory and is slower than torch's own attention.
    """
    # Some kernels accept a bias and silently ignore it, so attention with a bias never reaches them.
    if bias is not None:
        return torch_attention(q, k, v, bias)
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, q.shape[1], skip_reshape=True, skip_output_reshape=True)
