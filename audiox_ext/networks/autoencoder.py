"""The autoencoder of a model: Oobleck encoder and decoder around a variational bottleneck.

B batch, C channels, S samples, L latents, S = L * downsampling_ratio.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import AutoencoderConfig
from .layers import DeviceLike, Operations
from .oobleck import OobleckDecoder, OobleckEncoder, decode_in_chunks

log = logging.getLogger(__name__)

_CHUNK = 32  # latents


def encoding_bytes(config: AutoencoderConfig, samples: int) -> int:
    """Rough need of encoding one waveform beside the weights: a few of the widest activations, float32."""
    return 6 * 4 * config.encoder.channels * samples


def decoding_bytes(config: AutoencoderConfig, samples: int) -> int:
    """Rough need of decoding to one waveform beside the weights."""
    return 6 * 4 * config.decoder.channels * samples


class Autoencoder(nn.Module):
    """Waveform <-> latents. Keys: `model.encoder.*`, `model.decoder.*`.

    decodes: False builds no decoder, for a conditioner whose checkpoint holds one that nothing uses.
    """

    def __init__(
        self,
        config: AutoencoderConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
        decodes: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        parts: dict[str, nn.Module] = {"encoder": OobleckEncoder(config.encoder, operations, **where)}
        if decodes:
            parts["decoder"] = OobleckDecoder(config.decoder, operations, **where)
        self.model = nn.ModuleDict(parts)

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        """The decoder's keys where none is built."""
        if "decoder" in self.model:
            return {}
        from ..state_dict import published_shapes

        decoder = OobleckDecoder(self.config.decoder, device="meta")
        return {f"model.decoder.{key}": shape for key, shape in published_shapes(decoder).items()}

    def encode(self, waveforms: Tensor, generator: torch.Generator) -> Tensor:
        """A sample of the posterior: (B, C, S) in [-1, 1] -> (B, latent_dim, L).

        Draws one standard normal number a latent value from the generator, on the CPU.
        """
        if self.config.iterate_batch:
            return torch.cat([self._encode(item[None], generator) for item in waveforms])
        return self._encode(waveforms, generator)

    def _encode(self, waveforms: Tensor, generator: torch.Generator) -> Tensor:
        mean, scale = self.model["encoder"](waveforms).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=generator).to(mean)
        return mean + (F.softplus(scale) + 1e-4) * noise

    def decode(self, latents: Tensor) -> Tensor:
        """(B, latent_dim, L) -> (B, C, S), float32. In chunks, with the same result, where the whole needs
        too much.
        """
        decoder = self._decoder()
        at_once = latents.float().split(1 if self.config.iterate_batch else latents.shape[0])
        try:
            return torch.cat([decoder(part) for part in at_once])
        except torch.OutOfMemoryError:
            log.warning("Decoding at once needs more memory than there is: decoding in chunks.")
        # Outside the handler, which keeps the tensors of the failed try alive.
        return torch.cat([decode_in_chunks(decoder, part, _CHUNK) for part in latents.float().split(1)])

    def _decoder(self) -> OobleckDecoder:
        decoder = self.model["decoder"]
        assert isinstance(decoder, OobleckDecoder)
        return decoder
