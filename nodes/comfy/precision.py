"""Number formats of a model's weights and arithmetic, and the layer classes that convert between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import comfy.model_management as mm
import comfy.ops
import torch

from ...audiox_ext.errors import InputError
from ...audiox_ext.utf8 import get_logger

log = get_logger(__name__)

Precision = Literal["auto", "fp32", "bf16", "fp16", "fp8"]
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "fp16", "fp8")

# For fp8 this is the type of all weights other than the matrices in the blocks.
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}


@dataclass(frozen=True)
class NetworkPrecision:
    """Number formats of the denoising network.

    Attributes:
        weights: type in which weights are stored.
        compute: type in which the network computes.
        operations: layer classes that convert from the one to the other.
        blocks: type of the matrices in the blocks if it differs from `weights`.
    """

    weights: torch.dtype
    compute: torch.dtype
    operations: Any
    blocks: torch.dtype | None = None


def choose_precision(precision: Precision) -> NetworkPrecision:
    """Translate the precision widget for this machine; "auto" follows ComfyUI's options and the device.

    Raises:
        InputError: the precision is fp8, and the device cannot convert from it.
    """
    from .layers import build_network_layers

    device = mm.get_torch_device()
    if precision == "auto":
        # float16 overflows where bfloat16 only rounds, so it is used only on request.
        allowed = [torch.bfloat16, torch.float32]
        weights = _choose_weight_dtype(device, allowed)
    else:
        weights = _DTYPES[precision]
        allowed = [weights, torch.float32]
    compute = mm.unet_manual_cast(weights, device, allowed) or weights
    blocks = _require_fp8(device) if precision == "fp8" else None
    # ComfyUI's fp8 matrix products (--fast) would also round the activations, and without a scale.
    operations = comfy.ops.pick_operations(
        blocks or weights, compute, load_device=device, disable_fast_fp8=blocks is not None
    )
    return NetworkPrecision(weights, compute, build_network_layers(operations), blocks)


def _choose_weight_dtype(device: torch.device, allowed: list[torch.dtype]) -> torch.dtype:
    """Choose ComfyUI's type for a large network, or the nearest allowed type."""
    # -1 is ComfyUI's "size unknown, assume large": small weights even where it computes in float32.
    core_dtype = mm.unet_dtype(device, -1, allowed)
    if core_dtype in allowed:
        return core_dtype
    # ComfyUI obeys --fp8_*-unet, --fp16-unet and --fp64-unet whatever is allowed; 8-bit norms are unusable.
    nearest = torch.bfloat16 if core_dtype.itemsize < 4 else torch.float32
    log.info("AudioX: ComfyUI is set to %s; precision auto uses %s instead.", core_dtype, nearest)
    return nearest


def _require_fp8(device: torch.device) -> torch.dtype:
    """Return the 8-bit type if the device can convert from it."""
    if not mm.supports_cast(device, torch.float8_e4m3fn):
        raise InputError(
            f"precision is fp8, which the device {device} cannot convert. Choose auto, bf16 or fp16."
        )
    return torch.float8_e4m3fn


def pick_float32_layers() -> Any:
    """Return layer classes for float32 weights that ComfyUI may keep on the CPU one by one (--novram)."""
    from ...audiox_ext.networks.operations import accelerate_operations

    return accelerate_operations(
        comfy.ops.pick_operations(torch.float32, torch.float32, load_device=mm.get_torch_device())
    )
