"""Prepares each item once for the diffusion training: latents, mel spectrogram, encoded film.

    FOLDER/prepared/training/sounds/00000.safetensors, ... and fingerprint.json, which identifies the encoders
    FOLDER/prepared/training/films/..., FOLDER/prepared/held-out/...

N items, C latent channels, L latents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiox_ext.conditioning.conditioners import MelConditioner, log_mel
from audiox_ext.conditioning.video_conditioner import VideoConditioner
from audiox_ext.config import SpectralEncoderConfig
from audiox_ext.model import AudioXModel
from audiox_ext.networks.vision.synchformer import Synchformer
from audiox_ext.training.trainer import Batch

from ..sync.segments import FILM_FPS, normalise_frames
from ..synth.rendering import render
from ..world.dataset import Dataset
from .batches import pad_or_trim
from .row_files import Report, Rows, fingerprint_of, prepare_rows, row_range

_VERSION = 2  # of the computation; part of the fingerprint


@dataclass(frozen=True)
class Encoders:
    """The frozen encoders of items.

    Attributes:
        model: Model with the autoencoder and the conditioners.
        synchformer: Sync encoder, None if the model has none.
    """

    model: AudioXModel
    synchformer: Synchformer | None

    def fingerprint(self, dataset: Dataset) -> str:
        """Identify prepared items.

        Args:
            dataset: Dataset of the items.

        Returns:
            A text that changes with the weights used, the dataset and the computation.
        """
        autoencoder = self.model.pretransform
        # A spectral encoder has no weights of its own: only the map of the decoder matters.
        measures = isinstance(autoencoder.config.encoder, SpectralEncoderConfig)
        layers: Any = autoencoder.model["decoder"].layers
        latents = layers[0] if measures else autoencoder
        parts: list[nn.Module | None] = [latents]
        if dataset.film_fraction:
            parts += [self.synchformer, None if self.video is None else self.video.visual_encoder_model]
        return fingerprint_of(f"{_VERSION} {dataset}", *parts)

    @property
    def video(self) -> VideoConditioner | None:
        """The video conditioner, if there is one."""
        return next((m for m in self._conditioners() if isinstance(m, VideoConditioner)), None)

    @property
    def mel(self) -> MelConditioner | None:
        """The conditioner of audio prompts, if there is one."""
        return next((m for m in self._conditioners() if isinstance(m, MelConditioner)), None)

    def _conditioners(self) -> list[nn.Module]:
        return list(self.model.conditioner.conditioners.values())

    @torch.no_grad()
    def encode(self, waveforms: Tensor, films: Sequence[Tensor]) -> dict[str, Tensor]:
        """Encode items.

        Args:
            waveforms: Sounds (N, 2, S).
            films: One film (T, H, W, 3) uint8 per sound, or none.

        Returns:
            Tensors of N rows by name, float16, on the CPU.
        """
        config = self.model.config
        ratio = config.autoencoder.downsampling_ratio
        cropped = waveforms[..., : config.latent_count * ratio]
        mean, deviation = self.model.pretransform.posterior(cropped)
        tensors = {"latents": torch.stack([mean, deviation], dim=1)}
        if self.mel is not None:
            tensors["mels"] = log_mel(waveforms.mean(dim=1), self.mel.config)
        if films:
            tensors |= self._films(films)
        return {key: value.to("cpu", torch.float16) for key, value in tensors.items()}

    def _films(self, films: Sequence[Tensor]) -> dict[str, Tensor]:
        """Encoded pictures and synchronisation features of films."""
        assert self.video is not None
        config = self.video.config
        device = films[0].device
        tensors: dict[str, list[Tensor]] = {"pictures": [], "sync": []}
        for film in films:
            frames = film.permute(0, 3, 1, 2)
            # The frame on screen at each time; the small offset compensates for rounding.
            picks = [
                min(int(i / config.video_fps * FILM_FPS + 1e-6), len(frames) - 1)
                for i in range(config.frames)
            ]
            tensors["pictures"].append(self.video.encode_frames(frames[picks], device))
            if self.synchformer is not None:
                sync_frames = frames[: round(config.seconds * config.sync_fps)]
                tensors["sync"].append(self.synchformer(normalise_frames(sync_frames[None]))[0])
        return {key: torch.stack(values) for key, values in tensors.items() if values}


@dataclass(frozen=True)
class _Raw(Batch):
    """Sounds and films to encode."""

    waveforms: Tensor
    films: tuple[Tensor, ...]

    def to(self, device: torch.device) -> _Raw:
        films = tuple(film.to(device) for film in self.films)
        return _Raw(self.step, self.numbers, self.waveforms.to(device), films)


@dataclass(frozen=True)
class _Groups:
    """Items of a dataset in groups, as `prepare_rows` expects them."""

    dataset: Dataset
    samples: int

    def __getitem__(self, step: int) -> _Raw:
        """Make a group."""
        numbers = row_range(step, len(self.dataset))
        sounds, films = [], []
        for index in numbers:
            sounds.append(pad_or_trim(render(self.dataset.scene(index), self.dataset.rate), self.samples))
            film = self.dataset.frames(index)
            if film is not None:
                films.append(torch.from_numpy(film))
        return _Raw(step, tuple(numbers), torch.from_numpy(np.stack(sounds)), tuple(films))


def prepare_items(
    encoders: Encoders,
    dataset: Dataset,
    folder: Path,
    *,
    device: torch.device,
    workers: int,
    report: Report,
) -> Rows:
    """Prepare the items of a dataset, or find those that an earlier run prepared.

    Args:
        encoders: The encoders.
        dataset: Items to prepare, all with films or all without.
        folder: Folder of the rows.
        device: Device of the encoders.
        workers: Processes that render.
        report: Receives lines about the progress.

    Returns:
        One row per item.
    """
    config = encoders.model.config

    def encode(batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, _Raw)
        return encoders.encode(batch.waveforms, batch.films)

    return prepare_rows(
        folder,
        encoders.fingerprint(dataset),
        _Groups(dataset, round(config.conditioning_seconds * config.sample_rate)),
        len(dataset),
        encode,
        device=device,
        workers=workers,
        report=report,
    )
