"""Layers that several networks share.

`operations` is a namespace of layer classes: `torch.nn`, or ComfyUI's `comfy.ops`, whose layers ComfyUI can
cast and move. Parameters outside such layers are cast where they are used.

B batch, N tokens, H heads, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

Operations = Any
DeviceLike = torch.device | str | None


def cast(parameter: Tensor, like: Tensor) -> Tensor:
    """Return `parameter` in the dtype and on the device of `like`."""
    return parameter.to(device=like.device, dtype=like.dtype)


class GammaNorm(nn.Module):
    """Layer norm with a scale `gamma` and a buffer `beta` of zeros. (..., D) -> (..., D)."""

    def __init__(self, dim: int, dtype: torch.dtype | None = None, device: DeviceLike = None) -> None:
        """Build the norm for a width."""
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim, dtype=dtype, device=device))
        self.register_buffer("beta", torch.zeros(dim, dtype=dtype, device=device))
        self.beta: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.layer_norm(x, x.shape[-1:], cast(self.gamma, x), cast(self.beta, x), eps=1e-5)


class FourierFeatures(nn.Module):
    """Random Fourier features of the diffusion time, float32 throughout. (B,) -> (B, 2 * half)."""

    def __init__(self, half: int, device: DeviceLike = None) -> None:
        """Build `half` frequencies."""
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(half, 1, dtype=torch.float32, device=device))

    def forward(self, t: Tensor) -> Tensor:
        """Compute cosines and sines of random multiples of t."""
        weight = self.weight.to(device=t.device, dtype=torch.float32)
        angles = 2 * torch.pi * t.float()[:, None] @ weight.T
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class MultiheadAttention(nn.Module):
    """`torch.nn.MultiheadAttention` with its fused projection as a layer, so that a host can move it.

    Checkpoints name the projection `in_proj_weight` and `in_proj_bias`; here it is the layer `in_proj`.
    `keys.module_key` translates.
    """

    def __init__(
        self, dim: int, heads: int, operations: Operations, dtype: torch.dtype | None, device: DeviceLike
    ) -> None:
        """Build the projections for tokens `dim` wide."""
        super().__init__()
        self.heads = heads
        self.in_proj = operations.Linear(dim, 3 * dim, dtype=dtype, device=device)
        self.out_proj = operations.Linear(dim, dim, dtype=dtype, device=device)

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """Let queries (B, Q, D) attend to a context (B, N, D). Returns (B, Q, D)."""
        # One fused layer holds all three projections. It runs on both inputs, and the thirds needed are kept.
        q = self.in_proj(queries).chunk(3, dim=-1)[0]
        _, k, v = self.in_proj(context).chunk(3, dim=-1)
        q, k, v = (rearrange(y, "b n (h d) -> b h n d", h=self.heads) for y in (q, k, v))
        return self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class PreNormEncoderLayer(nn.Module):
    """Pre-norm transformer layer with exact gelu. (B, N, D) -> (B, N, D).

    Its keys are those of `torch.nn.TransformerEncoderLayer`.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        eps: float,
        operations: Operations,
        dtype: torch.dtype | None,
        device: DeviceLike,
    ) -> None:
        """Build the layer: `dim` wide, `hidden` inside its MLP, with `eps` in its norms."""
        super().__init__()
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self.self_attn = MultiheadAttention(dim, heads, operations, dtype, device)
        self.linear1 = operations.Linear(dim, hidden, **where)
        self.linear2 = operations.Linear(hidden, dim, **where)
        self.norm1 = operations.LayerNorm(dim, eps=eps, **where)
        self.norm2 = operations.LayerNorm(dim, eps=eps, **where)

    def forward(self, x: Tensor) -> Tensor:
        """Apply self-attention and the MLP."""
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class RotaryTable:
    """Rotary position embedding: cosines and sines of positions 0, 1, ..., base 10000, for `width` channels.

    The frequencies are computed in float32, because a half-precision checkpoint holds them rounded. The
    newest table is cached. Source: Su et al. 2021, arXiv 2104.09864.
    """

    def __init__(self, width: int) -> None:
        """Prepare a table for the first `width` channels of a head."""
        self._width = width
        self._cached: tuple[int, torch.device, tuple[Tensor, Tensor]] | None = None

    def table(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each (length, width / 2), float32."""
        cached = self._cached
        if cached is None or cached[:2] != (length, device):
            # Tensors of inference mode could not be used in training.
            with torch.inference_mode(False):
                cached = self._cached = (length, device, self._compute(length, device))
        return cached[2]  # another thread may have replaced self._cached

    def _compute(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Compute the table of the positions below `length`."""
        steps = torch.arange(0, self._width, 2, dtype=torch.float32, device=device)
        inverse = 10000.0 ** (-steps / self._width)
        angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * inverse
        return angles.cos(), angles.sin()
