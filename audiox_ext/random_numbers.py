"""Random numbers of a generation: the same seed gives the same sound on every device.

All numbers are drawn on the CPU, because the generators of other devices give different numbers. B batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from .errors import InputError


class RandomNumbers:
    """One generator for a whole batch, as in the published code, or one per item.

    With one generator per item, each item draws its numbers as in a run of its own, so its sound equals
    that of a run with its seed alone. Code that draws numbers need not know which it is. The exception is the
    sampler k-dpm-adaptive, which chooses one step size for all items, by their joint error.
    """

    def __init__(self, *generators: torch.Generator) -> None:
        """Draw from one generator for the batch, or from one per item."""
        self._generators = generators

    @classmethod
    def from_seed(cls, seed: int) -> RandomNumbers:
        """Create one generator for a batch of any size. seed: 0 to 2^64 - 1."""
        return cls(torch.Generator().manual_seed(seed))

    @classmethod
    def from_seeds(cls, seeds: Iterable[int]) -> RandomNumbers:
        """Create one generator per batch item. A single seed gives the same as `from_seed`."""
        return cls(*(torch.Generator().manual_seed(seed) for seed in seeds))

    @property
    def sources(self) -> int:
        """The number of generators: 1, or the size of the batch."""
        return len(self._generators)

    def item(self, index: int) -> RandomNumbers:
        """Return the source for a single batch item."""
        return RandomNumbers(self._generators[index]) if self.sources > 1 else self

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Draw standard normal numbers, float32.

        Args:
            shape: (B, ...).

        Raises:
            InputError: There is more than one generator, but not one per item.
        """
        one, *others = self._generators
        if not others:
            return torch.randn(tuple(shape), generator=one)
        self._check(shape[0])
        return torch.cat(
            [torch.randn((1, *shape[1:]), generator=generator) for generator in self._generators]
        )

    def uniform(self, count: int) -> Tensor:
        """Draw a number in [0, 1) for each of `count` batch items, (B,) float32.

        Raises:
            InputError: There is more than one generator, but not one per item.
        """
        one, *others = self._generators
        if not others:
            return torch.rand(count, generator=one)
        self._check(count)
        return torch.cat([torch.rand(1, generator=generator) for generator in self._generators])

    def integers(self, high: int) -> list[int]:
        """Draw a whole number in [0, high) from each generator: `sources` numbers."""
        return [int(torch.randint(0, high, (), generator=own)) for own in self._generators]

    def _check(self, batch: int) -> None:
        """Raise `InputError` unless there is one generator per item."""
        if batch != self.sources:
            raise InputError(
                f"There are {self.sources} seeds for a batch of {batch}. Give one seed, or one per item."
            )


def keyed_generator(*key: int) -> np.random.Generator:
    """Create a generator from whole numbers (0 or more); equal keys give equal numbers."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
