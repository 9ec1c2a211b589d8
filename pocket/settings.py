"""Settings of a training as frozen dataclasses; `training_file` reads them from JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from audiox_ext.checkpoints.untrusted.headers import add_header_licenses
from audiox_ext.config import AutoencoderConfig, ModelConfig
from audiox_ext.errors import ConfigError
from audiox_ext.license import find_strictest
from audiox_ext.training.settings import RunSettings, check_minimum

from .world.dataset import Dataset, Split
from .world.kinds import KNOWN_KINDS

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings(RunSettings):
    """Training of the autoencoder.

    Attributes:
        crop_seconds: Length of the crop that one step sees.
        crops: Crops taken from each sound, in as many consecutive steps.
        initial_sounds: Whole sounds to which the initial weights are fitted.
        panned_fraction: Fraction of items that are mixed down and panned at random.
        stft_weight: Weight of the spectral loss.
        log_weight: Weight of the log magnitudes within the spectral loss.
        wave_weight: Weight of the waveform loss.
        kl_weight: Weight of the Kullback-Leibler divergence.
        fft_sizes: Sizes of the compared spectra in samples, each at least 16.
    """

    crop_seconds: float = 1.0
    crops: int = 4
    initial_sounds: int = 200
    panned_fraction: float = 0.5
    stft_weight: float = 1.0
    log_weight: float = 0.3
    wave_weight: float = 1.0
    kl_weight: float = 1e-4
    fft_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_minimum(self, "crops", 1)
        check_minimum(self, "initial_sounds", 1)
        if not 0 <= self.panned_fraction <= 1:
            raise ConfigError(f"panned_fraction must lie in [0, 1], got {self.panned_fraction}.")
        for name in ("stft_weight", "log_weight", "wave_weight", "kl_weight"):
            check_minimum(self, name, 0)
        if not self.fft_sizes or min(self.fft_sizes) < 16:
            raise ConfigError(f"fft_sizes must be sizes of at least 16 samples, got {self.fft_sizes}.")
        if not self.crop_seconds > 0:
            raise ConfigError(f"crop_seconds must be above 0, got {self.crop_seconds}.")


@dataclass(frozen=True, kw_only=True)
class DiffusionSettings(RunSettings):
    """Training of the diffusion network, its conditioners and its text encoder.

    Every dropout is drawn independently of the others.

    Attributes:
        text_dropout: Fraction of items without a video whose text is replaced by "".
        text_with_video_dropout: The same for items with a video. A larger value makes the video matter.
        video_dropout: Fraction of videos that are replaced by the empty video.
        audio_dropout: Fraction of items whose audio prompt is replaced by silence.
        context_dropout: Fraction of items whose whole context becomes zeros, as guidance needs it.
        noise_spread: Spread of the drawn times, see `audiox_ext.training.times`. 0 draws them uniformly.
        noise_shift: Shift of the drawn times towards more noise.
        caption_steps: Steps of pretraining on captions alone, see `diffusion.caption_pretraining`.
        teacher_fraction: Fraction of the teacher's prediction in the training target, if there is a teacher.
    """

    text_dropout: float = 0.1
    text_with_video_dropout: float = 0.3
    video_dropout: float = 0.15
    audio_dropout: float = 0.7
    context_dropout: float = 0.1
    noise_spread: float = 0.0
    noise_shift: float = 0.0
    caption_steps: int = 0
    teacher_fraction: float = 0.8

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith(("_dropout", "teacher_fraction")) and not 0 <= value <= 1:
                raise ConfigError(f"{item.name} must lie in [0, 1], got {value}.")
        check_minimum(self, "noise_spread", 0)
        check_minimum(self, "caption_steps", 0)


@dataclass(frozen=True, kw_only=True)
class SyncSettings(RunSettings):
    """Training of the sync encoder. A batch holds segments of 16 frames.

    Attributes:
        segments: Number of segments to train on; they are reused until the last step.
        onset_weight: Weight of the error of the onset channels, relative to the error of all channels.
    """

    segments: int = 16_000
    onset_weight: float = 1.0

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        check_minimum(self, "segments", 1)
        check_minimum(self, "onset_weight", 0)


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The synthesised data, see `world.dataset.Dataset`.

    Attributes:
        kinds: Kinds of sound. A kind that is listed twice is drawn twice as often.
        sounds: Number of sounds that the diffusion trains on; they are reused with new captions.
        films: Number of videos that the diffusion trains on, reused in the same way.
        film_fraction: Fraction of videos in a batch.
        then_fraction: Fraction of the other items that have two sounds, one after the other.
        with_fraction: Fraction of the other items that have two sounds at once.
        length: Number of items in the training split.
        first: Number of the first training item, to continue a model on new items.
    """

    kinds: tuple[str, ...] = KNOWN_KINDS
    sounds: int = 20_000
    films: int = 4_000
    film_fraction: float = 0.25
    then_fraction: float = 0.15
    with_fraction: float = 0.1
    length: int = 10_000_000
    first: int = 0


@dataclass(frozen=True, kw_only=True)
class TextEncoderSettings:
    """Sizes of a T5 encoder that is trained from scratch (Raffel et al. 2020).

    It has the text conditioner's width.

    Attributes:
        d_ff: Width of the feed-forward layers.
        d_kv: Width of an attention head.
        num_heads: Attention heads of a block.
        num_layers: Blocks.
        vocabulary: Tokens of the tokenizer, which is trained on the captions.
    """

    d_ff: int
    d_kv: int
    num_heads: int
    num_layers: int
    vocabulary: int = 1024


@dataclass(frozen=True, kw_only=True)
class SynchformerSettings:
    """Sizes of the sync encoder.

    Its width is the video conditioner's `sync_dim`, split into heads of 64.

    Attributes:
        depth: Blocks.
        patch_size: Side of a patch in pixels.
        mlp_ratio: Width of the feed-forward layers as a multiple of the width.
    """

    depth: int = 1
    patch_size: int = 32
    mlp_ratio: float = 2


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Contents of a training file.

    Attributes:
        name: Name of the model.
        data: The synthesised data.
        config_json: The model's config.json.
        model: The same, parsed.
        text_encoder: Sizes of the text encoder.
        synchformer: Sizes of the sync encoder.
        autoencoder: Training of the autoencoder.
        diffusion: Training of the diffusion.
        sync: Training of the sync encoder, or None.
        waves: A waveform autoencoder that is trained first. The model's spectral autoencoder is built from
            it, see `autoencoder.spectral_decoder`. None where the model's autoencoder is trained itself.
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

    @property
    def identity(self) -> dict[str, str]:
        """What a resumed training must share, by a name for the user."""
        model = {key: value for key, value in self.config_json.items() if key != "license"}
        text = json.dumps([model, asdict(self.text_encoder), asdict(self.synchformer)], sort_keys=True)
        return {
            "data section": str(self.data),
            "model section": hashlib.sha256(text.encode()).hexdigest(),
        }

    def dataset(self, split: Split, *, film_fraction: float, length: int | None = None) -> Dataset:
        """The items to train on or to validate with.

        Args:
            split: Name of the split.
            film_fraction: Fraction of videos, 0 to 1.
            length: Number of items; None for `data.length`.
        """
        return Dataset(
            split,
            rate=self.model.sample_rate,
            seconds=self.model.conditioning_seconds,
            kinds=self.data.kinds,
            film_fraction=film_fraction,
            then_fraction=self.data.then_fraction,
            with_fraction=self.data.with_fraction,
            first=self.data.first if split == "training" else 0,
            length=self.data.length if length is None else length,
        )

    def balanced_dataset(self, split: Split) -> Dataset:
        """Sounds of all kinds in equal numbers, for autoencoders, which must represent every kind."""
        return replace(self.dataset(split, film_fraction=0), kinds=tuple(dict.fromkeys(self.data.kinds)))

    def inherit_licenses(self, *licenses: str | None, files: Sequence[Path] = ()) -> TrainingConfig:
        """Return this configuration with the strictest of its licence and those of what it is trained from.

        Args:
            licenses: Licences of models; None counts as non-commercial.
            files: Weights files; those that name no licence change nothing.
        """
        name = add_header_licenses(find_strictest([self.model.license, *licenses]), files)
        if name == self.model.license:
            return self
        config_json = {**self.config_json, "license": name}
        return replace(self, config_json=config_json, model=replace(self.model, license=name))

    def conditioner(self, kind: type[T]) -> T | None:
        """The configuration of the model's conditioner of a type, or None."""
        return next((c for c in self.model.conditioners.values() if isinstance(c, kind)), None)
