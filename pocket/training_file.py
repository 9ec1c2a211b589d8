"""Reads a training file: one JSON file -> `TrainingConfig`, with errors that name the field.

    {"name": ..., "model": {config.json of the model}, "text_encoder": {...}, "synchformer": {...},
     "data": {...}, "autoencoder": {...}, "sync": {...}, "diffusion": {...},
     "waves": {an autoencoder, as in config.json}}

`model` may also be the name of a file in the same folder. Unknown keys are errors: a misspelt setting should
not cost hours of training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from audiox_ext.checkpoints.config_parser import parse_autoencoder_config, parse_config
from audiox_ext.checkpoints.untrusted.json_files import read_config
from audiox_ext.config import (
    AudioAutoencoderConditionerConfig,
    ClipConditionerConfig,
    ModelConfig,
    OobleckEncoderConfig,
    SpectralEncoderConfig,
    TextConditionerConfig,
)
from audiox_ext.errors import ConfigError
from audiox_ext.networks.autoencoder.spectral import check_spectral_sizes

from .settings import (
    AutoencoderSettings,
    DataSettings,
    DiffusionSettings,
    SynchformerSettings,
    SyncSettings,
    TextEncoderSettings,
    TrainingConfig,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
_SECTIONS = (
    "name",
    "model",
    "text_encoder",
    "synchformer",
    "data",
    "waves",
    "autoencoder",
    "sync",
    "diffusion",
)


def read_training_config(path: Path) -> TrainingConfig:
    """Read a training file.

    Args:
        path: The JSON file.

    Raises:
        ConfigError: The file is missing, is not JSON, or describes a training that is not supported.
    """
    try:
        return parse_training_config(read_config(path), path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def parse_training_config(values: Mapping[str, Any], folder: Path) -> TrainingConfig:
    """Convert the contents of a training file.

    Args:
        values: The contents.
        folder: Folder of the file that `model` may name.

    Raises:
        ConfigError: A key is unknown or missing, or a value is not supported.
    """
    unknown = sorted(set(values) - set(_SECTIONS))
    if unknown:
        raise ConfigError(f"unknown sections: {', '.join(unknown)}. Allowed: {', '.join(sorted(_SECTIONS))}.")
    config_json = values.get("model")
    if isinstance(config_json, str):
        config_json = read_config(folder / config_json)
    if not isinstance(config_json, Mapping):
        raise ConfigError("model must be the model's configuration, or the name of its config.json.")
    model = parse_config(config_json)
    _check_trainable(model)
    config = TrainingConfig(
        name=_check_type(values.get("name", "model"), str, "name"),
        data=_parse_section(values, "data", DataSettings),
        config_json=config_json,
        model=model,
        text_encoder=_parse_section(values, "text_encoder", TextEncoderSettings),
        synchformer=_parse_section(values, "synchformer", SynchformerSettings),
        autoencoder=_parse_section(values, "autoencoder", AutoencoderSettings),
        diffusion=_parse_section(values, "diffusion", DiffusionSettings),
        sync=_parse_section(values, "sync", SyncSettings) if "sync" in values else None,
        waves=parse_autoencoder_config(values["waves"], "waves") if "waves" in values else None,
    )
    _check_waves(config)
    return config


def _check_waves(config: TrainingConfig) -> None:
    """A spectral autoencoder needs a waveform autoencoder with one stage less, and no other does."""
    is_spectral = isinstance(config.model.autoencoder.encoder, SpectralEncoderConfig)
    if config.waves is None:
        if is_spectral:
            raise ConfigError(
                "The model's encoder has the type strengths, so its decoder is built from waves: add the "
                "section waves."
            )
        return
    if not is_spectral:
        raise ConfigError(
            "The section waves is present, so the model's encoder must have the type strengths."
        )
    outer, inner = config.model.autoencoder, config.waves
    if not isinstance(inner.encoder, OobleckEncoderConfig):
        raise ConfigError("waves must be a waveform autoencoder: its encoder must be of the type oobleck.")
    if outer.decoder.strides[:-1] != inner.decoder.strides:
        raise ConfigError(
            f"waves has the strides {inner.decoder.strides}. The model's decoder must have the same strides "
            f"and one more, but has {outer.decoder.strides}."
        )
    check_spectral_sizes(outer, config.model.sample_rate)


def _check_trainable(model: ModelConfig) -> None:
    """Raise `ConfigError` for models that cannot be trained here."""
    if model.objective != "v":
        raise ConfigError(f"diffusion_objective is {model.objective!r}; only v is trained here.")
    if model.audio_channels != 2:
        raise ConfigError(f"audio_channels is {model.audio_channels}; the synthesised sounds have 2.")
    latents = model.latent_count * model.autoencoder.downsampling_ratio
    if latents > round(model.conditioning_seconds * model.sample_rate):
        raise ConfigError(
            f"sample_size {model.sample_size} is longer than conditioning_seconds "
            f"{model.conditioning_seconds:g}, the length of the synthesised sounds."
        )
    for name, conditioner in model.conditioners.items():
        if isinstance(conditioner, AudioAutoencoderConditionerConfig):
            raise ConfigError(f"{name} is an autoencoder; only mel_spec is trained here.")
        if isinstance(conditioner, TextConditionerConfig) and conditioner.t5_model_name != "text_encoder":
            raise ConfigError(
                f't5_model_name is {conditioner.t5_model_name!r}; it must be "text_encoder", the folder in '
                "which the text encoder is saved."
            )
        if not (isinstance(conditioner, ClipConditionerConfig) and conditioner.with_sync):
            continue
        if conditioner.sync_dim % 64:
            raise ConfigError(f"sync_dim is {conditioner.sync_dim}; it must be a multiple of 64.")


def _parse_section(values: Mapping[str, Any], name: str, section: type[T]) -> T:
    """One object of the file as a dataclass."""
    data = values.get(name, {})
    if not isinstance(data, Mapping):
        raise ConfigError(f"{name} must be an object, got {type(data).__name__}.")
    hints = get_type_hints(section)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ConfigError(f"{name}: unknown {', '.join(unknown)}. Allowed: {', '.join(sorted(hints))}.")
    for item in fields(section):
        if item.default is MISSING and item.default_factory is MISSING and item.name not in data:
            raise ConfigError(f"{name}.{item.name} is missing.")
    checked = {key: _check_type(value, hints[key], f"{name}.{key}") for key, value in data.items()}
    try:
        return section(**checked)
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from None


def _check_type(value: Any, expected: Any, key: str) -> Any:
    """The value as a str, int, float, or a tuple of one of them."""
    if get_origin(expected) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{key} must be a list, got {value!r}.")
        return tuple(_check_type(item, get_args(expected)[0], key) for item in value)
    if expected is float and type(value) is int:
        return float(value)
    # Exactly this type: to Python a bool is an int, but not to a configuration.
    if type(value) is not expected:
        raise ConfigError(f"{key} must be {expected.__name__}, got {json.dumps(value)}.")
    return value
