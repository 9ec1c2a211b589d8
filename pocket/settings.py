"""How a model is trained: one JSON file -> frozen dataclasses, with errors that name the field.

    {"name": ..., "model": {config.json of the model}, "text_encoder": {...}, "synchformer": {...},
     "data": {...}, "autoencoder": {...}, "sync": {...}, "diffusion": {...},
     "waves": {an autoencoder, as in config.json}}

`model` may also name a file beside this one. A key that nobody reads is an error: in a training of hours a
misspelt one had better be noticed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from audiox_ext.checkpoints.config_parser import parse_autoencoder_config, parse_config, read_config
from audiox_ext.config import (
    AudioAutoencoderConditionerConfig,
    AutoencoderConfig,
    ClipConditionerConfig,
    ModelConfig,
    OobleckEncoderConfig,
    StrengthEncoderConfig,
    TextConditionerConfig,
)
from audiox_ext.errors import ConfigError
from audiox_ext.networks.autoencoder.spectral import check_strengths
from audiox_ext.training.settings import RunSettings, check_minimum

from .world.dataset import Dataset, Split
from .world.kinds import KNOWN_KINDS

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings(RunSettings):
    """crop_seconds: of a sound, seen at once. crops: taken of a sound, in as many steps. start_sounds: whole
    ones that the first weights are fitted to. moved_share: of items that become one sound from anywhere
    between left and right. The weights are those of the losses, log_share that of
    the logarithms in the spectral one; fft_sizes: of the spectra that are compared, in samples.
    """

    crop_seconds: float = 1.0
    crops: int = 4
    start_sounds: int = 200
    moved_share: float = 0.5
    stft_weight: float = 1.0
    log_share: float = 0.3
    wave_weight: float = 1.0
    kl_weight: float = 1e-4
    fft_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum(self, "crops", 1)
        check_minimum(self, "start_sounds", 1)
        if not 0 <= self.moved_share <= 1:
            raise ConfigError(f"moved_share must lie in [0, 1], got {self.moved_share}.")
        for name in ("stft_weight", "log_share", "wave_weight", "kl_weight"):
            check_minimum(self, name, 0)
        if not self.fft_sizes or min(self.fft_sizes) < 16:
            raise ConfigError(f"fft_sizes must be sizes of at least 16 samples, got {self.fft_sizes}.")
        if not self.crop_seconds > 0:
            raise ConfigError(f"crop_seconds must be above 0, got {self.crop_seconds}.")


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings(RunSettings):
    """The shares of items, 0 to 1, whose text, video or audio prompt becomes the empty one, each drawn for
    itself, and of those whose whole context becomes zeros, which is what guidance starts from.

    text_with_video_dropout: of the text of items with a video, in place of text_dropout, so that the video
    has to be looked at. noise_spread, noise_shift: of the times, see `times`; 0 draws them evenly.
    caption_steps: of learning what captions ask before all else; see `caption_understanding`.
    teacher_share: of a teacher in what is to be predicted, where there is one; see `teacher`.
    """

    text_dropout: float = 0.1
    text_with_video_dropout: float = 0.3
    video_dropout: float = 0.15
    audio_dropout: float = 0.7
    context_dropout: float = 0.1
    noise_spread: float = 0.0
    noise_shift: float = 0.0
    caption_steps: int = 0
    teacher_share: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith(("_dropout", "teacher_share")) and not 0 <= value <= 1:
                raise ConfigError(f"{item.name} must lie in [0, 1], got {value}.")
        check_minimum(self, "noise_spread", 0)
        check_minimum(self, "caption_steps", 0)


@dataclass(frozen=True, kw_only=True)
class SyncSettings(RunSettings):
    """Of the sync encoder. The batch is one of segments of 16 frames. segments: how many are trained on,
    again and again. onset_weight: of the numbers that say when something happens, beside that of all.
    """

    segments: int = 16_000
    onset_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_minimum(self, "segments", 1)
        check_minimum(self, "onset_weight", 0)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """What is synthesised; see `dataset.Dataset`. kinds: one that is named twice is drawn twice as often.
    sounds, films: how many of each the diffusion is trained on, again and again, in ever other words.
    film_share: of a batch. first: the number of the first item that is trained on, for a training that
    begins with a model to go on with others.
    """

    kinds: tuple[str, ...] = KNOWN_KINDS
    sounds: int = 20_000
    films: int = 4_000
    film_share: float = 0.25
    then_share: float = 0.15
    with_share: float = 0.1
    length: int = 10_000_000
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class TextEncoderSettings:
    """A T5 encoder from nothing (Raffel et al. 2020); its width is the text conditioner's. vocabulary: tokens
    of the tokenizer that is made for the captions.
    """

    d_ff: int
    d_kv: int
    num_heads: int
    num_layers: int
    vocabulary: int = 1024


@dataclass(frozen=True, kw_only=True)
class SynchformerSettings:
    """Sizes of the sync encoder; its width is the video conditioner's sync_dim, in heads of 64."""

    depth: int = 1
    patch_size: int = 32
    mlp_ratio: float = 2


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training file. config_json: the model's configuration, as it is published; model: its typed form.
    waves: an autoencoder that is trained first, of which the model's, whose latents tell strengths, is made;
    see `networks.strengths`.
    """

    name: str
    data: DataSettings
    config_json: Mapping[str, Any]
    model: ModelConfig
    text_encoder: TextEncoderSettings
    synchformer: SynchformerSettings = field(default_factory=SynchformerSettings)
    autoencoder: AutoencoderSettings
    diffusion: DiffusionSettings
    sync: SyncSettings | None = None
    waves: AutoencoderConfig | None = None

    def dataset(self, split: Split, *, film_share: float, length: int | None = None) -> Dataset:
        """The items to train on or to validate with. film_share: how many of them are videos, 0 to 1."""
        return Dataset(
            split,
            rate=self.model.sample_rate,
            seconds=self.model.conditioning_seconds,
            kinds=self.data.kinds,
            film_share=film_share,
            then_share=self.data.then_share,
            with_share=self.data.with_share,
            first=self.data.first if split == "training" else 0,
            length=self.data.length if length is None else length,
        )

    def evenly(self, split: Split) -> Dataset:
        """Sounds of which each kind is drawn as often: for codes, which are to hold whatever there is."""
        return replace(self.dataset(split, film_share=0), kinds=tuple(dict.fromkeys(self.data.kinds)))

    def conditioner(self, kind: type[T]) -> T | None:
        """The configuration of the model's conditioner of a kind."""
        return next((c for c in self.model.conditioners.values() if isinstance(c, kind)), None)


def read_training_config(path: Path) -> TrainingConfig:
    """Raises `ConfigError` for a file that is missing, no JSON, or says something that cannot be trained."""
    try:
        return parse_training_config(read_config(path), path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from None


def parse_training_config(values: Mapping[str, Any], folder: Path) -> TrainingConfig:
    """The typed form of a training file. folder: where a file that `model` names is looked for."""
    known = {"name", "model", "text_encoder", "synchformer", "data", "waves", "autoencoder", "sync"}
    known |= {"diffusion"}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}.")
    model = values.get("model")
    if isinstance(model, str):
        model = read_config(folder / model)
    if not isinstance(model, Mapping):
        raise ConfigError("model must be the model's configuration, or the name of its config.json.")
    typed = parse_config(model)
    _check_trainable(typed)
    made = TrainingConfig(
        name=_checked(values.get("name", "model"), str, "name"),
        data=_section(values, "data", DataSettings),
        config_json=model,
        model=typed,
        text_encoder=_section(values, "text_encoder", TextEncoderSettings),
        synchformer=_section(values, "synchformer", SynchformerSettings),
        autoencoder=_section(values, "autoencoder", AutoencoderSettings),
        diffusion=_section(values, "diffusion", DiffusionSettings),
        sync=_section(values, "sync", SyncSettings) if "sync" in values else None,
        waves=parse_autoencoder_config(values["waves"], "waves") if "waves" in values else None,
    )
    _check_waves(made)
    return made


def _check_waves(config: TrainingConfig) -> None:
    """An autoencoder of strengths is made of one of waves, with one stage less."""
    measured = isinstance(config.model.autoencoder.encoder, StrengthEncoderConfig)
    if config.waves is None:
        if measured:
            raise ConfigError("The model's encoder measures strengths; its decoder is made of waves: add it.")
        return
    if not measured:
        raise ConfigError("waves is there; the model's encoder must be of the type strengths.")
    outer, inner = config.model.autoencoder, config.waves
    if not isinstance(inner.encoder, OobleckEncoderConfig):
        raise ConfigError("waves must hold waves: its encoder must be of the type oobleck.")
    if outer.decoder.strides[:-1] != inner.decoder.strides:
        raise ConfigError(
            f"waves has the strides {inner.decoder.strides}; the model's decoder is to have these and one "
            f"more, and has {outer.decoder.strides}."
        )
    check_strengths(outer, config.model.sample_rate)


def _check_trainable(model: ModelConfig) -> None:
    if model.objective != "v":
        raise ConfigError(f"diffusion_objective is {model.objective!r}; only v is trained here.")
    if model.audio_channels != 2:
        raise ConfigError(f"audio_channels is {model.audio_channels}; the synthesised sounds have 2.")
    latents = model.latent_count * model.autoencoder.downsampling_ratio
    if latents > round(model.conditioning_seconds * model.sample_rate):
        raise ConfigError(
            f"sample_size {model.sample_size} is longer than conditioning_seconds "
            f"{model.conditioning_seconds:g}, the length of what is synthesised."
        )
    for name, kind in model.conditioners.items():
        if isinstance(kind, AudioAutoencoderConditionerConfig):
            raise ConfigError(f"{name} is an autoencoder; only mel_spec is trained here.")
        if isinstance(kind, TextConditionerConfig) and kind.t5_model_name != "text_encoder":
            raise ConfigError('t5_model_name must be "text_encoder": it is written into the model\'s folder.')
        if isinstance(kind, ClipConditionerConfig) and kind.with_sync and kind.sync_dim % 64:
            raise ConfigError(f"sync_dim is {kind.sync_dim}; it must be a multiple of 64.")


def _section(values: Mapping[str, Any], name: str, kind: type[T]) -> T:
    """One object of the file as a dataclass."""
    data = values.get(name, {})
    if not isinstance(data, Mapping):
        raise ConfigError(f"{name} must be an object, got {type(data).__name__}.")
    hints = get_type_hints(kind)
    unknown = sorted(set(data) - set(hints))
    if unknown:
        raise ConfigError(f"{name} has no {', '.join(unknown)}; it has {', '.join(sorted(hints))}.")
    for item in fields(kind):  # type: ignore[arg-type]
        if item.default is MISSING and item.default_factory is MISSING and item.name not in data:
            raise ConfigError(f"{name}.{item.name} is missing.")
    checked = {key: _checked(value, hints[key], f"{name}.{key}") for key, value in data.items()}
    try:
        return kind(**checked)
    except ConfigError as error:
        raise ConfigError(f"{name}.{error}") from None


def _checked(value: Any, kind: Any, where: str) -> Any:
    """The value as a field of a type: str, int, float or a tuple of one of them."""
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be a list, got {value!r}.")
        return tuple(_checked(item, get_args(kind)[0], where) for item in value)
    if kind is float and type(value) is int:
        return float(value)
    # Exactly: bool is an int to Python, never to a configuration.
    if type(value) is not kind:
        raise ConfigError(f"{where} must be {kind.__name__}, got {json.dumps(value)}.")
    return value
