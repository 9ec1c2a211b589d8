"""Conditioners of text and audio prompts, and the table of all conditioners of a model.

B batch, S samples, C channels, L latents, N tokens, D width, T spectrogram frames.

All compute in float32 unless ComfyUI decides otherwise. Random numbers come from the caller's source, in the
order of the published code, so that a seed gives the same result. Lines marked (as published) look odd, but
the weights were trained that way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from ..config import (
    AudioAutoencoderConditionerConfig,
    ClipConditionerConfig,
    ConditionerConfig,
    MelConditionerConfig,
    TextConditionerConfig,
)
from ..errors import InputError
from ..networks.autoencoder.autoencoder import Autoencoder
from ..networks.layers import DeviceLike, Operations, cast
from ..random_numbers import RandomNumbers
from .video_conditioner import VideoConditioner

if TYPE_CHECKING:
    from .text_encoder import TextEncoder


class Conditioner(Protocol):
    """Encodes the prompts of a batch. All conditioners have this interface.

    Attributes:
        draws_random_numbers: False if equal prompts give equal tokens, so that they can be encoded once.
    """

    draws_random_numbers: bool

    def __init__(
        self,
        config: Any,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the layers.

        Args:
            config: Sizes and settings, of the conditioner's own type.
            cond_dim: Width of the context.
            operations: The layer classes to use.
            dtype: Type of the weights; None for torch's default.
            device: Device of the weights.
        """

    def __call__(
        self,
        prompts: Sequence[Any],
        device: torch.device,
        random: RandomNumbers,
        mask_audio_prompt: bool = True,
    ) -> Tensor:
        """Encode prompts.

        Args:
            prompts: One per batch item.
            device: Device to compute on.
            random: Source of random numbers.
            mask_audio_prompt: Whether to hide the random part of an audio prompt that a published model
                hides. The same random numbers are drawn either way.

        Returns:
            Tokens (B, N, D).
        """


class TextConditioner(nn.Module):
    """`t5`: texts -> tokens (B, max_length, D). Padding tokens are zeros."""

    draws_random_numbers = False

    def __init__(
        self,
        config: TextConditionerConfig,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the projection; arguments as in `Conditioner`. The loader attaches the text encoder."""
        super().__init__()
        self.config = config
        self.text_encoder: TextEncoder | None = None  # not in the checkpoint
        self.proj_out: nn.Module = nn.Identity()
        if config.dim != cond_dim:
            self.proj_out = operations.Linear(config.dim, cond_dim, dtype=dtype, device=device)

    def forward(
        self,
        prompts: Sequence[str],
        device: torch.device,
        random: RandomNumbers,
        mask_audio_prompt: bool = True,
    ) -> Tensor:
        """Encode texts; see `Conditioner`.

        Raises:
            InputError: The model was loaded without its text encoder.
        """
        if self.text_encoder is None:
            raise InputError(
                "This model was loaded without its text encoder. Load it with get_pretrained_model."
            )
        states, mask = self.text_encoder(prompts, self.config.max_length, device)
        return self.proj_out(states) * mask[..., None]


class MelConditioner(nn.Module):
    """`mel_spec`: waveforms -> one token per spectrogram frame, (B, S // hop_length + 1, feature_dim)."""

    draws_random_numbers = True

    def __init__(
        self,
        config: MelConditionerConfig,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the projection; arguments as in `Conditioner`.

        `cond_dim` is unused: the tokens have this width already.
        """
        super().__init__()
        self.config = config
        self.proj_features = operations.Linear(
            config.n_mel_channels, config.feature_dim, dtype=dtype, device=device
        )

    def forward(
        self,
        prompts: Sequence[Tensor],
        device: torch.device,
        random: RandomNumbers,
        mask_audio_prompt: bool = True,
    ) -> Tensor:
        """Encode waveforms, each (C, S) at the model's sample rate; see `Conditioner`."""
        waveforms = torch.stack([prompt.mean(dim=0) for prompt in prompts])
        return self.project(log_mel(waveforms.to(device), self.config), random, mask_audio_prompt)

    def project(self, features: Tensor, random: RandomNumbers, mask_audio_prompt: bool = True) -> Tensor:
        """Turn log mel spectrograms (B, mels, T) into tokens (B, T, feature_dim)."""
        masked = mask_spans(features, self.config.mask_ratio_start, self.config.mask_ratio_end, random)
        features = masked if mask_audio_prompt else features
        return self.proj_features(features.transpose(1, 2))


def log_mel(waveforms: Tensor, config: MelConditionerConfig) -> Tensor:
    """Compute the natural log of the magnitude mel spectrogram, at least 1e-5: HTK scale, no norm.

    (as published) The filters are built for `target_sample_rate`, whatever the rate of the waveforms.

    Args:
        waveforms: (B, S), mono.
        config: Settings of the spectrogram.

    Returns:
        (B, mels, T), T = S // hop_length + 1.
    """
    from transformers.audio_utils import mel_filter_bank

    window = torch.hann_window(config.win_length, dtype=waveforms.dtype, device=waveforms.device)
    spectrum = torch.stft(
        waveforms,
        config.n_fft,
        config.hop_length,
        config.win_length,
        window,
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    filters = mel_filter_bank(
        num_frequency_bins=config.n_fft // 2 + 1,
        num_mel_filters=config.n_mel_channels,
        min_frequency=0.0,
        max_frequency=config.target_sample_rate / 2,
        sampling_rate=config.target_sample_rate,
        norm=None,
        mel_scale="htk",
    )
    bank = torch.from_numpy(filters).to(waveforms.dtype).to(waveforms.device)  # Apple's GPUs have no float64
    return (bank.T @ spectrum.abs()).clamp(min=1e-5).log()


def mask_spans(x: Tensor, ratio_start: float, ratio_end: float, random: RandomNumbers) -> Tensor:
    """Set a random span of the last dimension to 0, one span per item.

    (as published) Applies at inference as well.

    Args:
        x: (B, ..., T).
        ratio_start: Smallest fraction of T to hide, 0..1.
        ratio_end: Upper bound of the fraction; up to ratio_start nothing is hidden or drawn.
        random: Source of the fractions and positions.

    Returns:
        A masked copy, or x itself if nothing is hidden.
    """
    if ratio_start >= ratio_end:
        return x
    ratios = ratio_start + (ratio_end - ratio_start) * random.uniform(x.shape[0])
    x = x.clone()
    for index, (item, ratio) in enumerate(zip(x, ratios, strict=True)):
        length = int(x.shape[-1] * ratio)
        [start] = random.item(index).integers(x.shape[-1] - length + 1)
        item[..., start : start + length] = 0
    return x


class AudioAutoencoderConditioner(nn.Module):
    """`audio_autoencoder` and `audio_autoencoder_v2`: waveforms -> tokens (B, latents or 128, D)."""

    draws_random_numbers = True

    def __init__(
        self,
        config: AudioAutoencoderConditionerConfig,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        """Build the autoencoder's encoder and the projections; arguments as in `Conditioner`."""
        super().__init__()
        self.config = config
        options: dict[str, Any] = {"dtype": dtype, "device": device}
        latent_dim = config.autoencoder.latent_dim
        self.pretransform = Autoencoder(config.autoencoder, operations, decodes=False, **options)
        self.proj_out = operations.Linear(latent_dim, cond_dim, **options)
        if config.latent_seq_len is None:
            self.empty_audio_feat = nn.Parameter(torch.zeros(1, config.empty_seq_len, cond_dim, **options))
        else:
            self.proj_features_128 = operations.Linear(config.latent_seq_len, config.pooled_tokens, **options)

    def forward(
        self,
        prompts: Sequence[Tensor],
        device: torch.device,
        random: RandomNumbers,
        mask_audio_prompt: bool = True,
    ) -> Tensor:
        """Encode waveforms, each (C, S) at the model's sample rate, all of one length; see `Conditioner`."""
        waveforms = torch.stack(list(prompts))
        pooled = self.config.latent_seq_len is not None
        if pooled:
            masked = mask_spans(waveforms, self.config.mask_ratio_start, self.config.mask_ratio_end, random)
            waveforms = masked if mask_audio_prompt else waveforms
        latents = self.pretransform.encode(waveforms.to(device), random)
        if pooled:
            latents = self.proj_features_128(latents)
        tokens = self.proj_out(latents.transpose(1, 2))
        if not pooled:
            silent = ~waveforms.flatten(1).any(dim=1).to(device)
            tokens = torch.where(silent[:, None, None], cast(self.empty_audio_feat, tokens), tokens)
        return tokens


_CONDITIONER_CLASSES: dict[type, Any] = {
    TextConditionerConfig: TextConditioner,
    ClipConditionerConfig: VideoConditioner,
    MelConditionerConfig: MelConditioner,
    AudioAutoencoderConditionerConfig: AudioAutoencoderConditioner,
}


class MultiConditioner(nn.Module):
    """All conditioners of a model, by id, in the order of the configuration."""

    def __init__(
        self,
        configs: Mapping[str, ConditionerConfig],
        cond_dim: int,
        operations: Operations = nn,
        **options: Any,
    ) -> None:
        """Build the conditioners.

        Args:
            configs: The entries of `conditioning.configs`, by id.
            cond_dim: Width of the context.
            operations: The layer classes to use.
            **options: dtype and device of the weights.
        """
        super().__init__()
        self.conditioners = nn.ModuleDict(
            {
                name: _CONDITIONER_CLASSES[type(config)](config, cond_dim, operations, **options)
                for name, config in configs.items()
            }
        )
