"""Weights of the network's blocks in a type of eight bits, in which nothing computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .errors import CheckpointError

if TYPE_CHECKING:
    from .model import AudioXModel


def keep_blocks_in(model: AudioXModel, dtype: torch.dtype) -> None:
    """Give the matrices and filters in the transformer's blocks another type, before weights are loaded.

    They are nearly all of a network. Biases, norms and what is outside the blocks stay as they are. The
    layers must cast their weights to what they compute in, as ComfyUI's do.
    """
    for block in model.network.transformer.blocks():
        for layer in block.modules():
            weight = layer._parameters.get("weight")
            if weight is not None and weight.dim() >= 2:
                empty = torch.empty(weight.shape, dtype=dtype, device=weight.device)
                layer.register_parameter("weight", nn.Parameter(empty, requires_grad=False))


def within_range(key: str, weight: Tensor) -> Tensor:
    """`weight` itself. Raises `CheckpointError` where eight bits could not hold a value of it."""
    # There is no infinity in this type: what is too large becomes NaN.
    if weight.dtype == torch.float8_e4m3fn and bool(weight.isnan().any()):
        raise CheckpointError(
            f"{key} holds a value beyond {torch.finfo(weight.dtype).max:.0f}, which fp8 cannot hold. Choose "
            "another precision for this model."
        )
    return weight
