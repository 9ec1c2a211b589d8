"""Sizes of the denoising network and of the fusion block before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigError

NetworkType = Literal["dit", "mmdit"]


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The denoising network, of type `dit` or `mmdit`.

    Attributes:
        type: Kind of transformer.
        io_channels: Channels of the latents.
        embed_dim: Width of a token.
        depth: Number of blocks.
        num_heads: Heads per block; for `mmdit` the width of a head, see `head_dim`.
        cond_token_dim: Width of the context.
        global_cond_dim: Input width of `to_global_embed`, whose weights are unused; 0 if there are none.
        project_cond_tokens: Whether `to_cond_embed` widens the context to `embed_dim`, or keeps its width.
        latent_seq_len: Tokens that `mmdit` takes: one for the time, one per latent; `dit` takes any number.
        context_tokens: Tokens of the context that `mmdit` takes; `dit` takes any number.
    """

    type: NetworkType
    io_channels: int
    embed_dim: int
    depth: int
    num_heads: int
    cond_token_dim: int
    global_cond_dim: int = 0
    project_cond_tokens: bool = True
    latent_seq_len: int = 237
    context_tokens: int = 384

    def __post_init__(self) -> None:
        """Check that the values are consistent. Raises `ConfigError`."""
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"config.json: embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}."
            )
        if self.type == "mmdit" and self.head_dim % 2:
            raise ConfigError(
                f"config.json: num_heads {self.num_heads} must be even, because mmdit rotates pairs."
            )
        if self.type == "dit" and self.context_dim % self.head_dim:
            raise ConfigError(
                f"config.json: the context width {self.context_dim} is not divisible by the head width "
                f"{self.head_dim}."
            )
        if self.type == "dit" and self.num_heads % max(1, self.context_dim // self.head_dim):
            raise ConfigError(
                f"config.json: num_heads {self.num_heads} is not divisible by the "
                f"{self.context_dim // self.head_dim} heads of a context {self.context_dim} wide."
            )

    @property
    def head_dim(self) -> int:
        """Width of an attention head.

        (as published) A `mmdit` network has embed_dim // num_heads heads of width num_heads.
        """
        return self.num_heads if self.type == "mmdit" else self.embed_dim // self.num_heads

    @property
    def context_dim(self) -> int:
        """Width of the context after `to_cond_embed`."""
        return self.embed_dim if self.project_cond_tokens else self.cond_token_dim


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Sizes of the MAF block: gated experts over the three modalities.

    Attributes:
        num_experts_per_modality: Experts, which are trained tokens, per modality.
        num_heads: Heads per layer; they divide `dim`.
        num_fusion_layers: Layers of the transformer over the experts.
        dim: Width of a token; must be the width of the context.
    """

    num_experts_per_modality: int
    num_heads: int
    num_fusion_layers: int
    dim: int = 768

    def __post_init__(self) -> None:
        """Check that the values are consistent. Raises `ConfigError`."""
        if self.dim % self.num_heads:
            raise ConfigError(
                f"config.json: gate_type_config.dim {self.dim} is not divisible by num_heads "
                f"{self.num_heads}."
            )
