"""Prepared items, batch by batch, in ever other words; the same whenever they are made.

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
    """The last F items are films.

    captions: B texts. latents: (B, 2, C, L), mean and deviation. mels: (B, mels, T) or None. pictures: (F,
    frames, tokens, width) and sync: (F, N, width), or None where F is 0.
    """

    captions: tuple[str, ...]
    latents: Tensor
    mels: Tensor | None = None
    pictures: Tensor | None = None
    sync: Tensor | None = None

    @property
    def has_film(self) -> Tensor:
        """(B,) bool, on the CPU."""
        count, films = len(self.captions), 0 if self.pictures is None else len(self.pictures)
        return torch.arange(count) >= count - films

    def to(self, device: torch.device) -> PreparedBatch:
        """The same with its tensors on a device."""
        tensors = {item.name: getattr(self, item.name) for item in fields(self)}
        moved_tensors: dict[str, Any] = {
            name: value.to(device) for name, value in tensors.items() if isinstance(value, Tensor)
        }
        return replace(self, **moved_tensors)


@dataclass(frozen=True)
class PreparedBatches:
    """sounds, films: each a dataset and what was prepared of it. film_fraction: of a batch. shuffled: each
    pass in another order and in other words.
    """

    sounds: tuple[Dataset, Rows]
    films: tuple[Dataset, Rows]
    size: int
    film_fraction: float
    shuffled: bool = True

    def __getitem__(self, step: int) -> PreparedBatch:
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
