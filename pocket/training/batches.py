"""Items as tensors, batch by batch. Batch number n of a training is the same whenever it is made, so that a
training that goes on after a break sees what it would have seen.

B batch, S samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from audiox_ext.random_numbers import keyed_generator
from audiox_ext.training.trainer import Batch

from ..synth.rendering import render
from ..world.dataset import Dataset

# They tell these random numbers from those of the items.
_CROPS = 200


@dataclass(frozen=True)
class SoundBatch(Batch):
    """waveforms: (B, 2, S) float32."""

    waveforms: Tensor

    def to(self, device: torch.device) -> SoundBatch:
        """The same with its tensors on a device."""
        return SoundBatch(self.step, self.numbers, self.waveforms.to(device))


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
    wave = pad_or_trim(wave, max(samples, wave.shape[1]))
    starts = keyed_generator(_CROPS, step, slot).integers(wave.shape[1] - samples + 1, size=2)
    cuts = [wave[:, start : start + samples] for start in starts]
    return max(cuts, key=lambda cut: float(np.square(cut).sum()))


def pad_or_trim(wave: np.ndarray, samples: int) -> np.ndarray:
    """The beginning of a sound, quiet behind its end if it is shorter. (2, S) -> (2, samples)."""
    cut = wave[:, :samples]
    return np.pad(cut, ((0, 0), (0, samples - cut.shape[1])))
