"""Batches of sounds. A batch depends only on its number, so that a resumed training sees the same batches.

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

_CROPS = 200  # separates the random numbers of crops from those of items


@dataclass(frozen=True)
class SoundBatch(Batch):
    """A batch of sounds.

    Attributes:
        waveforms: Sounds (B, 2, S), float32.
    """

    waveforms: Tensor

    def to(self, device: torch.device) -> SoundBatch:
        """Move the tensors to a device.

        Args:
            device: The device.

        Returns:
            The batch on that device.
        """
        return SoundBatch(self.step, self.numbers, self.waveforms.to(device))


@dataclass(frozen=True)
class CropBatches:
    """Batches of excerpts from the sounds of a dataset, which repeats without end.

    Attributes:
        dataset: Dataset of scenes.
        size: Sounds per batch.
        samples: Length of an excerpt.
        crops: Number of consecutive batches from the same sounds, because rendering takes longer than
            training.
    """

    dataset: Dataset
    size: int
    samples: int
    crops: int

    def __getitem__(self, step: int) -> SoundBatch:
        """Make the batch of a step.

        Args:
            step: Number of the batch.

        Returns:
            The batch.
        """
        first = step // self.crops * self.size
        indices = tuple(number % len(self.dataset) for number in range(first, first + self.size))
        sounds = _sounds(self.dataset, indices)
        cut = [_crop(wave, self.samples, step, slot) for slot, wave in enumerate(sounds)]
        numbers = tuple(self.dataset.first + index for index in indices)
        return SoundBatch(step, numbers, torch.from_numpy(np.stack(cut)))


@lru_cache(maxsize=1)
def _sounds(dataset: Dataset, indices: tuple[int, ...]) -> tuple[np.ndarray, ...]:
    """Rendered sounds, each (2, S)."""
    return tuple(render(dataset.scene(index), dataset.rate) for index in indices)


def _crop(wave: np.ndarray, samples: int, step: int, slot: int) -> np.ndarray:
    """The louder of two random excerpts (2, samples), because much of a scene can be silence."""
    wave = pad_or_trim(wave, max(samples, wave.shape[1]))
    starts = keyed_generator(_CROPS, step, slot).integers(wave.shape[1] - samples + 1, size=2)
    cuts = [wave[:, start : start + samples] for start in starts]
    return max(cuts, key=lambda cut: float(np.square(cut).sum()))


def pad_or_trim(wave: np.ndarray, samples: int) -> np.ndarray:
    """Trim a sound at its end, or pad it with silence.

    Args:
        wave: Sound (2, S).
        samples: Length of the result.

    Returns:
        The sound (2, samples).
    """
    cut = wave[:, :samples]
    return np.pad(cut, ((0, 0), (0, samples - cut.shape[1])))
