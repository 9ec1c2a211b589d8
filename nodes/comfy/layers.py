"""Layers and attention of ComfyUI for the engine's networks."""

from __future__ import annotations

from typing import Any

import comfy.model_management as mm
from torch import Tensor

from ...audiox_ext.networks.operations import quick, torch_attention


def network_layers(operations: Any) -> Any:
    """ComfyUI's layer classes for a denoising network, with the attention that ComfyUI is set to."""
    return quick(operations, None if mm.is_device_cpu(mm.get_torch_device()) else _attend)


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """ComfyUI's choice (--use-sage-attention and its like), as `operations.Attention`.

    On a processor torch's own is used throughout: ComfyUI's choice for it is made for little memory and is
    slower.
    """
    # Some kernels take a bias and drop it without a word, so one that counts never gets there.
    if bias is not None:
        return torch_attention(q, k, v, bias)
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(q, k, v, q.shape[1], skip_reshape=True, skip_output_reshape=True)
