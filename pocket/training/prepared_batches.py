"""Batches of prepared items, with a new phrasing of each caption in every epoch.

A batch depends only on its number.

B batch, F films among them, C latent channels, L latents.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from audiox_ext.training.trainer import Batch, pick_item

from ..world.dataset import Dataset
from .row_files import Rows


@dataclass(frozen=True)
class PreparedBatch(Batch):
    """A batch of items, films last.

    Attributes:
        captions: One text per item.
        latents: Mean and deviation (B, 2, C, L).
        mels: Mel spectrograms (B, mels, T), or None.
        pictures: Encoded frames of the films (F, frames, tokens, width), or None without films.
        sync: Synchronisation features of the films (F, N, width), or None without them.
    """

    captions: tuple[str, ...]
    latents: Tensor
    mels: Tensor | None = None
    pictures: Tensor | None = None
    sync: Tensor | None = None

    @property
    def has_film(self) -> Tensor:
        """Whether each item is a film: (B,) bool, on the CPU."""
        count, films = len(self.captions), 0 if self.pictures is None else len(self.pictures)
        return torch.arange(count) >= count - films

    def to(self, device: torch.device) -> PreparedBatch:
        """Move the tensors to a device.

        Args:
            device: The device.

        Returns:
            The batch on that device.
        """
        tensors = {item.name: getattr(self, item.name) for item in fields(self)}
        moved_tensors: dict[str, Any] = {
            name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved_tensors)


@dataclass(frozen=True)
class PreparedBatches:
    """Batches of prepared sounds and films.

    Attributes:
        sounds: Dataset of sounds, and its prepared rows.
        films: Dataset of films, and its prepared rows.
        size: Items per batch.
        film_fraction: Fraction of films in a batch.
        shuffled: Whether every epoch has a new order and new phrasings.
    """

    sounds: tuple[Dataset, Rows]
    films: tuple[Dataset, Rows]
    size: int
    film_fraction: float
    shuffled: bool = True

    def __getitem__(self, step: int) -> PreparedBatch:
        """Make the batch of a step.

        Args:
            step: Number of the batch.

        Returns:
            The batch.
        """
        films = round(self.size * self.film_fraction) if len(self.films[0]) else 0
        if not len(self.sounds[0]):
            films = self.size
        rows: list[dict[str, Tensor]] = []
        captions, numbers = [], []
        for (dataset, items), count in ((self.sounds, self.size - films), (self.films, films)):
            for place in range(step * count, (step + 1) * count):
                turn = place // len(dataset)
                index = pick_item(place, len(dataset), self.shuffled)
                captions.append(dataset.caption(index, turn if self.shuffled else 0))
                numbers.append(dataset.first + index)
                rows.append(items[index])

        def stacked(name: str) -> Tensor | None:
            tensors = [row[name] for row in rows if name in row]
            return torch.stack(tensors) if tensors else None

        latents = stacked("latents")
        assert latents is not None
        return PreparedBatch(
            step,
            tuple(numbers),
            tuple(captions),
            latents,
            stacked("mels"),
            stacked("pictures"),
            stacked("sync"),
        )
