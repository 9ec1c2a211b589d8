"""The CLIP vision tower up to its last hidden state.

B images, N = patches + 1 tokens, D width. Names are the state-dict keys.

Source: Radford et al. 2021, arXiv 2103.00020.
"""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import ClipVisionConfig
from ..layers import DeviceLike, Operations, cast


class ClipVisionTower(nn.Module):
    """Images (B, 3, H, W), normalised for CLIP -> tokens (B, N, D) before the final layer norm."""

    def __init__(
        self,
        config: ClipVisionConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the tower; `operations` is a namespace of layer classes."""
        super().__init__()
        self.config = config
        self.vision_model = _VisionModel(config, operations, dtype=dtype, device=device)

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        """Keys of the projection to the joint text-image space and of the norm before it."""
        dim = self.config.hidden_size
        return {
            "visual_projection.weight": (self.config.projection_dim, dim),
            "vision_model.post_layernorm.weight": (dim,),
            "vision_model.post_layernorm.bias": (dim,),
        }

    def forward(self, images: Tensor) -> Tensor:
        """Encode images."""
        return self.vision_model(images)


class _Embeddings(nn.Module):
    def __init__(self, config: ClipVisionConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        dim, patch = config.hidden_size, config.patch_size
        self.class_embedding = nn.Parameter(torch.zeros(dim, **where))
        self.patch_embedding = operations.Conv2d(3, dim, patch, stride=patch, bias=False, **where)
        self.position_embedding = nn.Embedding(config.tokens, dim, **where)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        first = cast(self.class_embedding, patches).expand(patches.shape[0], 1, -1)
        return torch.cat([first, patches], dim=1) + cast(self.position_embedding.weight, patches)


class _Attention(nn.Module):
    def __init__(self, config: ClipVisionConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.heads = config.num_attention_heads
        width = config.hidden_size
        self.q_proj = operations.Linear(width, width, **where)
        self.k_proj = operations.Linear(width, width, **where)
        self.v_proj = operations.Linear(width, width, **where)
        self.out_proj = operations.Linear(width, width, **where)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            rearrange(layer(x), "b n (h d) -> b h n d", h=self.heads)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


def _quick_gelu(x: Tensor) -> Tensor:
    """Compute x * sigmoid(1.702 x) with one temporary tensor."""
    gate = 1.702 * x
    return torch.sigmoid_(gate).mul_(x) if not torch.is_grad_enabled() else gate.sigmoid() * x


class _Mlp(nn.Module):
    def __init__(self, config: ClipVisionConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.quick = config.hidden_act == "quick_gelu"
        self.fc1 = operations.Linear(config.hidden_size, config.intermediate_size, **where)
        self.fc2 = operations.Linear(config.intermediate_size, config.hidden_size, **where)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        return self.fc2(_quick_gelu(x) if self.quick else F.gelu(x))


class _Layer(nn.Module):
    def __init__(self, config: ClipVisionConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.layer_norm1 = operations.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, **where)
        self.self_attn = _Attention(config, operations, **where)
        self.layer_norm2 = operations.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, **where)
        self.mlp = _Mlp(config, operations, **where)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class _Encoder(nn.Module):
    def __init__(self, config: ClipVisionConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _Layer(config, operations, **where) for _ in range(config.num_hidden_layers)
        )


class _VisionModel(nn.Module):
    def __init__(self, config: ClipVisionConfig, operations: Operations, **where: Any) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config, operations, **where)
        # The key is misspelt in every CLIP checkpoint.
        self.pre_layrnorm = operations.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, **where)
        self.encoder = _Encoder(config, operations, **where)

    def forward(self, images: Tensor) -> Tensor:
        x = self.pre_layrnorm(self.embeddings(images))
        for layer in self.encoder.layers:
            x = layer(x)
        return x
