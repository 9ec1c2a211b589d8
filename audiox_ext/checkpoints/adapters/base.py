"""The change of one weight by a LoRA file, and the products of matrices that most methods use.

R rank, I inputs, O outputs, K width of a filter. A weight is (O, I) or (O, I, K); biases and gains are (O,).
Matrices of convolutions may have the trailing sizes of their filters.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor


class WeightChange(ABC):
    """A change of one weight."""

    method: str
    """The method's name for reports."""

    @property
    def rank(self) -> int:
        """The rank R; 0 without small matrices."""
        return 0

    @property
    def scale(self) -> float | None:
        """The alpha in the file, or None if it has none."""
        alpha: float | None = getattr(self, "alpha", None)
        return alpha

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that describe the change."""
        values = [getattr(self, field.name) for field in fields(self)]  # type: ignore[arg-type]
        return list(_collect_tensors(values))

    @abstractmethod
    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the change does not fit a weight of this shape, or an empty string."""

    @abstractmethod
    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute the change of a weight.

        Args:
            strength: factor of the change; 1 as it was trained.
            weight: the weight, with earlier changes. It is not modified.

        Returns:
            The difference, float32, shaped like the weight.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class ValuesChange(WeightChange):
    """A change by values that are shaped like the weight.

    values: the values.
    """

    values: Tensor

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the shapes differ, or an empty string."""
        return "" if tuple(self.values.shape) == shape else describe_shapes(tuple(self.values.shape), shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """A matrix as the product of small ones.

    Attributes:
        up: B, (O, R) or (O, R, 1).
        down: A, (R, I) or (R, I, K).
        core: (R, R, K), between both (Tucker decomposition), or None.
    """

    up: Tensor
    down: Tensor
    core: Tensor | None = None

    @property
    def rank(self) -> int:
        """The rank R."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the product, (O, I) or (O, I, K)."""
        filters = self.down if self.core is None else self.core
        return (self.up.shape[0], self.down.shape[1], *filters.shape[2:])

    def compute(self, device: torch.device | str) -> Tensor:
        """Multiply: (O, I * K), float32."""
        up, down = (part.to(device, torch.float32).flatten(1) for part in (self.up, self.down))
        if self.core is not None:
            core = self.core.to(device, torch.float32).flatten(2)
            down = torch.einsum("srk,ri->sik", core, down).flatten(1)
        return up @ down


def _collect_tensors(values: Iterable[object]) -> Iterable[Tensor]:
    """Yield the tensors among the values, also within products and changes."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Product):
            yield from (part for part in (value.up, value.down, value.core) if part is not None)
        elif isinstance(value, WeightChange):
            yield from value.tensors


def compare_shapes(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Describe how two shapes differ. Filters may be flattened, and have trailing sizes of 1."""
    outputs, sizes = shape[0], _trim(shape[1:])
    allowed = (_trim(expected[1:]), _trim((math.prod(expected[1:]),)))
    fits = len(expected) > 1 and outputs == expected[0] and sizes in allowed
    return "" if fits else describe_shapes(shape, expected)


def _trim(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Remove trailing sizes of 1, but for the first."""
    while len(sizes) > 1 and sizes[-1] == 1:
        sizes = sizes[:-1]
    return sizes


def describe_shapes(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    """Return the sentence for shapes that differ."""
    return f"has the shape {tuple(shape)} in the LoRA and {tuple(expected)} in the model"
