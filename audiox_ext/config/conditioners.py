"""Sizes and settings of the conditioners: video, text and audio prompts."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import ConfigError
from .autoencoder import AutoencoderConfig


@dataclass(frozen=True, kw_only=True)
class ClipVisionConfig:
    """Sizes of the CLIP vision tower; the defaults are clip-vit-base-patch32 (Radford et al. 2021).

    Attributes:
        hidden_size: Width of a token.
        intermediate_size: Width inside the feed-forward layers.
        num_hidden_layers: Number of layers.
        num_attention_heads: Heads per layer.
        image_size: Height and width of a frame, in pixels.
        patch_size: Height and width of a patch, in pixels.
        projection_dim: Width of CLIP's joint space; its projection is in the checkpoint but unused.
        layer_norm_eps: Added to the variance in layer norms.
        hidden_act: Activation of the feed-forward layers, "quick_gelu" or "gelu".
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    projection_dim: int = 512
    layer_norm_eps: float = 1e-5
    hidden_act: str = "quick_gelu"

    @property
    def tokens(self) -> int:
        """Tokens per frame: the class token and one per patch."""
        return (self.image_size // self.patch_size) ** 2 + 1


@dataclass(frozen=True, kw_only=True)
class ClipConditionerConfig:
    """A video conditioner: `clip` or, with `with_sync`, `clip-with-sync-w-empty-feat`.

    Attributes:
        with_sync: Whether Synchformer features are added.
        video_fps: Frames per second of a prompt, 0.1 to 240.
        seconds: Length of a prompt, 1 to 600 seconds.
        out_features: Tokens per prompt.
        clip: Sizes of the vision tower.
        temporal_dim: Width of a token; must be the width of the context.
        temporal_depth: Layers of the transformer over time.
        temporal_heads: Heads per layer of that transformer.
        temporal_dim_head: Width of such a head.
        sync_dim: Width of the Synchformer features.
        sync_fps: Frames per second that Synchformer sees.
    """

    with_sync: bool
    video_fps: float
    seconds: float
    out_features: int = 128
    clip: ClipVisionConfig = field(default_factory=ClipVisionConfig)
    temporal_dim: int = 768
    temporal_depth: int = 4
    temporal_heads: int = 16
    temporal_dim_head: int = 64
    sync_dim: int = 768
    sync_fps: float = 25

    @property
    def frames(self) -> int:
        """Video frames per prompt."""
        return round(self.seconds * self.video_fps)

    @property
    def sync_tokens(self) -> int:
        """Synchformer tokens per prompt: segments of 16 frames, stride 8, 8 tokens each."""
        return (round(self.seconds * self.sync_fps) - 16) // 8 * 8 + 8


@dataclass(frozen=True, kw_only=True)
class TextConditionerConfig:
    """A text conditioner, `t5`.

    Attributes:
        t5_model_name: Name of the text encoder and of its folder.
        max_length: Tokens per prompt; longer texts are cut, shorter ones padded.
        dim: Width of the text encoder.
    """

    t5_model_name: str = "t5-base"
    max_length: int = 128
    dim: int = 768


@dataclass(frozen=True, kw_only=True)
class MelConditionerConfig:
    """An audio conditioner, `mel_spec`.

    (as published) The filters are built for `target_sample_rate`, whatever the rate of the audio.

    Attributes:
        n_fft: Length of the Fourier transform, in samples.
        hop_length: Samples between frames of the spectrogram.
        win_length: Length of the window, in samples, up to `n_fft`.
        n_mel_channels: Number of mel bands.
        target_sample_rate: Sample rate for which the filters are built, in hertz.
        feature_dim: Width of a token; must be the width of the context.
        mask_ratio_start: Smallest fraction of the frames to hide, 0 to 1.
        mask_ratio_end: Upper bound of that fraction, 0 to 1; up to `mask_ratio_start` nothing is hidden.
    """

    n_fft: int
    hop_length: int
    win_length: int
    n_mel_channels: int
    target_sample_rate: int
    feature_dim: int = 768
    mask_ratio_start: float = 0.7
    mask_ratio_end: float = 1.0

    def __post_init__(self) -> None:
        """Check that the values are consistent. Raises `ConfigError`."""
        if self.win_length > self.n_fft:
            raise ConfigError(f"config.json: win_length {self.win_length} is longer than n_fft {self.n_fft}.")


@dataclass(frozen=True, kw_only=True)
class AudioAutoencoderConditionerConfig:
    """An audio conditioner, `audio_autoencoder` or `audio_autoencoder_v2`.

    With `latent_seq_len` the latents are pooled, otherwise there is one token per latent.

    Attributes:
        autoencoder: Encodes the waveform.
        latent_seq_len: Latents of a prompt, which are pooled; None pools nothing.
        empty_seq_len: Tokens of a silent prompt, and latents of any other, if nothing is pooled.
        pooled_tokens: Tokens into which the latents are pooled.
        mask_ratio_start: Smallest fraction of the samples to hide, 0 to 1, if the latents are pooled.
        mask_ratio_end: Upper bound of that fraction, 0 to 1; up to `mask_ratio_start` nothing is hidden.
    """

    autoencoder: AutoencoderConfig
    latent_seq_len: int | None
    empty_seq_len: int = 215
    pooled_tokens: int = 128
    mask_ratio_start: float = 0.0
    mask_ratio_end: float = 0.0


ConditionerConfig = (
    ClipConditionerConfig | TextConditionerConfig | MelConditionerConfig | AudioAutoencoderConditionerConfig
)
