"""The autoencoder of a model: Oobleck encoder and decoder around a variational bottleneck.

Instead of the Oobleck encoder, spectral values may be measured; see `spectral`.

B batch, C channels, S samples, L latents, S = L * downsampling_ratio.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...config import AutoencoderConfig, SpectralEncoderConfig
from ...errors import ConfigError, is_out_of_memory
from ...utf8 import get_logger
from ..keys import published_shapes
from ..layers import DeviceLike, Operations
from .oobleck import OobleckDecoder, OobleckEncoder
from .spectral import REACH, LatentMap, check_spectral_sizes, measure_spectrum, read_latent_map
from .tiling import Check, Free, decode_in_chunks, encode_in_chunks

log = get_logger(__name__)

_CHUNK = 32  # latents


class NormalNumbers(Protocol):
    """A source of standard normal numbers; `audiox_ext.random_numbers.RandomNumbers` is one."""

    @property
    def sources(self) -> int:
        """The number of generators: 1, or the size of the batch."""
        ...

    def item(self, index: int, /) -> NormalNumbers:
        """Return the source for a single batch item."""
        ...

    def normal(self, shape: Sequence[int], /) -> Tensor:
        """Draw standard normal numbers, float32."""
        ...


def estimate_encoding_bytes(config: AutoencoderConfig, samples: int) -> int:
    """Estimate the memory for encoding one waveform: a few of its widest activations, float32."""
    if isinstance(config.encoder, SpectralEncoderConfig):
        return 20 * 4 * config.encoder.in_channels * samples  # overlapping windows and their spectra
    return 6 * 4 * config.encoder.channels * samples


def estimate_decoding_bytes(config: AutoencoderConfig, samples: int) -> int:
    """Estimate the memory for decoding one waveform."""
    return 6 * 4 * config.decoder.channels * samples


class Autoencoder(nn.Module):
    """Turns waveforms into latents and back. Keys: `model.encoder.*`, `model.decoder.*`."""

    def __init__(
        self,
        config: AutoencoderConfig,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
        decodes: bool = True,
    ) -> None:
        """Build the encoder and the decoder.

        Args:
            config: Sizes of both.
            operations: A namespace of layer classes.
            dtype: Type of the weights; None for torch's default.
            device: Device of the weights.
            decodes: False builds no decoder, for a conditioner that only encodes.

        Raises:
            ConfigError: The sizes of a half are inconsistent, or a spectral encoder lacks its decoder.
        """
        super().__init__()
        self.config = config
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        parts: dict[str, nn.Module] = {}
        if isinstance(config.encoder, SpectralEncoderConfig):
            if not decodes:
                raise ConfigError("config.json: a spectral encoder cannot encode without its decoder.")
            check_spectral_sizes(config, config.encoder.sample_rate)
        else:
            parts["encoder"] = OobleckEncoder(config.encoder, operations, **where)
        if decodes:
            parts["decoder"] = OobleckDecoder(config.decoder, operations, **where)
        self.model = nn.ModuleDict(parts)

    def unused_keys(self) -> dict[str, tuple[int, ...]]:
        """The keys of the decoder, if none is built."""
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
        """Draw latents (B, latent_dim, L) for waveforms (B, C, S) in [-1, 1]; see `posterior`.

        Draws one standard normal number per latent value.
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
        """Draw latents of one waveform (1, C, S) for a whole batch.

        Returns:
            (1, latent_dim, L), or (B, latent_dim, L) if each item has its own seed.
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
        """Compute the distribution of the latents of waveforms. Draws no random numbers.

        If memory runs out, the work is repeated in small chunks; if it runs out again, torch's error remains.

        Args:
            waveforms: (B, C, S) in [-1, 1].
            piece: Largest number of latents to compute at once, overlap included; None for all. The result
                is the same.
            check: Called before each chunk. An error that it raises ends the work.
            free: Called after memory ran out; by default torch's cache is emptied.

        Returns:
            Mean and standard deviation, (B, latent_dim, L) each.
        """
        if isinstance(self.config.encoder, SpectralEncoderConfig):
            mean = self._measure_latents(waveforms.float(), self.config.encoder.sample_rate, piece, check)
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
        """Decode latents (B, latent_dim, L) to waveforms (B, C, S), float32; see `posterior`."""
        decoder = self._decoder()
        chunk = _chunk(latents.shape[-1], piece, decoder.receptive_field)
        work = partial(decode_in_chunks, decoder)
        return self._in_chunks(work, latents.float(), chunk, check, free)

    def read_latent_map(self, device: DeviceLike = None) -> LatentMap:
        """Read the meaning of latents from a spectral decoder on `device`."""
        encoder = self.config.encoder
        assert isinstance(encoder, SpectralEncoderConfig)
        return read_latent_map(self._decoder(), encoder.sample_rate, self.config.downsampling_ratio, device)

    def _measure_latents(
        self, waveforms: Tensor, rate: int, piece: int | None, check: Check | None
    ) -> Tensor:
        """Measure spectral values as latents, `piece` of them at a time, with the same result."""
        ratio = self.config.downsampling_ratio
        count, latent_map = waveforms.shape[-1] // ratio, self.read_latent_map(waveforms.device)
        size = max(_CHUNK, piece or count)
        latents = []
        for first in range(0, count, size):
            if check is not None:
                check()
            begin, end = max(0, first - REACH), min(count, first + size + REACH)
            values = measure_spectrum(waveforms[..., begin * ratio : end * ratio], rate, ratio)
            latents.append(latent_map.to_latents(values[..., first - begin : first - begin + size]))
        return torch.cat(latents, dim=-1)

    def _in_chunks(
        self,
        work: Callable[..., Tensor],
        batch: Tensor,
        chunk: int,
        check: Check | None,
        free: Free | None,
    ) -> Tensor:
        """Call `work(items, chunk=, check=)` for a batch; in small chunks after memory ran out."""
        at_once = 1 if self.config.iterate_batch else len(batch)
        try:
            parts = [work(part, chunk=chunk, check=check) for part in batch.split(at_once)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            log.warning("The autoencoder ran out of memory. It continues in chunks.")
        # Outside the handler, because the error keeps the tensors of the failed attempt alive.
        (free or partial(_free_cache, batch.device))()
        return torch.cat([work(part, chunk=_CHUNK, check=check) for part in batch.split(1)])

    def _decoder(self) -> OobleckDecoder:
        """The decoder, with its type."""
        decoder = self.model["decoder"]
        assert isinstance(decoder, OobleckDecoder)
        return decoder


def _free_cache(device: torch.device) -> None:
    """Empty torch's cache of a device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def _chunk(length: int, piece: int | None, field: int) -> int:
    """Compute how many latents a chunk contributes, so that it has at most `piece` with its overlap."""
    if piece is None or length <= piece:
        return length
    return max(_CHUNK, piece - 2 * field)
