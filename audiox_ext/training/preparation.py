"""Everything about an item that stays the same through the training of the diffusion, computed once: latents,
spectrogram, what the vision tower and the sync encoder make of a film.

    FOLDER/prepared/training/sounds/00000.safetensors, ... and fingerprint.json: what they were made with
    FOLDER/prepared/training/films/..., FOLDER/prepared/held-out/...

A preparation that is broken off goes on after the last whole file. N items, C latent channels, L latents.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..conditioning import MelConditioner, VideoConditioner, log_mel
from ..model import AudioXModel
from ..networks.synchformer import Synchformer
from ..state_dict import read_tensors
from .alignment import descriptors
from .batches import Batch, fitted, loader
from .checkpoints import write_whole
from .dataset import Dataset
from .rendering import render
from .sync_segments import FILM_FPS

Report = Callable[[str], None]
_VERSION = 1  # of what is computed
_FILE = 200  # items of a file
_GROUP = 8  # items that are encoded together
_REPORT_EVERY = 5  # files


@dataclass(frozen=True)
class Encoders:
    """What makes the numbers; all frozen."""

    model: AudioXModel
    synchformer: Synchformer | None

    def fingerprint(self, dataset: Dataset) -> str:
        """Changes with the weights that are used, the dataset and what is computed."""
        digest = hashlib.sha256(f"{_VERSION} {dataset} {_FILE}".encode())
        parts: list[nn.Module | None] = [self.model.pretransform]
        if dataset.film_share:
            parts += [self.synchformer, None if self.video is None else self.video.visual_encoder_model]
        for part in parts:
            for key, value in (part.state_dict() if part is not None else {}).items():
                digest.update(key.encode())
                digest.update(value.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()

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
        mean, deviation = self.model.pretransform.posterior(waveforms[..., : config.latent_count * ratio])
        made = {"latents": torch.stack([mean, deviation], dim=1)}
        made["descriptors"] = descriptors(waveforms, config.sample_rate, ratio)[:, : mean.shape[-1]]
        if self.mel is not None:
            made["mels"] = log_mel(waveforms.mean(dim=1), self.mel.config)
        if films:
            made |= self._films(films)
        return {key: value.to("cpu", torch.float16) for key, value in made.items()}

    def _films(self, films: Sequence[Tensor]) -> dict[str, Tensor]:
        assert self.video is not None
        config = self.video.config
        device = films[0].device
        made: dict[str, list[Tensor]] = {"pictures": [], "sync": []}
        for film in films:
            frames = film.permute(0, 3, 1, 2)
            # The picture on screen at each time; the nudge is for times that rounding puts just before it.
            picks = [
                min(int(i / config.video_fps * FILM_FPS + 1e-6), len(frames) - 1)
                for i in range(config.frames)
            ]
            made["pictures"].append(self.video.see(frames[picks], device))
            if self.synchformer is not None:
                wanted = frames[: round(config.seconds * config.sync_fps)]
                made["sync"].append(self.synchformer(wanted[None].float().div(255).sub(0.5).div(0.5))[0])
        return {key: torch.stack(values) for key, values in made.items() if values}


@dataclass(frozen=True)
class _Raw(Batch):
    waveforms: Tensor
    films: tuple[Tensor, ...]

    def to(self, device: torch.device) -> _Raw:
        films = tuple(film.to(device) for film in self.films)
        return _Raw(self.step, self.numbers, self.waveforms.to(device), films)


@dataclass(frozen=True)
class _Groups:
    """A dataset's items in groups that end where a file ends."""

    dataset: Dataset
    samples: int

    def __getitem__(self, step: int) -> _Raw:
        file, group = divmod(step, _groups_of_a_file())
        start = file * _FILE + group * _GROUP
        end = min(start + _GROUP, (file + 1) * _FILE, len(self.dataset))
        sounds, films = [], []
        for index in range(start, end):
            sounds.append(fitted(render(self.dataset.scene(index), self.dataset.rate), self.samples))
            film = self.dataset.frames(index)
            if film is not None:
                films.append(torch.from_numpy(film))
        numbers = tuple(range(start, end))
        return _Raw(step, numbers, torch.from_numpy(np.stack(sounds)), tuple(films))


def _groups_of_a_file() -> int:
    return -(-_FILE // _GROUP)


class PreparedItems:
    """The rows of all files of a kind, mapped, not read. `items[number]` gives an item's tensors, float32."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = tuple(files)
        self._opened: dict[int, dict[str, Tensor]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which maps the files by itself."""
        return {"_files": self._files, "_opened": {}}

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        file, row = divmod(number, _FILE)
        if file not in self._opened:
            self._opened[file] = read_tensors(self._files[file])
        return {key: value[row].float() for key, value in self._opened[file].items()}


def prepare(
    encoders: Encoders,
    dataset: Dataset,
    folder: Path,
    *,
    device: torch.device,
    workers: int,
    report: Report,
) -> PreparedItems:
    """The items of a dataset, of sounds or of films alone, made or found. What was made with other weights
    or of other items is thrown away.
    """
    fingerprint, told = encoders.fingerprint(dataset), folder / "fingerprint.json"
    if not told.is_file() or json.loads(told.read_text(encoding="utf-8")) != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_whole(told, partial(_write_text, json.dumps(fingerprint)))
    files = [folder / f"{number:05}.safetensors" for number in range(-(-len(dataset) // _FILE))]
    done = next((number for number, file in enumerate(files) if not file.is_file()), len(files))
    if done == len(files):
        return PreparedItems(files)
    config = encoders.model.config
    groups = _Groups(dataset, round(config.conditioning_seconds * config.sample_rate))
    per_file = _groups_of_a_file()
    last_file = -(-(len(dataset) - (len(files) - 1) * _FILE) // _GROUP)
    end = (len(files) - 1) * per_file + last_file
    rows: list[dict[str, Tensor]] = []
    for raw in loader(groups, done * per_file, end, workers):
        moved = raw.to(device)
        assert isinstance(moved, _Raw)
        rows.append(encoders.encode(moved.waveforms, moved.films))
        number = raw.step // per_file
        if raw.step + 1 in (end, (number + 1) * per_file):
            _write(files[number], rows)
            rows = []
            if number % _REPORT_EVERY == 0 or number + 1 == len(files):
                ready = min((number + 1) * _FILE, len(dataset))
                report(f"{folder.name}: {ready} of {len(dataset)} prepared")
    return PreparedItems(files)


def _write_text(text: str, path: Path) -> None:
    path.write_text(text, encoding="utf-8")


def _write(path: Path, rows: Sequence[dict[str, Tensor]]) -> None:
    from safetensors.torch import save_file

    tensors: dict[str, Any] = {key: torch.cat([row[key] for row in rows]) for key in rows[0]}
    write_whole(path, lambda begun: save_file(tensors, begun))
