"""A transformer over time for the tokens of video frames.

B sequences, T frames, D width. Names are the state-dict keys.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..layers import DeviceLike, Operations


class TemporalTransformer(nn.Module):
    """Pre-norm transformer with a final norm. (B, T, D) -> (B, T, D)."""

    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        dim_head: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build `depth` layers of width `dim`, each with `heads` attention heads of width `dim_head`."""
        super().__init__()
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _PreNorm(dim, _Attention(dim, heads, dim_head, operations, **where), operations, **where),
                    _PreNorm(dim, _Mlp(dim, operations, **where), operations, **where),
                ]
            )
            for _ in range(depth)
        )
        self.norm = operations.LayerNorm(dim, **where)

    def forward(self, x: Tensor) -> Tensor:
        """Transform sequences of tokens."""
        for layer in self.layers:
            for residual in layer.children():  # attention, then MLP
                x = x + residual(x)
        return self.norm(x)


class _PreNorm(nn.Module):
    def __init__(self, dim: int, fn: nn.Module, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.norm = operations.LayerNorm(dim, **where)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, dim_head: int, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = operations.Linear(dim, 3 * heads * dim_head, bias=False, **where)
        self.to_out = nn.Sequential(operations.Linear(heads * dim_head, dim, **where))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.to_qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class _Mlp(nn.Module):
    def __init__(self, dim: int, operations: Operations, **where: Any) -> None:
        super().__init__()
        # The identity replaces the dropout of training, so that the last layer keeps its key `net.3`.
        self.net = nn.Sequential(
            operations.Linear(dim, 4 * dim, **where),
            nn.GELU(),
            nn.Identity(),
            operations.Linear(4 * dim, dim, **where),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)
