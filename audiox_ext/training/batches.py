"""Items as tensors, batch by batch. Batch number n of a training is the same whenever it is made, so that a
training that goes on after a break sees what it would have seen.

B batch, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from .dataset import Dataset
from .rendering import render
from .scenes import random_numbers

# They tell these random numbers from those of the items.
_CROPS = 200
_ORDER = 202


@dataclass(frozen=True)
class Batch:
    """step: which batch it is. numbers: of its items."""

    step: int
    numbers: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on a device."""
        raise NotImplementedError


@dataclass(frozen=True)
class SoundBatch(Batch):
    """waveforms: (B, 2, S) float32."""

    waveforms: Tensor

    def to(self, device: torch.device) -> SoundBatch:
        """The same with its tensors on a device."""
        return SoundBatch(self.step, self.numbers, self.waveforms.to(device))


class AnyBatches(Protocol):
    """Batches by their number."""

    def __getitem__(self, step: int) -> Batch: ...


@dataclass(frozen=True)
class CropBatches:
    """Pieces of a dataset's sounds, batch by batch; past its end it begins again.

    samples: how long they are. crops: how many batches in a row take theirs of the same sounds, which take
    longer to make than to train on.
    """

    dataset: Dataset
    size: int
    samples: int
    crops: int

    def __getitem__(self, step: int) -> SoundBatch:
        first = step // self.crops * self.size
        indices = tuple(number % len(self.dataset) for number in range(first, first + self.size))
        sounds = _sounds(self.dataset, indices)
        cut = [_crop(wave, self.samples, step, slot) for slot, wave in enumerate(sounds)]
        numbers = tuple(self.dataset.first + index for index in indices)
        return SoundBatch(step, numbers, torch.from_numpy(np.stack(cut)))


@lru_cache(maxsize=1)
def _sounds(dataset: Dataset, indices: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Each (2, S)."""
    return tuple(render(dataset.scene(index), dataset.rate) for index in indices)


def _crop(wave: np.ndarray, samples: int, step: int, slot: int) -> np.ndarray:
    """(2, samples) from the louder of two random places, since much of a scene can be silence."""
    wave = fitted(wave, max(samples, wave.shape[1]))
    starts = random_numbers(_CROPS, step, slot).integers(wave.shape[1] - samples + 1, size=2)
    cuts = [wave[:, start : start + samples] for start in starts]
    return max(cuts, key=lambda cut: float(np.square(cut).sum()))


def fitted(wave: np.ndarray, samples: int) -> np.ndarray:
    """The beginning of a sound, quiet behind its end if it is shorter. (2, S) -> (2, samples)."""
    cut = wave[:, :samples]
    return np.pad(cut, ((0, 0), (0, samples - cut.shape[1])))


def nth_of_pass(place: int, count: int, shuffled: bool) -> int:
    """Which of so many items comes at a place of an endless row of passes, each in another order if they are
    shuffled.
    """
    turn, within = divmod(place, count)
    return int(_order(count, turn)[within]) if shuffled else within


@lru_cache(maxsize=4)
def _order(count: int, turn: int) -> np.ndarray:
    return random_numbers(_ORDER, turn).permutation(count)


class _Steps(Sampler[int]):
    """The numbers from where a training goes on to its end."""

    def __init__(self, first: int, end: int) -> None:
        self._range = range(first, end)

    def __iter__(self) -> Iterator[int]:
        return iter(self._range)

    def __len__(self) -> int:
        return len(self._range)


def loader(batches: AnyBatches, first: int, end: int, workers: int) -> DataLoader[Batch]:
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
