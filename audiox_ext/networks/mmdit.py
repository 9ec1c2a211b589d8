"""The `mmdit` network: a transformer that modulates each latent by a conditioning token of its own.

B batch, C latent channels, L latents, N = L + 1 tokens (the time token first), H heads, D width of a head.
Names are the state-dict keys. Lines marked (as published) look odd, but the weights were trained with them.
Source: arXiv 2503.10522, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NetworkConfig
from .base import DenoisingNetwork, LatentProjections
from .block_cache import BlockCache, run_blocks
from .layers import DeviceLike, Operations, RotaryTable
from .operations import get_attention


class Modulation(NamedTuple):
    """Shift, scale and gate of the two halves of a block, each (B, N, width)."""

    shift1: Tensor
    scale1: Tensor
    gate1: Tensor
    shift2: Tensor
    scale2: Tensor
    gate2: Tensor


@dataclass(frozen=True)
class MmditContext:
    """The modulation of each block, the same at every step of a generation."""

    modulations: tuple[Modulation, ...]

    def first(self, items: int) -> MmditContext:
        """Return the context of the first items of the batch, as views."""
        return MmditContext(tuple(Modulation(*(part[:items] for part in m)) for m in self.modulations))


class MultimodalDiffusionTransformer(DenoisingNetwork):
    """Predicts the velocity of noised latents. See `forward`."""

    transformer: _Transformer

    def __init__(
        self,
        config: NetworkConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
        compute_dtype: torch.dtype | None = None,
    ) -> None:
        """Build the network; arguments as in `DenoisingNetwork`."""
        super().__init__(config, operations, dtype, device, compute_dtype)
        self.transformer = _Transformer(config, operations, dtype, device)
        self.rotary = RotaryTable(config.head_dim)

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        """Keys of published checkpoints that have no influence, with their shapes."""
        config = self.config
        return super().unused_keys() | {
            "to_cond_embed.0.weight": (config.context_dim, config.cond_token_dim),
            "to_cond_embed.2.weight": (config.context_dim, config.context_dim),
        }

    def prepare_context(self, context: Tensor, zero_items: int = 0) -> MmditContext:
        """Compute everything that depends only on the conditioning, for use at every step.

        Args:
            context: (B', context_tokens, cond_token_dim).
            zero_items: Number of further items of the batch that have a context of zeros.

        Raises:
            ValueError: The context has the wrong number of tokens.
        """
        if context.shape[1] != self.config.context_tokens:
            raise ValueError(
                f"a mmdit network takes {self.config.context_tokens} tokens, got {context.shape[1]}"
            )
        context = context.to(self.compute_dtype)
        if zero_items:
            context = torch.cat([context, context.new_zeros(zero_items, *context.shape[1:])])
        tokens = self.transformer.proj_mm_tokens(context)
        tokens = self.transformer.proj_mm_seq_len(tokens.transpose(1, 2)).transpose(1, 2)
        tokens = F.silu(tokens)
        return MmditContext(tuple(layer.modulation(tokens) for layer in self.transformer.blocks()))

    def forward(self, x: Tensor, t: Tensor, context: MmditContext, cache: BlockCache | None = None) -> Tensor:
        """Predict the velocity.

        Args:
            x: Noised latents, (B, C, L).
            t: Times in [0, 1], (B,).
            context: The result of `prepare_context`.
            cache: Lets passes skip most blocks.

        Returns:
            The velocity (B, C, L), float32.

        Raises:
            ValueError: L is not the length that the network was built for.
        """
        if x.shape[-1] + 1 != self.config.latent_seq_len:
            raise ValueError(
                f"this network takes {self.config.latent_seq_len - 1} latents, got {x.shape[-1]}"
            )
        time, tokens = self.enter(x, t)
        rotary = self.rotary.table(tokens.shape[1], tokens.device)
        blocks = [
            partial(layer, time=time, modulation=modulation, rotary=rotary)
            for layer, modulation in zip(self.transformer.blocks(), context.modulations, strict=True)
        ]
        return self.leave(run_blocks(blocks, tokens, cache))


def _rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square norm of each head, no weights. (..., D) -> (..., D)."""
    return F.rms_norm(x, x.shape[-1:], eps=1e-6)


def _rotate_pairs(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate adjacent pairs (2i, 2i + 1) of the whole head. x: (B, H, N, D)."""
    cos, sin = rotary
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


class _Attention(nn.Module):
    def __init__(self, config: NetworkConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.heads = config.embed_dim // config.head_dim
        self.attend = get_attention(operations)
        self.qkv = operations.Linear(config.embed_dim, 3 * config.embed_dim, **where)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        # (as published) query, key and value are interleaved innermost.
        q, k, v = rearrange(self.qkv(x), "b n (h d three) -> three b h n d", h=self.heads, three=3)
        q, k = _rotate_pairs(_rms_norm(q), rotary), _rotate_pairs(_rms_norm(k), rotary)
        return rearrange(self.attend(q, k, v.contiguous(), None), "b h n d -> b n (h d)")


class _TimeAttention(nn.Module):
    """Cross-attention to only the time token.

    (as published) Key and value are swapped, and with a single key the attention weight is 1. The result is
    the normalised key, the same for every token; the query has no effect.
    """

    def __init__(self, config: NetworkConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.heads, self.width = config.embed_dim // config.head_dim, config.embed_dim
        self.to_kv = operations.Linear(config.embed_dim, 2 * config.embed_dim, bias=False, **where)

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        return {"to_q.weight": (self.width, self.width)}

    def forward(self, time: Tensor) -> Tensor:
        key = rearrange(self.to_kv(time), "b n (h d two) -> two b n h d", h=self.heads, two=2)[0]
        return _rms_norm(key).flatten(-2)


class _ConvFeedForward(nn.Module):
    def __init__(self, width: int, operations: Operations, **where: Any) -> None:
        super().__init__()
        hidden = 256 * -(-8 * width // (3 * 256))  # two thirds of 4 * width, rounded up to 256
        self.w1 = operations.Conv1d(width, hidden, 3, padding=1, bias=False, **where)
        self.w2 = operations.Conv1d(hidden, width, 3, padding=1, bias=False, **where)
        self.w3 = operations.Conv1d(width, hidden, 3, padding=1, bias=False, **where)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        return self.w2(F.silu(self.w1(x)) * self.w3(x)).transpose(1, 2)


class _Block(nn.Module):
    def __init__(self, config: NetworkConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        width = config.embed_dim
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), operations.Linear(width, 6 * width, **where))
        self.attn = _Attention(config, operations, **where)
        self.linear1 = operations.Conv1d(width, width, 3, padding=1, **where)
        self.cross_attn = _TimeAttention(config, operations, **where)
        self.ffn = _ConvFeedForward(width, operations, **where)

    def modulation(self, activated: Tensor) -> Modulation:
        """activated: (B, N, width), silu already applied, once for all blocks."""
        return Modulation(*self.adaLN_modulation[1](activated).chunk(6, dim=-1))

    def forward(
        self, x: Tensor, time: Tensor, modulation: Modulation, rotary: tuple[Tensor, Tensor]
    ) -> Tensor:
        m, plain = modulation, x.shape[-1:]
        h = F.layer_norm(x, plain, eps=1e-5) * (1 + m.scale1) + m.shift1
        x = x + m.gate1 * self.linear1(self.attn(h, rotary).transpose(1, 2)).transpose(1, 2)
        x = x + self.cross_attn(time)
        h = F.layer_norm(x, plain, eps=1e-5) * (1 + m.scale2) + m.shift2
        return x + m.gate2 * self.ffn(h)


class _Transformer(LatentProjections):
    def __init__(
        self, config: NetworkConfig, operations: Operations, dtype: torch.dtype | None, device: DeviceLike
    ) -> None:
        super().__init__(config, operations, dtype, device)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        width = config.embed_dim
        self.proj_mm_tokens = operations.Linear(config.cond_token_dim, width, **where)
        self.proj_mm_seq_len = operations.Linear(config.context_tokens, config.latent_seq_len, **where)
        self.layers = nn.ModuleList(_Block(config, operations, **where) for _ in range(config.depth))

    def blocks(self) -> list[_Block]:
        """The layers, with their type."""
        return [layer for layer in self.layers if isinstance(layer, _Block)]
