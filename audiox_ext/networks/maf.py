"""The MAF block: experts shared by the modalities refine each modality's tokens.

B batch, N_v, N_t, N_a tokens of the three slots, E experts per modality, D width. Names are the state-dict
keys. Source: arXiv 2503.10522, "Multimodal Adaptive Fusion".
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..config import FusionConfig
from .layers import DeviceLike, MultiheadAttention, Operations, PreNormEncoderLayer, cast


class MultimodalAdaptiveFusion(nn.Module):
    """Adds a vector computed from all three slots to the tokens of each. See `forward`."""

    def __init__(
        self,
        config: FusionConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the block; `operations` is a namespace of layer classes."""
        super().__init__()
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        dim = config.dim
        self.gating_network = nn.Sequential(
            operations.Linear(3 * dim, dim, **where), nn.GELU(), operations.Linear(dim, 3, **where)
        )
        experts = 3 * config.num_experts_per_modality
        self.unified_experts = nn.Parameter(torch.zeros(experts, dim, **where))
        self.cross_attn = MultiheadAttention(dim, config.num_heads, operations, dtype, device)
        self.norm1 = operations.LayerNorm(dim, eps=1e-5, **where)
        self.fusion_transformer = _FusionTransformer(config, operations, dtype, device)
        for slot in "vta":
            setattr(self, f"norm_{slot}2", operations.LayerNorm(dim, eps=1e-5, **where))
            setattr(self, f"bypass_gate_{slot}", nn.Parameter(torch.zeros((), **where)))

    def forward(self, slot_v: Tensor, slot_t: Tensor, slot_a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Refine the three slots, each (B, N, D). Returns them in the same order and shapes."""
        slots = (slot_v, slot_t, slot_a)
        means = torch.cat([tokens.mean(dim=1) for tokens in slots], dim=-1)
        gates = torch.sigmoid(self.gating_network(means))
        gated = torch.cat([gates[:, i, None, None] * tokens for i, tokens in enumerate(slots)], dim=1)
        experts = cast(self.unified_experts, slot_v).expand(slot_v.shape[0], -1, -1)
        experts = self.norm1(experts + self.cross_attn(experts, gated))
        experts = self.fusion_transformer(experts)
        refined = [part.mean(dim=1) for part in experts.chunk(3, dim=1)]
        v, t, a = (self._add(*pair) for pair in zip("vta", slots, refined, strict=True))
        return v, t, a

    def _add(self, slot: str, tokens: Tensor, refined: Tensor) -> Tensor:
        """Add the refined vector (B, D) to a slot's tokens, scaled by its gate."""
        gate = torch.sigmoid(cast(getattr(self, f"bypass_gate_{slot}"), tokens))
        return tokens + gate * getattr(self, f"norm_{slot}2")(refined)[:, None]


class _FusionTransformer(nn.Module):
    """Pre-norm encoder layers without a final norm."""

    def __init__(
        self, config: FusionConfig, operations: Operations, dtype: torch.dtype | None, device: DeviceLike
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            PreNormEncoderLayer(config.dim, config.num_heads, 4 * config.dim, 1e-5, operations, dtype, device)
            for _ in range(config.num_fusion_layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x
