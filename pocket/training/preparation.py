"""Everything about an item that stays the same through the training of the diffusion, computed once: latents,
spectrogram, what the vision tower and the sync encoder make of a film.

    FOLDER/prepared/training/sounds/00000.safetensors, ... and fingerprint.json: what they were made with
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

_VERSION = 2  # of what is computed


@dataclass(frozen=True)
class Encoders:
    """What makes the numbers; all frozen."""

    model: AudioXModel
    synchformer: Synchformer | None

    def fingerprint(self, dataset: Dataset) -> str:
        """Changes with the weights that are used, the dataset and what is computed."""
        autoencoder = self.model.pretransform
        # With strengths the rest of it has no say.
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
        """Sounds (N, 2, S), and N films (T, H, W, 3) uint8 or none -> tensors of N rows, float16."""
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
        assert self.video is not None
        config = self.video.config
        device = films[0].device
        tensors: dict[str, list[Tensor]] = {"pictures": [], "sync": []}
        for film in films:
            frames = film.permute(0, 3, 1, 2)
            # The picture on screen at each time; the nudge is for times that rounding puts just before it.
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
    waveforms: Tensor
    films: tuple[Tensor, ...]

    def to(self, device: torch.device) -> _Raw:
        films = tuple(film.to(device) for film in self.films)
        return _Raw(self.step, self.numbers, self.waveforms.to(device), films)


@dataclass(frozen=True)
class _Groups:
    """A dataset's items as `prepare_rows` takes them."""

    dataset: Dataset
    samples: int

    def __getitem__(self, step: int) -> _Raw:
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
    """The items of a dataset, of sounds or of films alone, made or found."""
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
