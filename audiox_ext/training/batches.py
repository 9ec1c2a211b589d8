"""Items as tensors, batch by batch. Batch number n of a training is the same whenever it is made, so that a
training that goes on after a break sees what it would have seen.

B batch, S samples, T film frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from .dataset import Dataset
from .rendering import render
from .scenes import random_numbers

_CROPS = 200  # tells these random numbers from those of the items


@dataclass(frozen=True)
class Batch:
    """step: which batch it is. numbers: of its items. waveforms: (B, 2, S) float32. captions: B texts. films:
    B of (T, H, W, 3) uint8 or None.
    """

    step: int
    numbers: tuple[int, ...]
    waveforms: Tensor
    captions: tuple[str, ...] = ()
    films: tuple[Tensor | None, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on a device."""
        films = tuple(None if film is None else film.to(device) for film in self.films)
        return Batch(self.step, self.numbers, self.waveforms.to(device), self.captions, films)


@dataclass(frozen=True)
class Batches:
    """A dataset cut into batches, by their number; past its end it begins again.

    samples: how long the sounds are. crop: take so much from a random place instead of the beginning. whole:
    also captions and films.
    """

    dataset: Dataset
    size: int
    samples: int
    crop: bool = False
    whole: bool = True

    def __getitem__(self, step: int) -> Batch:
        indices = [number % len(self.dataset) for number in range(step * self.size, (step + 1) * self.size)]
        sounds = [self._sound(index, step, slot) for slot, index in enumerate(indices)]
        waveforms = torch.from_numpy(np.stack(sounds))
        numbers = tuple(self.dataset.first + index for index in indices)
        if not self.whole:
            return Batch(step, numbers, waveforms)
        films = [self.dataset.frames(index) for index in indices]
        return Batch(
            step,
            numbers,
            waveforms,
            tuple(self.dataset.caption(index) for index in indices),
            tuple(None if film is None else torch.from_numpy(film) for film in films),
        )

    def _sound(self, index: int, step: int, slot: int) -> np.ndarray:
        """(2, samples), quiet behind its end if it is shorter."""
        wave = render(self.dataset.scene(index), self.dataset.rate)
        spare = wave.shape[1] - self.samples
        if spare < 0:
            return np.pad(wave, ((0, 0), (0, -spare)))
        start = int(random_numbers(_CROPS, step, slot).integers(spare + 1)) if self.crop else 0
        return np.ascontiguousarray(wave[:, start : start + self.samples])


class _Steps(Sampler[int]):
    """The numbers from where a training goes on to its end."""

    def __init__(self, first: int, end: int) -> None:
        self._range = range(first, end)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def loader(batches: Batches, first: int, end: int, workers: int) -> DataLoader[Batch]:
    """Batches first to end, in order, made by so many processes; 0 for this one."""
    return DataLoader(
        batches,  # type: ignore[arg-type]  # indexed by number, and without an end of its own
        batch_size=None,
        sampler=_Steps(first, end),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        persistent_workers=False,
        multiprocessing_context="spawn" if workers else None,
    )
