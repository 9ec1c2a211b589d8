"""Sizes of an autoencoder."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OobleckEncoderConfig:
    """Sizes of the Oobleck encoder.

    Attributes:
        in_channels: Channels of the waveform.
        channels: Width of the first layer.
        c_mults: Width of each stage, as a multiple of `channels`.
        strides: Downsampling factor of each stage, at least 2.
        latent_dim: Channels of the result: mean and scale, twice the latents' channels.
    """

    in_channels: int
    channels: int
    c_mults: tuple[int, ...]
    strides: tuple[int, ...]
    latent_dim: int


@dataclass(frozen=True, kw_only=True)
class SpectralEncoderConfig:
    """An encoder without weights that measures spectral values.

    Attributes:
        in_channels: Channels of the waveform; must be 2.
        sample_rate: Sample rate in hertz; must be the model's.
    """

    in_channels: int
    sample_rate: int


@dataclass(frozen=True, kw_only=True)
class OobleckDecoderConfig:
    """Sizes of the Oobleck decoder.

    Attributes:
        out_channels: Channels of the waveform.
        channels: Width of the last layer.
        c_mults: Width of each stage, as a multiple of `channels`, listed from the waveform to the latents.
        strides: Upsampling factor of each stage, at least 2, listed like `c_mults`.
        latent_dim: Channels of the latents.
        final_tanh: Whether a tanh limits the waveform to [-1, 1].
    """

    out_channels: int
    channels: int
    c_mults: tuple[int, ...]
    strides: tuple[int, ...]
    latent_dim: int
    final_tanh: bool


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """One waveform <-> latents autoencoder with a variational bottleneck.

    Attributes:
        encoder: The encoder.
        decoder: The decoder.
        latent_dim: Channels of the latents.
        downsampling_ratio: Samples per latent: the product of the strides.
        io_channels: Channels of the waveform; unused, because the encoder and the decoder have their own.
        iterate_batch: Whether to encode and decode the items of a batch one at a time.
    """

    encoder: OobleckEncoderConfig | SpectralEncoderConfig
    decoder: OobleckDecoderConfig
    latent_dim: int
    downsampling_ratio: int
    io_channels: int
    iterate_batch: bool = False

    def __post_init__(self) -> None:
        """Check that the values are consistent. Raises `ConfigError`."""
        if isinstance(self.encoder, OobleckEncoderConfig):
            self._check("encoder", self.encoder.strides, self.encoder.latent_dim, 2 * self.latent_dim)
        elif self.encoder.in_channels != 2:
            raise ConfigError(
                f"config.json: a spectral encoder takes 2 channels, but in_channels is "
                f"{self.encoder.in_channels}. Set it to 2."
            )
        self._check("decoder", self.decoder.strides, self.decoder.latent_dim, self.latent_dim)

    def _check(self, name: str, strides: tuple[int, ...], channels: int, expected: int) -> None:
        """Raise `ConfigError` unless strides and channels of a half fit the autoencoder."""
        if math.prod(strides) != self.downsampling_ratio:
            raise ConfigError(
                f"config.json: the {name}'s strides {strides} multiply to {math.prod(strides)}, but "
                f"downsampling_ratio is {self.downsampling_ratio}."
            )
        if channels != expected:
            raise ConfigError(
                f"config.json: latent_dim {self.latent_dim} requires {expected} channels in the {name}, "
                f"got {channels}."
            )
