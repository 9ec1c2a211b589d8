"""The layer classes and the attention that networks are built from, with a fast Linear for CPUs.

Every network takes `operations`, a namespace of layer classes: `PlainOperations`, or ComfyUI's classes made
faster by `accelerate_operations`. An attribute `attend` of the namespace replaces the attention.

B batch, H heads, N queries, M keys, D width of a head.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
"""(queries (B, H, N, D), keys and values (B, H, M, D), bias broadcast to (B, H, N, M) or None) -> (B, H, N,
D). The bias is added to the logits.
"""

# Smaller products gain nothing: with few rows the weights have to be read anyway, and small layers spend
# their time on the call.
_MIN_ROWS = 8
_MIN_WEIGHTS = 2**18


def torch_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute scaled dot-product attention with torch; shapes as in `Attention`."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def get_attention(operations: Any) -> Attention:
    """Return the attention of a namespace of layer classes, by default torch's."""
    return getattr(operations, "attend", torch_attention)


def has_plain_weights(layer: nn.Module) -> bool:
    """Whether a layer computes with its weights as stored; ComfyUI's layers may cast or patch them first."""
    return not (
        getattr(layer, "comfy_cast_weights", False)
        or getattr(layer, "weight_function", None)
        or getattr(layer, "bias_function", None)
    )


class _OneDnnLinear(nn.Module):
    """Mixin for `torch.nn.Linear` and similar layers: computes float32 products on an x86 CPU with oneDNN.

    torch uses MKL for them, which on CPUs not made by Intel has half of oneDNN's speed. The sums are
    the same, in another order.
    """

    weight: Any
    bias: Any

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.use_onednn = has_onednn()

    def forward(self, x: Tensor) -> Tensor:
        fast = self.use_onednn and _is_large_on_cpu(x, self.weight)
        if fast and has_plain_weights(self) and _is_plain_call(x, self.weight, self.bias):
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return super().forward(x)


def _is_large_on_cpu(x: Tensor, weight: Any) -> bool:
    """Whether oneDNN is faster for this product."""
    return (
        not torch.compiler.is_compiling()  # the compiler does not know the operator
        and isinstance(weight, Tensor)
        and x.device.type == "cpu"
        and weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.numel() >= _MIN_WEIGHTS
        and x.numel() >= _MIN_ROWS * x.shape[-1]
    )


def _is_plain_call(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether only the result is needed: the operator silently gives no derivatives and ignores autocast."""
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return not (
        (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
        or getattr(forward_ad, "_current_level", -1) >= 0
        or torch.is_autocast_enabled("cpu")
    )


@cache
def has_onednn() -> bool:
    """Whether torch offers oneDNN's linear operator, which exists since 2.0 but is not public."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    try:
        # The device is explicit, because a model is built with another default device.
        x, weight = torch.ones(2, 3, device="cpu"), torch.ones(4, 3, device="cpu")
        result = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return bool((result == 3).all()) and result.shape == (2, 4)
    except (AttributeError, RuntimeError, TypeError):
        return False


class Linear(_OneDnnLinear, nn.Linear):
    """`torch.nn.Linear`, faster on a CPU."""


class PlainOperations:
    """torch's own layers, with the faster Linear."""

    Linear = Linear
    Conv1d = nn.Conv1d
    Conv2d = nn.Conv2d
    Conv3d = nn.Conv3d
    ConvTranspose1d = nn.ConvTranspose1d
    LayerNorm = nn.LayerNorm


def accelerate_operations(operations: Any, attention: Attention | None = None) -> Any:
    """Derive a namespace of layer classes with a faster Linear.

    Args:
        operations: A namespace of layer classes, such as ComfyUI's.
        attention: Replaces the attention of the networks; None keeps it.

    Returns:
        A subclass of `operations`.
    """
    members: dict[str, Any] = {}
    if not issubclass(operations.Linear, _OneDnnLinear):
        members["Linear"] = type("Linear", (_OneDnnLinear, operations.Linear), {})
    if attention is not None:
        members["attend"] = staticmethod(attention)
    return type(operations.__name__, (operations,), members)


def accelerate_module(module: nn.Module) -> nn.Module:
    """Replace the plain `torch.nn.Linear` layers inside a module by faster ones with the same weights.

    Args:
        module: A module that other code has built, such as a T5 encoder. It is changed in place.

    Returns:
        The module.
    """
    for parent in list(module.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear:
                setattr(parent, name, _accelerate_linear(layer))
    return module


def _accelerate_linear(layer: nn.Linear) -> Linear:
    """Build a faster Linear that shares a layer's parameters."""
    replacement = Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    replacement.weight, replacement.bias = layer.weight, layer.bias
    return replacement.train(layer.training)
