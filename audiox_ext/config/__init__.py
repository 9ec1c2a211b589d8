"""The content of a config.json as frozen dataclasses, with all published defaults.

All other modules import the names from here. AudioX-Turbo.json is the configuration that this model is
published without.
"""

from __future__ import annotations

from .autoencoder import AutoencoderConfig, OobleckDecoderConfig, OobleckEncoderConfig, SpectralEncoderConfig
from .conditioners import (
    AudioAutoencoderConditionerConfig,
    ClipConditionerConfig,
    ClipVisionConfig,
    ConditionerConfig,
    MelConditionerConfig,
    TextConditionerConfig,
)
from .model import ModelConfig
from .network import FusionConfig, NetworkConfig, NetworkType
from .sampling import SAMPLER_NAMES, Objective, SamplingDefaults

__all__ = [
    "SAMPLER_NAMES",
    "AudioAutoencoderConditionerConfig",
    "AutoencoderConfig",
    "ClipConditionerConfig",
    "ClipVisionConfig",
    "ConditionerConfig",
    "FusionConfig",
    "MelConditionerConfig",
    "ModelConfig",
    "NetworkConfig",
    "NetworkType",
    "Objective",
    "OobleckDecoderConfig",
    "OobleckEncoderConfig",
    "SamplingDefaults",
    "SpectralEncoderConfig",
    "TextConditionerConfig",
]
