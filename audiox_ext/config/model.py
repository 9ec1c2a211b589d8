"""The configuration of a whole model, and the checks that its parts are consistent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from .autoencoder import AutoencoderConfig, SpectralEncoderConfig
from .conditioners import (
    AudioAutoencoderConditionerConfig,
    ClipConditionerConfig,
    ConditionerConfig,
    MelConditionerConfig,
    TextConditionerConfig,
)
from .network import FusionConfig, NetworkConfig
from .sampling import Objective, SamplingDefaults


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """One model, as its config.json describes it.

    Attributes:
        sample_rate: Sample rate in hertz.
        sample_size: Samples of the sounds that the model was trained on; at least one latent.
        video_fps: Frames per second of a video prompt, 0.1 to 240, if its conditioner does not say.
        audio_channels: Channels of the waveform.
        conditioning_seconds: Length of video and audio prompts, 1 to 600 seconds.
        autoencoder: Waveform <-> latents.
        conditioners: The conditioner of each prompt, by id, such as "text_prompt".
        cond_dim: Width of the context.
        cross_attention_ids: Ids of the conditioners in the order of the context; see `context_tokens`.
        network: The denoising network.
        objective: What the network predicts.
        fusion: The MAF block, or None.
        few_step_count: Number of steps that a few-step student was trained for, or None.
        license: Licence of the weights, or None if the file names none.
        sampling: Default sampling settings.
    """

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
    sampling: SamplingDefaults = field(default_factory=SamplingDefaults)

    @property
    def latent_count(self) -> int:
        """Number of latents in `sample_size` samples."""
        return self.sample_size // self.autoencoder.downsampling_ratio

    def __post_init__(self) -> None:
        """Check that the values are consistent. Raises `ConfigError`."""
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
        """Raise `ConfigError` unless the conditioners are consistent and fit the model."""
        unknown = [name for name in self.cross_attention_ids if name not in self.conditioners]
        if unknown:
            raise ConfigError(
                f"config.json: cross_attention_cond_ids names {', '.join(unknown)}, but there is no such "
                f"conditioner. Choose from {', '.join(self.conditioners)}."
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
            _require_equal([(f"{name}.{size}", value, "cond_dim", self.cond_dim) for size, value in checks])
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
