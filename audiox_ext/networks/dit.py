"""The `dit` network: a continuous transformer over latents with cross-attention to the conditioning.

B batch, C latent channels, L latents, N context tokens, H heads, D width of a head. Names are the state-dict
keys. Source: arXiv 2503.10522, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import NetworkConfig
from .base import DenoisingNetwork, LatentProjections
from .block_cache import BlockCache, run_blocks
from .layers import DeviceLike, GammaNorm, Operations, RotaryTable
from .operations import get_attention
from .token_merging import merge_equal_tokens


@dataclass(frozen=True)
class DitContext:
    """The conditioning as each layer uses it, the same at every step of a generation.

    The first B' items of the batch attend to it. The context of the other items is zero, and because no
    projection on that path has a bias, their cross-attention adds nothing and is skipped.

    Attributes:
        keys_values: (keys, values) per layer, each (B', H_kv, N, D).
        bias: (B', 1, 1, N), added to the logits, or None; see `merge_equal_tokens`.
    """

    keys_values: tuple[tuple[Tensor, Tensor], ...]
    bias: Tensor | None = None

    def first(self, items: int) -> DitContext:
        """Return the context of the first items of the batch, as views."""
        keys_values = tuple((keys[:items], values[:items]) for keys, values in self.keys_values)
        return DitContext(keys_values, None if self.bias is None else self.bias[:items])


class DiffusionTransformer(DenoisingNetwork):
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
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self.to_cond_embed = nn.Sequential(
            operations.Linear(config.cond_token_dim, config.context_dim, bias=False, **where),
            nn.SiLU(),
            operations.Linear(config.context_dim, config.context_dim, bias=False, **where),
        )
        self.transformer = _Transformer(config, operations, dtype, device)
        self.rotary = RotaryTable(rotary_width(config.head_dim))

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        """Keys of published checkpoints that have no influence, with their shapes."""
        return super().unused_keys() | {
            "transformer.rotary_pos_emb.inv_freq": (rotary_width(self.config.head_dim) // 2,)
        }

    def prepare_context(self, context: Tensor, zero_items: int = 0) -> DitContext:
        """Compute everything that depends only on the conditioning, for use at every step.

        Args:
            context: (B', N, cond_token_dim).
            zero_items: Number of further items of the batch with a context of zeros; they cost nothing here.
        """
        bias = None
        if not (torch.is_grad_enabled() and context.requires_grad):
            # While the tokens are trained, equal ones must stay separate: each has its own gradient.
            context, bias = merge_equal_tokens(context, self.compute_dtype)
        context = self.to_cond_embed(context.to(self.compute_dtype))
        return DitContext(
            tuple(layer.cross_attn.keys_values(context) for layer in self.transformer.blocks()),
            None if bias is None else bias[:, None, None],
        )

    def forward(self, x: Tensor, t: Tensor, context: DitContext, cache: BlockCache | None = None) -> Tensor:
        """Predict the velocity.

        Args:
            x: Noised latents, (B, C, L).
            t: Times in [0, 1], (B,).
            context: The result of `prepare_context`.
            cache: Lets passes skip most blocks.

        Returns:
            The velocity (B, C, L), float32.
        """
        _, tokens = self.enter(x, t)
        rotary = self.rotary.table(tokens.shape[1], tokens.device)
        blocks = [
            partial(layer, keys_values=keys_values, bias=context.bias, rotary=rotary)
            for layer, keys_values in zip(self.transformer.blocks(), context.keys_values, strict=True)
        ]
        return self.leave(run_blocks(blocks, tokens, cache))


def rotary_width(head_dim: int) -> int:
    """Return how many channels of a head are rotated by the position."""
    return max(head_dim // 2, 32)


def _rotate_halves(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate pairs (i, i + width / 2) of the first `width` channels. x: (B, H, N, D)."""
    cos, sin = rotary
    half = cos.shape[-1]
    first, second, rest = x[..., :half].float(), x[..., half : 2 * half].float(), x[..., 2 * half :]
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([rotated.to(x.dtype), rest], dim=-1)


class _SelfAttention(nn.Module):
    def __init__(self, config: NetworkConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.attend = get_attention(operations)
        self.to_qkv = operations.Linear(config.embed_dim, 3 * config.embed_dim, bias=False, **where)
        self.to_out = operations.Linear(config.embed_dim, config.embed_dim, bias=False, **where)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
        q, k, v = rearrange(self.to_qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        q, k = _rotate_halves(q, rotary), _rotate_halves(k, rotary)
        return self.to_out(rearrange(self.attend(q, k, v, None), "b h n d -> b n (h d)"))


class _CrossAttention(nn.Module):
    def __init__(self, config: NetworkConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.heads = config.num_heads
        self.context_heads = config.context_dim // config.head_dim
        self.attend = get_attention(operations)
        self.to_q = operations.Linear(config.embed_dim, config.embed_dim, bias=False, **where)
        self.to_kv = operations.Linear(config.context_dim, 2 * config.context_dim, bias=False, **where)
        self.to_out = operations.Linear(config.embed_dim, config.embed_dim, bias=False, **where)

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        k, v = rearrange(self.to_kv(context), "b n (two h d) -> two b h n d", two=2, h=self.context_heads)
        return k, v

    def forward(self, x: Tensor, keys_values: tuple[Tensor, Tensor], bias: Tensor | None) -> Tensor:
        k, v = keys_values
        length = x.shape[1]
        # Each context head serves several consecutive query heads. Their queries are joined into one longer
        # sequence, so that no key or value is copied.
        q = rearrange(
            self.to_q(x), "b n (h g d) -> b h (g n) d", h=self.context_heads, g=self.heads // k.shape[1]
        )
        out = self.attend(q, k, v, bias)
        return self.to_out(rearrange(out, "b h (g n) d -> b n (h g d)", n=length))


class _GatedLinear(nn.Module):
    def __init__(self, width: int, hidden: int, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.proj = operations.Linear(width, 2 * hidden, **where)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.silu(gate)


class _FeedForward(nn.Module):
    def __init__(self, width: int, operations: Operations, **where: Any) -> None:
        super().__init__()
        hidden = 4 * width
        self.ff = nn.Sequential(
            _GatedLinear(width, hidden, operations, **where),
            nn.Identity(),
            operations.Linear(hidden, width, **where),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.ff(x)


class _Block(nn.Module):
    def __init__(self, config: NetworkConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.pre_norm = GammaNorm(config.embed_dim, **where)
        self.self_attn = _SelfAttention(config, operations, **where)
        self.cross_attend_norm = GammaNorm(config.embed_dim, **where)
        self.cross_attn = _CrossAttention(config, operations, **where)
        self.ff_norm = GammaNorm(config.embed_dim, **where)
        self.ff = _FeedForward(config.embed_dim, operations, **where)

    def forward(
        self,
        x: Tensor,
        keys_values: tuple[Tensor, Tensor],
        bias: Tensor | None,
        rotary: tuple[Tensor, Tensor],
    ) -> Tensor:
        x = x + self.self_attn(self.pre_norm(x), rotary)
        attending = keys_values[0].shape[0]
        attended = x[:attending]
        attended = attended + self.cross_attn(self.cross_attend_norm(attended), keys_values, bias)
        x = attended if attending == x.shape[0] else torch.cat([attended, x[attending:]])
        return x + self.ff(self.ff_norm(x))


class _Transformer(LatentProjections):
    def __init__(
        self, config: NetworkConfig, operations: Operations, dtype: torch.dtype | None, device: DeviceLike
    ) -> None:
        super().__init__(config, operations, dtype, device)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self.layers = nn.ModuleList(_Block(config, operations, **where) for _ in range(config.depth))

    def blocks(self) -> list[_Block]:
        """The layers, with their type."""
        return [layer for layer in self.layers if isinstance(layer, _Block)]
