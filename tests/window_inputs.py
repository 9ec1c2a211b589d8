"""Inputs of a network that runs in windows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def native(model: Any) -> int:
    return model.config.latent_count


def context_like(model: Any, batch: int, seed: int) -> Tensor:
    tokens = 384 if model.config.network.type == "mmdit" else 40
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, model.config.network.cond_token_dim, generator=generator)


def latents_like(model: Any, batch: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.config.network.io_channels, length, generator=generator)
