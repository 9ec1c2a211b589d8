"""The parts that both kinds of network share: the time token, projections and outer convolutions.

B batch, C latent channels, L latents, D width. Names are the state-dict keys.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..config import NetworkConfig
from .layers import DeviceLike, FourierFeatures, Operations

_TIME_FEATURES = 128


class LatentProjections(nn.Module):
    """Base of the transformers: projects latents to tokens and back."""

    def __init__(
        self, config: NetworkConfig, operations: Operations, dtype: torch.dtype | None, device: DeviceLike
    ) -> None:
        """Build the projections; arguments as in `DenoisingNetwork`."""
        super().__init__()
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self.project_in = operations.Linear(config.io_channels, config.embed_dim, bias=False, **where)
        self.project_out = operations.Linear(config.embed_dim, config.io_channels, bias=False, **where)


class DenoisingNetwork(nn.Module):
    """Base of the denoising networks. A subclass adds its `transformer`."""

    transformer: LatentProjections

    def __init__(
        self,
        config: NetworkConfig,
        operations: Operations,
        dtype: torch.dtype | None,
        device: DeviceLike,
        compute_dtype: torch.dtype | None,
    ) -> None:
        """Build the layers around the transformer.

        Args:
            config: Sizes of the network.
            operations: A namespace of layer classes, such as `torch.nn`.
            dtype: Type of the weights; None for torch's default.
            device: Device of the weights.
            compute_dtype: Type of the arithmetic, where the layers can cast; None for the weights' type.
        """
        super().__init__()
        self.config = config
        self.compute_dtype = compute_dtype or dtype or torch.float32
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        width, channels = config.embed_dim, config.io_channels
        self.timestep_features = FourierFeatures(_TIME_FEATURES, device)
        self.to_timestep_embed = nn.Sequential(
            operations.Linear(2 * _TIME_FEATURES, width, **where),
            nn.SiLU(),
            operations.Linear(width, width, **where),
        )
        self.preprocess_conv = operations.Conv1d(channels, channels, 1, bias=False, **where)
        self.postprocess_conv = operations.Conv1d(channels, channels, 1, bias=False, **where)

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        """Keys of `to_global_embed`, which checkpoints with a global_cond_dim hold without using."""
        if not self.config.global_cond_dim:
            return {}
        return {
            "to_global_embed.0.weight": (self.config.embed_dim, self.config.global_cond_dim),
            "to_global_embed.2.weight": (self.config.embed_dim, self.config.embed_dim),
        }

    def enter(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Turn noised latents x (B, C, L) and times t (B,) into tokens.

        Returns:
            The time token (B, 1, D), and all tokens (B, L + 1, D), which begin with it.
        """
        x = x.to(self.compute_dtype)
        x = x + self.preprocess_conv(x)
        # The features of time are float32: half precision could not tell neighbouring steps apart.
        time = self.to_timestep_embed(self.timestep_features(t).to(self.compute_dtype))[:, None]
        tokens = self.transformer.project_in(x.transpose(1, 2))
        return time, torch.cat([time, tokens], dim=1)

    def leave(self, tokens: Tensor) -> Tensor:
        """Turn the transformer's tokens (B, L + 1, D) into the velocity (B, C, L), float32."""
        x = self.transformer.project_out(tokens)[:, 1:].transpose(1, 2)
        return (x + self.postprocess_conv(x)).float()
