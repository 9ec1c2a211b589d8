"""Where the random numbers of one generation come from, so that a seed means the same sound everywhere.

All are drawn on the CPU: generators of other devices give other numbers. B batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from .errors import InputError


class RandomNumbers:
    """One generator for a whole batch, as published, or one for each of its items.

    With one an item, every number that has to do with an item comes from its own generator, in the order of a
    run of that item alone: the item equals the run with its seed. Entering a batch into the one or the other
    is all that differs; who draws need not know. The sampler k-dpm-adaptive is the exception: it chooses one
    step size for all items, by the error of all, so an item's steps are not those of its own run.
    """

    def __init__(self, *generators: torch.Generator) -> None:
        self._generators = generators

    @classmethod
    def from_seed(cls, seed: int) -> RandomNumbers:
        """One generator, however large the batch. seed: 0 to 2^64 - 1."""
        return cls(torch.Generator().manual_seed(seed))

    @classmethod
    def from_seeds(cls, seeds: Iterable[int]) -> RandomNumbers:
        """A generator a batch item. With a single seed the same as `from_seed`."""
        return cls(*(torch.Generator().manual_seed(seed) for seed in seeds))

    @property
    def sources(self) -> int:
        """1, or the size of the batch where each item has its own generator."""
        return len(self._generators)

    def item(self, index: int) -> RandomNumbers:
        """The source for what concerns one batch item alone."""
        return RandomNumbers(self._generators[index]) if self.sources > 1 else self

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, float32. shape: (B, ...). Raises `InputError` for another B than seeds."""
        one, *others = self._generators
        if not others:
            return torch.randn(tuple(shape), generator=one)
        self._check(shape[0])
        return torch.cat([torch.randn((1, *shape[1:]), generator=own) for own in self._generators])

    def uniform(self, count: int) -> Tensor:
        """A number in [0, 1) for each of `count` batch items, (B,) float32. Raises as `normal`."""
        one, *others = self._generators
        if not others:
            return torch.rand(count, generator=one)
        self._check(count)
        return torch.cat([torch.rand(1, generator=own) for own in self._generators])

    def integers(self, high: int) -> list[int]:
        """A whole number in [0, high) from each generator: `sources` numbers."""
        return [int(torch.randint(0, high, (), generator=own)) for own in self._generators]

    def _check(self, batch: int) -> None:
        if batch != self.sources:
            raise InputError(
                f"There are {self.sources} seeds for a batch of {batch}: give one, or one for each item."
            )


def keyed_generator(*key: int) -> np.random.Generator:
    """A generator for a key of whole numbers of 0 or more: equal keys, equal numbers, everywhere."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
