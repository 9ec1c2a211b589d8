"""The autoencoder of a model: Oobleck encoder and decoder around a variational bottleneck. In place of the
encoder strengths may be measured.

B batch, C channels, S samples, L latents, S = L * downsampling_ratio.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import AutoencoderConfig, SpectralEncoderConfig
from ...errors import ConfigError, is_out_of_memory
from ..keys import published_shapes
from ..layers import DeviceLike, Operations
from .oobleck import OobleckDecoder, OobleckEncoder
from .spectral import REACH, LatentMap, check_spectral_sizes, measure_spectrum, read_latent_map
from .tiling import Check, Free, decode_in_chunks, encode_in_chunks

log = logging.getLogger(__name__)

_CHUNK = 32  # latents


class NormalNumbers(Protocol):
    """A source of standard normal numbers; `audiox_ext.random_numbers.RandomNumbers` is one."""

    @property
    def sources(self) -> int:
        """1, or the size of the batch where each item has its own generator."""
        ...

    def item(self, index: int, /) -> NormalNumbers:
        """The source for one batch item alone."""
        ...

    def normal(self, shape: Sequence[int], /) -> Tensor:
        """Standard normal numbers, float32."""
        ...


def estimate_encoding_bytes(config: AutoencoderConfig, samples: int) -> int:
    """Rough need of encoding one waveform beside the weights: a few of the widest activations, float32."""
    if isinstance(config.encoder, SpectralEncoderConfig):
        return 20 * 4 * config.encoder.in_channels * samples  # windows that overlap, and their spectra
    return 6 * 4 * config.encoder.channels * samples


def estimate_decoding_bytes(config: AutoencoderConfig, samples: int) -> int:
    """Rough need of decoding to one waveform beside the weights."""
    return 6 * 4 * config.decoder.channels * samples


class Autoencoder(nn.Module):
    """Waveform <-> latents. Keys: `model.encoder.*`, `model.decoder.*`.

    decodes: False builds no decoder, for a conditioner whose checkpoint holds one that nothing uses. Raises
    `ConfigError` where the encoder reads in it what latents are.
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
        parts: dict[str, nn.Module] = {}
        if isinstance(config.encoder, SpectralEncoderConfig):
            if not decodes:
                raise ConfigError("config.json: an encoder of strengths without its decoder cannot encode.")
            check_spectral_sizes(config, config.encoder.sample_rate)
        else:
            parts["encoder"] = OobleckEncoder(config.encoder, operations, **where)
        if decodes:
            parts["decoder"] = OobleckDecoder(config.decoder, operations, **where)
        self.model = nn.ModuleDict(parts)

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        """The decoder's keys where none is built."""
        if "decoder" in self.model:
            return {}
        decoder = OobleckDecoder(self.config.decoder, device="meta")
        return {f"model.decoder.{key}": shape for key, shape in published_shapes(decoder).items()}

    def encode(
        self,
        waveforms: Tensor,
        random: NormalNumbers,
        piece: int | None = None,
        check: Check | None = None,
        free: Free | None = None,
    ) -> Tensor:
        """A sample of the posterior: (B, C, S) in [-1, 1] -> (B, latent_dim, L). Arguments as `posterior`.

        Draws one standard normal number a latent value.
        """
        mean, deviation = self.posterior(waveforms, piece, check, free)
        if self.config.iterate_batch:
            shape = (1, *mean.shape[1:])
            noise = torch.cat([random.item(index).normal(shape) for index in range(len(mean))])
        else:
            noise = random.normal(mean.shape)
        return mean + deviation * noise.to(mean)

    def encode_once(
        self,
        waveform: Tensor,
        random: NormalNumbers,
        piece: int | None = None,
        check: Check | None = None,
        free: Free | None = None,
    ) -> Tensor:
        """One waveform for a whole batch: (1, C, S) -> (1, latent_dim, L), or where each item has its own
        seed, a sample for each, (B, latent_dim, L).
        """
        mean, deviation = self.posterior(waveform, piece, check, free)
        return mean + deviation * random.normal((random.sources, *mean.shape[1:])).to(mean)

    def posterior(
        self,
        waveforms: Tensor,
        piece: int | None = None,
        check: Check | None = None,
        free: Free | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, C, S) -> mean and standard deviation, (B, latent_dim, L) each. Draws no random numbers.

        piece: latents that are made at once at most, where the autoencoder is not so small that they would be
        all overlap; None for all. More are made in chunks, with the same result, and so is what needs more
        memory than there is. check: called before each piece; what it raises ends the work. free: called
        after memory ran out, by default what torch caches is given back. What runs out of memory in small
        chunks, too, raises torch's own error.
        """
        if isinstance(self.config.encoder, SpectralEncoderConfig):
            mean = self._measured(waveforms.float(), self.config.encoder.sample_rate, piece, check)
            return mean, torch.zeros_like(mean)
        encoder = self.model["encoder"]
        assert isinstance(encoder, OobleckEncoder)
        latents = waveforms.shape[-1] // self.config.downsampling_ratio
        chunk = _chunk(latents, piece, encoder.receptive_field)
        encoded = self._in_chunks(partial(encode_in_chunks, encoder), waveforms, chunk, check, free)
        mean, scale = encoded.chunk(2, dim=1)
        return mean, F.softplus(scale) + 1e-4

    def decode(
        self,
        latents: Tensor,
        piece: int | None = None,
        check: Check | None = None,
        free: Free | None = None,
    ) -> Tensor:
        """(B, latent_dim, L) -> (B, C, S), float32. piece, check, free: as in `posterior`, of what is
        decoded.
        """
        decoder = self._decoder()
        chunk = _chunk(latents.shape[-1], piece, decoder.receptive_field)
        work = partial(decode_in_chunks, decoder)
        return self._in_chunks(work, latents.float(), chunk, check, free)

    def read_latent_map(self, device: DeviceLike = None) -> LatentMap:
        """What the latents of a decoder of strengths are, which lies on `device`."""
        encoder = self.config.encoder
        assert isinstance(encoder, SpectralEncoderConfig)
        return read_latent_map(self._decoder(), encoder.sample_rate, self.config.downsampling_ratio, device)

    def _measured(self, waveforms: Tensor, rate: int, piece: int | None, check: Check | None) -> Tensor:
        """Latents that tell strengths, `piece` of them at a time, which changes nothing."""
        ratio = self.config.downsampling_ratio
        count, mapped = waveforms.shape[-1] // ratio, self.read_latent_map(waveforms.device)
        size = max(_CHUNK, piece or count)
        found = []
        for first in range(0, count, size):
            if check is not None:
                check()
            begin, end = max(0, first - REACH), min(count, first + size + REACH)
            told = measure_spectrum(waveforms[..., begin * ratio : end * ratio], rate, ratio)
            found.append(mapped.to_latents(told[..., first - begin : first - begin + size]))
        return torch.cat(found, dim=-1)

    def _in_chunks(
        self,
        work: Callable[..., Tensor],
        batch: Tensor,
        chunk: int,
        check: Check | None,
        free: Free | None,
    ) -> Tensor:
        """work(items, chunk=, check=) of a batch; in small chunks where memory does not suffice."""
        at_once = 1 if self.config.iterate_batch else len(batch)
        try:
            parts = [work(part, chunk=chunk, check=check) for part in batch.split(at_once)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.warning("The autoencoder needs more memory than there is: working in chunks.")
        # Outside the handler, which keeps the tensors of the failed try alive.
        (free or partial(_free_cache, batch.device))()
        return torch.cat([work(part, chunk=_CHUNK, check=check) for part in batch.split(1)])

    def _decoder(self) -> OobleckDecoder:
        decoder = self.model["decoder"]
        assert isinstance(decoder, OobleckDecoder)
        return decoder


def _free_cache(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _chunk(length: int, piece: int | None, field: int) -> int:
    """Latents a chunk contributes, so that it and its overlap are at most `piece`."""
    if piece is None or length <= piece:
        return length
    return max(_CHUNK, piece - 2 * field)
