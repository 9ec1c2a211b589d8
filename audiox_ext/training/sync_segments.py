"""Segments of films with what is to be said of them, batch by batch.

B segments, T frames of a segment, G its time steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..networks.synchformer import SynchformerConfig
from .batches import Batch
from .dataset import Dataset
from .scenes import random_numbers
from .sync_code import sync_code

FILM_FPS = 25.0
_SEGMENTS = 201  # tells these random numbers from others
_OF_A_FILM = 4  # segments that are taken of one film, whose room takes time to paint


@dataclass(frozen=True)
class SegmentBatch(Batch):
    """frames: (B, T, H, W, 3) uint8. codes: (B, G, 16) float32, what is to be said of them."""

    frames: Tensor
    codes: Tensor

    def to(self, device: torch.device) -> SegmentBatch:
        """The same on a device."""
        return SegmentBatch(self.step, self.numbers, self.frames.to(device), self.codes.to(device))


@dataclass(frozen=True)
class SegmentBatches:
    """Segments of films, batch by batch; the same whenever they are made. dataset: of films alone."""

    dataset: Dataset
    size: int
    config: SynchformerConfig

    def __getitem__(self, step: int) -> SegmentBatch:
        films = -(-self.size // _OF_A_FILM)
        indices = [number % len(self.dataset) for number in range(step * films, (step + 1) * films)]
        frames: list[np.ndarray] = []
        codes: list[np.ndarray] = []
        for slot, index in enumerate(indices):
            for place in range(min(_OF_A_FILM, self.size - len(frames))):
                first = self._first(step, slot, place)
                frames.append(self._frames(index, first))
                codes.append(self._code(index, first))
        return SegmentBatch(
            step,
            tuple(self.dataset.first + index for index in indices),
            torch.from_numpy(np.stack(frames)),
            torch.from_numpy(np.stack(codes)),
        )

    def _first(self, *key: int) -> int:
        """The first frame of a segment."""
        last = round(self.dataset.seconds * FILM_FPS) - self.config.segment_frames
        return int(random_numbers(_SEGMENTS, *key).integers(last + 1))

    def _frames(self, index: int, first: int) -> np.ndarray:
        frames = self.dataset.frames(index, range(first, first + self.config.segment_frames))
        assert frames is not None
        return frames

    def _code(self, index: int, first: int) -> np.ndarray:
        step = self.config.patch_frames / FILM_FPS
        return sync_code(self.dataset.scene(index), first / FILM_FPS, self.config.time_steps, step)
