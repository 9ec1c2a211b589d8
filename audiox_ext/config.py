"""The content of a config.json as frozen dataclasses, with all published defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import ConfigError

NetworkType = Literal["dit", "mmdit"]
Objective = Literal["v", "rectified_flow"]

SAMPLER_NAMES = (
    "dpmpp-3m-sde",
    "dpmpp-2m-sde",
    "k-heun",
    "k-lms",
    "k-dpmpp-2s-ancestral",
    "k-dpm-2",
    "k-dpm-fast",
    "k-dpm-adaptive",
    "dpmpp-2m",
    "dpmpp-3m",
    "unipc",
    "er-sde",
    "sa-solver",
)
"""The samplers of the v objective, by the names that config.json uses."""


@dataclass(frozen=True, kw_only=True)
class OobleckEncoderConfig:
    """Sizes of the Oobleck encoder. `latent_dim` is twice the latents' channels (mean and scale)."""

    in_channels: int
    channels: int
    c_mults: tuple[int, ...]
    strides: tuple[int, ...]
    latent_dim: int


@dataclass(frozen=True, kw_only=True)
class SpectralEncoderConfig:
    """An encoder without weights that measures spectral values. `sample_rate` in hertz, `in_channels` 2."""

    in_channels: int
    sample_rate: int


@dataclass(frozen=True, kw_only=True)
class OobleckDecoderConfig:
    """Sizes of the Oobleck decoder. `latent_dim` is the channels of the latents."""

    out_channels: int
    channels: int
    c_mults: tuple[int, ...]
    strides: tuple[int, ...]
    latent_dim: int
    final_tanh: bool


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """One waveform <-> latents autoencoder with a variational bottleneck."""

    encoder: OobleckEncoderConfig | SpectralEncoderConfig
    decoder: OobleckDecoderConfig
    latent_dim: int
    downsampling_ratio: int
    io_channels: int
    iterate_batch: bool = False

    def __post_init__(self) -> None:
        """Check that the values fit each other. Raises `ConfigError`."""
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


@dataclass(frozen=True, kw_only=True)
class ClipVisionConfig:
    """Sizes of the CLIP vision tower; the defaults are clip-vit-base-patch32 (Radford et al. 2021)."""

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
    """A video conditioner: `clip` or, with `with_sync`, `clip-with-sync-w-empty-feat`."""

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
    """A text conditioner, `t5`. `dim` is the width of the encoder."""

    t5_model_name: str = "t5-base"
    max_length: int = 128
    dim: int = 768


@dataclass(frozen=True, kw_only=True)
class MelConditionerConfig:
    """An audio conditioner, `mel_spec`.

    (as published) The filters are built for `target_sample_rate`, whatever the rate of the audio.
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
        """Check that the values fit each other. Raises `ConfigError`."""
        if self.win_length > self.n_fft:
            raise ConfigError(f"config.json: win_length {self.win_length} is longer than n_fft {self.n_fft}.")


@dataclass(frozen=True, kw_only=True)
class AudioAutoencoderConditionerConfig:
    """An audio conditioner, `audio_autoencoder` or `audio_autoencoder_v2`.

    With `latent_seq_len` the latents are pooled, otherwise there is one token per latent.
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


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The denoising network, of type `dit` or `mmdit`."""

    type: NetworkType
    io_channels: int
    embed_dim: int
    depth: int
    num_heads: int
    cond_token_dim: int
    global_cond_dim: int = 0
    project_cond_tokens: bool = True
    latent_seq_len: int = 237
    context_tokens: int = 384

    def __post_init__(self) -> None:
        """Check that the values fit each other. Raises `ConfigError`."""
        if self.embed_dim % self.num_heads:
            raise ConfigError(
                f"config.json: embed_dim {self.embed_dim} is not divisible by num_heads {self.num_heads}."
            )
        if self.type == "mmdit" and self.head_dim % 2:
            raise ConfigError(
                f"config.json: num_heads {self.num_heads} must be even, because mmdit rotates pairs."
            )
        if self.type == "dit" and self.context_dim % self.head_dim:
            raise ConfigError(
                f"config.json: the context width {self.context_dim} is not divisible by the head width "
                f"{self.head_dim}."
            )
        if self.type == "dit" and self.num_heads % max(1, self.context_dim // self.head_dim):
            raise ConfigError(
                f"config.json: num_heads {self.num_heads} is not divisible by the "
                f"{self.context_dim // self.head_dim} heads of a context {self.context_dim} wide."
            )

    @property
    def head_dim(self) -> int:
        """Width of an attention head.

        (as published) A `mmdit` network has embed_dim // num_heads heads of width num_heads.
        """
        return self.num_heads if self.type == "mmdit" else self.embed_dim // self.num_heads

    @property
    def context_dim(self) -> int:
        """Width of the context after `to_cond_embed`."""
        return self.embed_dim if self.project_cond_tokens else self.cond_token_dim


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Sizes of the MAF block: gated experts over the three modalities."""

    num_experts_per_modality: int
    num_heads: int
    num_fusion_layers: int
    dim: int = 768

    def __post_init__(self) -> None:
        """Check that the values fit each other. Raises `ConfigError`."""
        if self.dim % self.num_heads:
            raise ConfigError(
                f"config.json: gate_type_config.dim {self.dim} is not divisible by num_heads "
                f"{self.num_heads}."
            )


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """The default sampling settings of a model. `cfg_scale` 1 means no guidance."""

    steps: int = 250
    cfg_scale: float = 7.0
    sampler_type: str = "dpmpp-3m-sde"
    sigma_min: float = 0.3
    sigma_max: float = 500.0

    def __post_init__(self) -> None:
        """Check that the values fit each other. Raises `ConfigError`."""
        if self.sigma_min >= self.sigma_max:
            raise ConfigError(
                f"config.json: sampling.sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}."
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model, as its config.json describes it."""

    sample_rate: int
    sample_size: int
    video_fps: float
    audio_channels: int
    conditioning_seconds: float
    autoencoder: AutoencoderConfig
    conditioners: dict[str, ConditionerConfig]
    cond_dim: int
    cross_attention_ids: tuple[str, ...]
    network: NetworkConfig
    objective: Objective
    fusion: FusionConfig | None
    few_step_count: int | None
    license: str | None
    sampling: SamplingDefaults = SamplingDefaults()

    @property
    def latent_count(self) -> int:
        """Number of latents in `sample_size` samples."""
        return self.sample_size // self.autoencoder.downsampling_ratio

    def __post_init__(self) -> None:
        """Check that the values fit each other. Raises `ConfigError`."""
        self._check_conditioners()
        checks: list[tuple[str, Any, str, Any]] = [
            ("model.conditioning.cond_dim", self.cond_dim, "cond_token_dim", self.network.cond_token_dim),
            (
                "the autoencoder's latent_dim",
                self.autoencoder.latent_dim,
                "io_channels",
                self.network.io_channels,
            ),
            ("audio_channels", self.audio_channels, "in_channels", self.autoencoder.encoder.in_channels),
            ("audio_channels", self.audio_channels, "out_channels", self.autoencoder.decoder.out_channels),
        ]
        encoder = self.autoencoder.encoder
        if isinstance(encoder, SpectralEncoderConfig):
            checks.append(("sample_rate", self.sample_rate, "the encoder's sample_rate", encoder.sample_rate))
        if self.fusion is not None:
            checks.append(("cond_dim", self.cond_dim, "gate_type_config.dim", self.fusion.dim))
            slots = ["audio_prompt", "text_prompt", "video_prompt"]
            checks.append(("the conditioners' ids", sorted(self.conditioners), "the slots of MAF", slots))
        _require_equal(checks)
        if self.network.type == "mmdit":
            tokens, latents = sum(self.context_tokens().values()), self.latent_count + 1
            _require_equal(
                [
                    ("latents + 1", latents, "_latent_seq_len", self.network.latent_seq_len),
                    ("context tokens", tokens, "the token count of mmdit", self.network.context_tokens),
                ]
            )
        if self.sample_size < self.autoencoder.downsampling_ratio:
            raise ConfigError(
                f"config.json: sample_size {self.sample_size} is shorter than one latent "
                f"({self.autoencoder.downsampling_ratio} samples)."
            )

    def _check_conditioners(self) -> None:
        """Raise `ConfigError` unless the conditioners fit each other and the model."""
        unknown = [name for name in self.cross_attention_ids if name not in self.conditioners]
        if unknown:
            raise ConfigError(
                f"config.json: cross_attention_cond_ids names {', '.join(unknown)}, but there is no such "
                f"conditioner. There are: {', '.join(self.conditioners)}."
            )
        prompt_latents = (
            round(self.conditioning_seconds * self.sample_rate) // self.autoencoder.downsampling_ratio
        )
        for name, kind in self.conditioners.items():
            if isinstance(kind, ClipConditionerConfig):
                checks = [
                    ("temporal_dim", kind.temporal_dim),
                    ("clip_config.hidden_size", kind.clip.hidden_size),
                ]
            elif isinstance(kind, MelConditionerConfig):
                checks = [("feature_dim", kind.feature_dim)]
            else:
                checks = []
            _require_equal([(f"{name}.{field}", value, "cond_dim", self.cond_dim) for field, value in checks])
            if isinstance(kind, AudioAutoencoderConditionerConfig):
                length = kind.latent_seq_len or kind.empty_seq_len
                _require_equal([(f"{name}'s latents", length, "latents of a prompt", prompt_latents)])

    def context_tokens(self) -> dict[str, int]:
        """Return how many tokens each prompt has in the network's context, in the order of the context."""
        # (as published) Fusion puts the text first.
        order = ("text_prompt", "video_prompt", "audio_prompt")
        names = self.cross_attention_ids if self.fusion is None else order
        return {name: self._tokens_of(self.conditioners[name]) for name in names}

    def _tokens_of(self, kind: ConditionerConfig) -> int:
        """Count the tokens of a conditioner."""
        if isinstance(kind, ClipConditionerConfig):
            return kind.out_features
        if isinstance(kind, TextConditionerConfig):
            return kind.max_length
        if isinstance(kind, MelConditionerConfig):
            return round(self.conditioning_seconds * self.sample_rate) // kind.hop_length + 1
        return kind.empty_seq_len if kind.latent_seq_len is None else kind.pooled_tokens


def _require_equal(checks: list[tuple[str, Any, str, Any]]) -> None:
    """Raise `ConfigError` for the first (name, value, other name, other value) that differ."""
    for name, value, other, expected in checks:
        if value != expected:
            raise ConfigError(
                f"config.json: {name} is {value}, but {other} is {expected}; they must be equal."
            )
