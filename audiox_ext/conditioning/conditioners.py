"""Conditioners: text, video and audio prompts -> tokens, and their assembly into the network's context.

B batch, T video frames, S samples, L latents, N tokens, D width. All compute in float32 unless ComfyUI
decides otherwise. Random numbers come from the caller's source, in the order of the published code, so that
a seed means the same. Lines marked (as published) look odd, and the weights were trained so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from einops import rearrange
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
from ..networks.vision.clip import ClipVisionTower
from ..networks.vision.temporal import TemporalTransformer
from ..random_numbers import RandomNumbers

if TYPE_CHECKING:
    from .text_encoder import TextEncoder

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_FRAMES_AT_ONCE = 16  # more are no quicker, and need more memory


class Conditioner(Protocol):
    """(prompts of a batch, where to compute, random numbers) -> tokens (B, N, D).

    Where draws_random_numbers is False, equal prompts give equal tokens, and can be encoded once. With masks
    False a conditioner that hides a random part of its prompts has them whole, after the same draws.
    """

    draws_random_numbers: bool

    def __call__(
        self, prompts: Sequence[Any], device: torch.device, random: RandomNumbers, masks: bool = True
    ) -> Tensor: ...


class TextConditioner(nn.Module):
    """`t5`: prompts -> tokens (B, max_length, D). Padding tokens are zeros."""

    draws_random_numbers = False

    def __init__(
        self,
        config: TextConditionerConfig,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.text_encoder: TextEncoder | None = None  # not in the checkpoint: attached by the loader
        self.proj_out: nn.Module = nn.Identity()
        if config.dim != cond_dim:
            self.proj_out = operations.Linear(config.dim, cond_dim, dtype=dtype, device=device)

    def forward(
        self, prompts: Sequence[str], device: torch.device, random: RandomNumbers, masks: bool = True
    ) -> Tensor:
        if self.text_encoder is None:
            raise InputError(
                "This model was loaded without its text encoder. Load it with get_pretrained_model."
            )
        states, mask = self.text_encoder(prompts, self.config.max_length, device)
        return self.proj_out(states) * mask[..., None]


class VideoConditioner(nn.Module):
    """`clip` and `clip-with-sync-w-empty-feat`: frames and Synchformer features -> tokens (B, out_features,
    D).
    """

    draws_random_numbers = False

    def __init__(
        self,
        config: ClipConditionerConfig,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        super().__init__()
        self.config = config
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        dim, tokens = config.temporal_dim, config.frames * config.clip.tokens
        self.visual_encoder_model = ClipVisionTower(config.clip, operations, **where)
        self.Temp_pos_embedding = nn.Parameter(torch.zeros(1, config.frames, dim, **where))
        self.Temp_transformer = TemporalTransformer(
            dim, config.temporal_depth, config.temporal_heads, config.temporal_dim_head, operations, **where
        )
        self.proj = operations.Linear(tokens, config.out_features, **where)
        self.empty_visual_feat = nn.Parameter(torch.zeros(1, config.out_features, dim, **where))
        if config.with_sync:
            self.proj_sync = operations.Linear(config.sync_tokens, config.out_features, **where)
            self.sync_weight = nn.Parameter(torch.zeros((), **where))

    def forward(
        self,
        prompts: Sequence[dict[str, Tensor] | None],
        device: torch.device,
        random: RandomNumbers,
        masks: bool = True,
    ) -> Tensor:
        """prompts: `video_tensors` (1, T, 3, H, W), 0..255, and `video_sync_frames` (1, N, D); None where
        absent.
        """
        empty = cast(self.empty_visual_feat, torch.empty((), device=device))
        present = [index for index, prompt in enumerate(prompts) if prompt is not None]
        tokens = empty.repeat(len(prompts), 1, 1)
        for index in present:
            prompt = prompts[index]
            assert prompt is not None
            frames = self._frames(prompt["video_tensors"])
            # (as published) black frames are no video, whatever the sync features say.
            if bool(frames.any()):
                tokens[index] = self.encode(frames.to(device), prompt.get("video_sync_frames"), device)[0]
        return tokens

    def _frames(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) of exactly the trained length: longer ones keep their beginning, shorter ones hold the
        last.
        """
        config = self.config
        wanted = (3, config.clip.image_size, config.clip.image_size)
        if frames.dim() == 5 and frames.shape[0] == 1:
            frames = frames[0]
        if frames.dim() != 4 or len(frames) == 0 or tuple(frames.shape[1:]) != wanted:
            raise InputError(
                f"video_tensors must be (1, T, {', '.join(map(str, wanted))}), got {tuple(frames.shape)}."
            )
        missing = config.frames - len(frames)
        if missing > 0:
            return torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
        return frames[: config.frames]

    def encode(self, frames: Tensor, sync: Tensor | None, device: torch.device) -> Tensor:
        """Tokens (1, out_features, D) of frames (T, 3, H, W), 0..255, exactly as many as trained with."""
        states = self.see(frames, device)[None]
        return self.fuse(states, self._sync(sync).to(device) if self.config.with_sync else None)

    def see(self, frames: Tensor, device: torch.device) -> Tensor:
        """What the vision tower makes of frames (T, 3, H, W), 0..255: (T, P, D)."""
        mean, std = (torch.tensor(v, device=device)[:, None, None] for v in (_CLIP_MEAN, _CLIP_STD))
        parts = frames.split(_FRAMES_AT_ONCE)
        return torch.cat([self.visual_encoder_model((x.float() / 255 - mean) / std) for x in parts])

    def fuse(self, states: Tensor, sync: Tensor | None) -> Tensor:
        """Tokens (B, out_features, D) of (B, T, P, D) seen and, where the model has them, sync features (B,
        N, D).
        """
        batch = len(states)
        sequences = rearrange(states, "b t p d -> (b p) t d") + cast(self.Temp_pos_embedding, states)
        states = rearrange(self.Temp_transformer(sequences), "(b p) t d -> b (t p) d", b=batch).contiguous()
        tokens = _project_reinterpreted(states, self.proj)
        if sync is not None:
            tokens = tokens + cast(self.sync_weight, tokens) * _project_reinterpreted(sync, self.proj_sync)
        return tokens

    def _sync(self, sync: Tensor | None) -> Tensor:
        config = self.config
        wanted = (1, config.sync_tokens, config.sync_dim)
        if sync is None:
            raise InputError(
                "This model needs Synchformer features of the video (video_sync_frames), and they are "
                "missing. Put synchformer_state_dict.safetensors (or .pth) beside the model and extract "
                "the features again."
            )
        if tuple(sync.shape[-2:]) != wanted[1:] or sync.numel() != wanted[1] * wanted[2]:
            raise InputError(
                f"The Synchformer features are {tuple(sync.shape)}, this model takes {wanted}. "
                "Extract them with the Synchformer weights that belong to the model: connect the model to "
                "the AudioX Feature Extractor, or extract with --model."
            )
        return sync.float().reshape(wanted)


def _project_reinterpreted(states: Tensor, layer: nn.Module) -> Tensor:
    """(as published) Each buffer (N, D) is read as rows of N, not transposed. (B, N, D) -> (B, out, D)."""
    batch, tokens, dim = states.shape
    return layer(states.reshape(batch, -1, tokens)).reshape(batch, -1, dim)


class MelConditioner(nn.Module):
    """`mel_spec`: waveforms -> one token a spectrogram frame, (B, S // hop_length + 1, feature_dim)."""

    draws_random_numbers = True

    def __init__(
        self,
        config: MelConditionerConfig,
        cond_dim: int,
        operations: Operations = nn,
        dtype: torch.dtype | None = None,
        device: DeviceLike = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.proj_features = operations.Linear(
            config.n_mel_channels, config.feature_dim, dtype=dtype, device=device
        )

    def forward(
        self, prompts: Sequence[Tensor], device: torch.device, random: RandomNumbers, masks: bool = True
    ) -> Tensor:
        """prompts: each (C, S) at the model's rate."""
        waveforms = torch.stack([prompt.mean(dim=0) for prompt in prompts])
        return self.project(log_mel(waveforms.to(device), self.config), random, masks)

    def project(self, features: Tensor, random: RandomNumbers, masks: bool = True) -> Tensor:
        """Tokens of log mel spectrograms (B, mels, T)."""
        masked = mask_spans(features, self.config.mask_ratio_start, self.config.mask_ratio_end, random)
        features = masked if masks else features
        return self.proj_features(features.transpose(1, 2))


def log_mel(waveforms: Tensor, config: MelConditionerConfig) -> Tensor:
    """Natural log of the magnitude mel spectrogram, at least 1e-5: HTK scale, no norm. (B, S) -> (B, mels,
    T).

    (as published) The filters are built for `target_sample_rate`, whatever the waveform's rate.
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
    """One random span of the last dimension of each item set to 0, its share uniform in [ratio_start,
    ratio_end).

    (as published) Also at inference. Draws nothing and returns x when the range is empty. x: (B, ..., T).
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
        super().__init__()
        self.config = config
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        latent_dim = config.autoencoder.latent_dim
        self.pretransform = Autoencoder(config.autoencoder, operations, decodes=False, **where)
        self.proj_out = operations.Linear(latent_dim, cond_dim, **where)
        if config.latent_seq_len is None:
            self.empty_audio_feat = nn.Parameter(torch.zeros(1, config.empty_seq_len, cond_dim, **where))
        else:
            self.proj_features_128 = operations.Linear(config.latent_seq_len, config.pooled_tokens, **where)

    def forward(
        self, prompts: Sequence[Tensor], device: torch.device, random: RandomNumbers, masks: bool = True
    ) -> Tensor:
        """prompts: each (C, S) at the model's rate, all of one length."""
        waveforms = torch.stack(list(prompts))
        pooled = self.config.latent_seq_len is not None
        if pooled:
            masked = mask_spans(waveforms, self.config.mask_ratio_start, self.config.mask_ratio_end, random)
            waveforms = masked if masks else waveforms
        latents = self.pretransform.encode(waveforms.to(device), random)
        if pooled:
            latents = self.proj_features_128(latents)
        tokens = self.proj_out(latents.transpose(1, 2))
        if not pooled:
            silent = ~waveforms.flatten(1).any(dim=1).to(device)
            tokens = torch.where(silent[:, None, None], cast(self.empty_audio_feat, tokens), tokens)
        return tokens


_KINDS: dict[type, Any] = {
    TextConditionerConfig: TextConditioner,
    ClipConditionerConfig: VideoConditioner,
    MelConditionerConfig: MelConditioner,
    AudioAutoencoderConditionerConfig: AudioAutoencoderConditioner,
}


def build_conditioner(
    config: ConditionerConfig, cond_dim: int, operations: Operations, **where: Any
) -> nn.Module:
    """The module for one entry of `conditioning.configs`."""
    return _KINDS[type(config)](config, cond_dim, operations, **where)


class MultiConditioner(nn.Module):
    """All conditioners of a model, by id, in the order of the configuration."""

    def __init__(
        self, configs: dict[str, ConditionerConfig], cond_dim: int, operations: Operations = nn, **where: Any
    ) -> None:
        super().__init__()
        self.conditioners = nn.ModuleDict(
            {
                name: build_conditioner(config, cond_dim, operations, **where)
                for name, config in configs.items()
            }
        )
