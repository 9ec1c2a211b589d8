"""Changes that a LoRA file adds to a weight: LoRA, LoHa, LoKr and plain differences.

R rank, I inputs, O outputs, K width of a filter. A weight is (O, I) or (O, I, K).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Product, ValuesChange, WeightChange, compare_shapes

Matrix = Tensor | Product
"""A whole matrix, or a product."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoraLayer(WeightChange):
    """LoRA: alpha / R * B A. Source: Hu et al. 2021 (arXiv 2106.09685).

    Attributes:
        down: A, (R, I) or (R, I, K).
        up: B, (O, R) or (O, R, 1).
        alpha: the matrices are scaled by alpha / R.
    """

    down: Tensor
    up: Tensor
    alpha: float

    method = "LoRA"

    @property
    def rank(self) -> int:
        """The rank R."""
        return self.down.shape[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight, (O, I) or (O, I, K)."""
        return (self.up.shape[0], *self.down.shape[1:])

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the shapes differ, or an empty string."""
        return compare_shapes(self.shape, shape)

    def difference(self, strength: float, weight: Tensor | None = None) -> Tensor:
        """Compute strength * alpha / R * B A. The weight only tells the device and the shape."""
        product = Product(up=self.up, down=self.down).compute("cpu" if weight is None else weight.device)
        shape = self.shape if weight is None else weight.shape
        return product.mul_(strength * self.alpha / self.rank).reshape(shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class TuckerLayer(WeightChange):
    """LoRA of a convolution with a third matrix between both: alpha / R * B C A.

    Attributes:
        product: the three matrices.
        alpha: they are scaled by alpha / R.
    """

    product: Product
    alpha: float

    method = "LoRA with lora_mid"

    @property
    def rank(self) -> int:
        """The rank R."""
        return self.product.rank

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the shapes differ, or an empty string."""
        return compare_shapes(self.product.shape, shape)

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute strength * alpha / R * B C A."""
        product = self.product.compute(weight.device)
        return product.mul_(strength * self.alpha / self.rank).reshape(weight.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class HadamardLayer(WeightChange):
    """LoHa: two products, multiplied elementwise. Source: Hyeon-Woo et al. 2021 (arXiv 2108.06098).

    Attributes:
        first: a product of the weight's shape.
        second: a second one.
        alpha: the result is scaled by alpha / R.
    """

    first: Product
    second: Product
    alpha: float

    method = "LoHa"

    @property
    def rank(self) -> int:
        """The rank R."""
        return self.first.rank

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the shapes differ, or an empty string."""
        return compare_shapes(self.first.shape, shape) or compare_shapes(self.second.shape, shape)

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute the scaled elementwise product."""
        first, second = (product.compute(weight.device) for product in (self.first, self.second))
        return first.mul_(second).mul_(strength * self.alpha / self.rank).reshape(weight.shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class KroneckerLayer(WeightChange):
    """LoKr: the Kronecker product of two matrices. Source: Yeh et al. 2023 (arXiv 2309.14859).

    Attributes:
        first: (O1, I1).
        second: (O2, I2) or (O2, I2, K), where O = O1 O2 and I = I1 I2.
        alpha: the result is scaled by alpha / R, where R is the rank of the second matrix, or else of the
            first. None, and two whole matrices, scale nothing.
    """

    first: Matrix
    second: Matrix
    alpha: float | None

    method = "LoKr"

    @property
    def rank(self) -> int:
        """The rank R; 0 for two whole matrices."""
        ranks = [part.rank for part in (self.second, self.first) if isinstance(part, Product)]
        return ranks[0] if ranks else 0

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the layer's weight, (O, I) or (O, I, K)."""
        first, second = self.first.shape, self.second.shape
        return (first[0] * second[0], first[1] * second[1], *second[2:])

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the shapes differ, or an empty string."""
        return compare_shapes(self.shape, shape)

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute the scaled Kronecker product."""
        first, second = (_compute(part, weight.device) for part in (self.first, self.second))
        factor = 1.0 if self.alpha is None or not self.rank else self.alpha / self.rank
        return torch.kron(first, second).mul_(strength * factor).reshape(weight.shape)


class DifferenceLayer(ValuesChange):
    """The difference itself (diff, diff_b, w_norm, b_norm)."""

    method = "diff"

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Return the scaled difference."""
        return self.values.to(weight.device, torch.float32) * strength


def _compute(part: Matrix, device: torch.device) -> Tensor:
    """Return a matrix, (O, I * K), float32."""
    return part.compute(device) if isinstance(part, Product) else part.to(device, torch.float32).flatten(1)
