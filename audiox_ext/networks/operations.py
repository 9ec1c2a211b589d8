"""The layer classes and the attention that networks are built from, and what makes them quick on a processor.

Every network takes `operations`, a namespace of layer classes: this module's `PlainOperations`, or ComfyUI's
made quick by `accelerate_operations`. An attribute `attend` of it replaces the attention.

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

# Below this there is nothing to gain: few rows are a matter of reading the weights, small layers of calling.
_ROWS = 8
_WEIGHTS = 2**18


def torch_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention by torch."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def get_attention(operations: Any) -> Attention:
    """The attention that goes with these layer classes."""
    return getattr(operations, "attend", torch_attention)


def has_plain_weights(layer: nn.Module) -> bool:
    """Whether the layer's weights are used as they lie: ComfyUI's layers may cast or patch them first."""
    return not (
        getattr(layer, "comfy_cast_weights", False)
        or getattr(layer, "weight_function", None)
        or getattr(layer, "bias_function", None)
    )


class _QuickLinear:
    """Mixin for `torch.nn.Linear` and its kin: float32 on an x86 processor goes through oneDNN.

    torch gives such products to MKL, which runs at half of oneDNN's speed on processors that are not Intel's.
    The sums are the same, in another order.
    """

    weight: Any
    bias: Any

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.use_onednn = has_onednn()

    def forward(self, x: Tensor) -> Tensor:
        worth_it = self.use_onednn and _is_worth_it(x, self.weight)
        if worth_it and has_plain_weights(self) and _is_plain_call(x, self.weight, self.bias):  # type: ignore[arg-type]
            return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return super().forward(x)  # type: ignore[misc]


def _is_worth_it(x: Tensor, weight: Any) -> bool:
    return (
        not torch.compiler.is_compiling()  # which does not know the operator
        and isinstance(weight, Tensor)
        and x.device.type == "cpu"
        and weight.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.numel() >= _WEIGHTS
        and x.numel() >= _ROWS * x.shape[-1]
    )


def _is_plain_call(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether nothing but the result is wanted: the operator has no derivatives, and gives none without a
    word; nor does it know of autocast.
    """
    inputs = (x, weight) if bias is None else (x, weight, bias)
    return not (
        (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs))
        or getattr(forward_ad, "_current_level", -1) >= 0
        or torch.is_autocast_enabled("cpu")
    )


@cache
def has_onednn() -> bool:
    """Whether torch has its operator for it, which is there since 2.0 but not part of the public API."""
    if platform.machine().lower() not in ("x86_64", "amd64") or not torch.backends.mkldnn.is_available():
        return False
    try:
        # Said, because a model is built with another default device.
        x, weight = torch.ones(2, 3, device="cpu"), torch.ones(4, 3, device="cpu")
        result = torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
        return bool((result == 3).all()) and result.shape == (2, 4)
    except (AttributeError, RuntimeError, TypeError):
        return False


class Linear(_QuickLinear, nn.Linear):
    """`torch.nn.Linear`, quick on a processor."""


class PlainOperations:
    """torch's own layers."""

    Linear = Linear
    Conv1d = nn.Conv1d
    Conv2d = nn.Conv2d
    Conv3d = nn.Conv3d
    ConvTranspose1d = nn.ConvTranspose1d
    LayerNorm = nn.LayerNorm


def accelerate_operations(operations: Any, attention: Attention | None = None) -> Any:
    """The same layer classes with a quick Linear, and with an attention of one's own."""
    members: dict[str, Any] = {}
    if not issubclass(operations.Linear, _QuickLinear):
        members["Linear"] = type("Linear", (_QuickLinear, operations.Linear), {})
    if attention is not None:
        members["attend"] = staticmethod(attention)
    return type(operations.__name__, (operations,), members)


def accelerate_module(module: nn.Module) -> nn.Module:
    """Turn the plain `torch.nn.Linear` layers of a module that others have built into quick ones."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            quick_layer: Any = layer
            quick_layer.__class__ = Linear
            quick_layer.use_onednn = has_onednn()
    return module
