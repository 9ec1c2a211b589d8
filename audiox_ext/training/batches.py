"""Batches of a training, by their number: batch number n is the same whenever it is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ..random_numbers import keyed_generator

_ORDER = 202


@dataclass(frozen=True)
class Batch:
    """step: which batch it is. numbers: of its items."""

    step: int
    numbers: tuple[int, ...]

    def to(self, device: torch.device) -> Batch:
        """The same with its tensors on a device."""
        raise NotImplementedError


class AnyBatches(Protocol):
    """Batches by their number."""

    def __getitem__(self, step: int) -> Batch: ...


def nth_of_pass(place: int, count: int, shuffled: bool) -> int:
    """Which of so many items comes at a place of an endless row of passes, each in another order if they are
    shuffled.
    """
    turn, within = divmod(place, count)
    return int(_order(count, turn)[within]) if shuffled else within


@lru_cache(maxsize=4)
def _order(count: int, turn: int) -> np.ndarray:
    return keyed_generator(_ORDER, turn).permutation(count)


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
