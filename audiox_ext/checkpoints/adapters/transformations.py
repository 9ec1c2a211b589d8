"""Changes that depend on the weight itself: DoRA, GLoRA, OFT, BOFT and replaced values.

R rank, I inputs, O outputs, K width of a filter. A weight is (O, I) or (O, I, K).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import Product, ValuesChange, WeightChange, compare_shapes


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneralizedLayer(WeightChange):
    """GLoRA: a product, and a change of the weight itself: W A1 A2 + B1 B2.

    An older form of the files names the matrices in reverse: W A2 A1 + B2 B1. The shapes tell which. Source:
    Chavan et al. 2023 (arXiv 2306.07967).

    Attributes:
        a1, a2, b1, b2: the matrices.
        alpha: the result is scaled by alpha / R; None scales nothing.
    """

    a1: Tensor
    a2: Tensor
    b1: Tensor
    b2: Tensor
    alpha: float | None

    method = "GLoRA"

    @property
    def rank(self) -> int:
        """The rank R."""
        return min(self.a1.shape[:2])

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the matrices do not fit, or an empty string."""
        if len(shape) > 1:
            left, right, product = self._order(shape)
            inputs = (left.shape[0], right.shape[1])
            ranks = {left.shape[1], right.shape[0], product.rank, product.up[0].numel()}
            if len(ranks) == 1 and inputs == (shape[1], shape[1]):
                return compare_shapes(product.shape, shape)
        sizes = ", ".join(str(tuple(part.shape)) for part in (self.a1, self.a2, self.b1, self.b2))
        return f"has GLoRA matrices of the shapes {sizes}, which do not fit {shape} in the model"

    def _order(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Product]:
        """Return the matrices for the weight, and the product, in the order of multiplication."""
        a1, a2, b1, b2 = self.a1, self.a2, self.b1, self.b2
        is_older = b2.shape[1] == b1.shape[0] == a1.shape[0] == a2.shape[1]
        is_newer = b2.shape[0] == b1.shape[1] == a1.shape[1] == a2.shape[0]
        is_square = a2.shape[0] == shape[0] == shape[1]
        if is_older and (is_square or not is_newer):
            return a2.flatten(1), a1.flatten(1), Product(up=b2, down=b1)
        return a1.flatten(1), a2.flatten(1), Product(up=b1, down=b2)

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute the scaled change."""
        left, right, product = self._order(tuple(weight.shape))
        left, right = (part.to(weight.device, torch.float32) for part in (left, right))
        turned = torch.einsum("oi...,ir,rj->oj...", weight.float(), left, right)
        factor = 1.0 if self.alpha is None else self.alpha / product.rank
        return turned.add_(product.compute(weight.device).reshape(weight.shape)).mul_(strength * factor)


@dataclass(frozen=True, kw_only=True, eq=False)
class RotationLayer(WeightChange):
    """OFT and BOFT: rotations of groups of outputs. Source: Liu et al. 2023 (arXiv 2311.06243).

    Attributes:
        blocks: (rounds, N, B, B): in each round, N groups of B outputs are rotated. OFT has one round; in the
            rounds of BOFT the groups are spread over more and more outputs, as in a butterfly.
        rescale: factors of the outputs, (O, 1), or None.
        limit: largest norm of the blocks, which are scaled down to it; 0 for none.
        is_butterfly: whether it is BOFT.
    """

    blocks: Tensor
    rescale: Tensor | None
    limit: float
    is_butterfly: bool

    method = "OFT"

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the blocks do not fit, or an empty string."""
        rounds, groups, size, other = self.blocks.shape
        outputs = groups * size
        spread = size * 2 ** (rounds - 1)
        halves = self.is_butterfly and (size % 2 or (rounds > 1 and outputs % spread))
        rescale = outputs if self.rescale is None else self.rescale.numel()
        if size == other and outputs == shape[0] == rescale and not halves:
            return ""
        return (
            f"has OFT blocks of the shape {tuple(self.blocks.shape)}, which do not fit {shape} in the model"
        )

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute the scaled way from the weight to the rotated one."""
        skew = self.blocks.to(weight.device, torch.float32)
        skew = skew - skew.transpose(-1, -2)
        norm = float(skew.norm()) + 1e-8
        if 0 < self.limit < norm:
            skew = skew * (self.limit / norm)
        identity = torch.eye(skew.shape[-1], device=skew.device)
        rotations = (identity + skew) @ torch.linalg.inv(identity - skew)
        original = weight.float()
        rotated = original.flatten(1) if original.dim() > 1 else original[:, None]
        for index, rotation in enumerate(rotations):
            rotated = self._rotate(rotation, rotated, index)
        if self.rescale is not None:
            rotated = rotated * self.rescale.to(rotated).reshape(-1, 1)
        return (rotated.reshape(weight.shape) - original).mul_(strength)

    def _rotate(self, rotation: Tensor, rows: Tensor, index: int) -> Tensor:
        """Rotate the rows (O, ...) of a weight in one round."""
        size = rotation.shape[-1]
        if not self.is_butterfly:
            groups = rows.unflatten(0, (-1, size))
            # The blocks of OFT multiply from the right, those of BOFT from the left (as published).
            return torch.einsum("gnm,gnx->gmx", rotation, groups).flatten(0, 1)
        stride = 2**index * (size // 2)
        spread = rows.unflatten(0, (-1, 2, stride)).transpose(1, 2).flatten(0, 2)
        turned = torch.einsum("gmn,gnx->gmx", rotation, spread.unflatten(0, (-1, size))).flatten(0, 1)
        return turned.unflatten(0, (-1, stride, 2)).transpose(1, 2).flatten(0, 2)


@dataclass(frozen=True, kw_only=True, eq=False)
class MagnitudeLayer(WeightChange):
    """DoRA: a change of the direction, with separate magnitudes. Source: Liu et al. 2024 (arXiv 2402.09353).

    Attributes:
        change: the change of the direction.
        magnitude: (O, 1, ...), or (1, I, ...) for magnitudes of inputs.
        of_original: whether the norms of outputs are those of the weight before the change, as ComfyUI reads
            `dora_scale`. Those of inputs never are.
    """

    change: WeightChange
    magnitude: Tensor
    of_original: bool

    @property
    def method(self) -> str:  # type: ignore[override]
        """The method's name for reports."""
        return f"DoRA ({self.change.method})"

    @property
    def rank(self) -> int:
        """The rank of the change."""
        return self.change.rank

    @property
    def scale(self) -> float | None:
        """The alpha of the change."""
        return self.change.scale

    def describe_misfit(self, shape: tuple[int, ...]) -> str:
        """Return why the change or the magnitudes do not fit, or an empty string."""
        misfit = self.change.describe_misfit(shape)
        if misfit or self._axis(shape) is not None:
            return misfit
        return (
            f"has DoRA magnitudes of the shape {tuple(self.magnitude.shape)}, which do not fit {shape} in "
            "the model"
        )

    def _axis(self, shape: tuple[int, ...]) -> int | None:
        """Return the axis of the weight that the magnitudes belong to: 0 outputs, 1 inputs, None neither."""
        count = self.magnitude.numel()
        if len(shape) < 2 or count not in shape[:2]:
            return None
        is_of_outputs = count == shape[0] and (not self.of_original or self.magnitude.shape[0] == count)
        return 0 if is_of_outputs else 1 if count == shape[1] else None

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute the scaled way from the weight to the one with the new direction and magnitudes."""
        original = weight.float()
        changed = original + self.change.difference(1.0, weight)
        axis = self._axis(tuple(weight.shape))
        others = [i for i in range(weight.dim()) if i != axis]
        of_original = self.of_original and axis == 0
        norms = (original if of_original else changed).norm(dim=others, keepdim=True)
        magnitude = self.magnitude.to(weight.device, torch.float32).reshape(norms.shape)
        changed *= magnitude / (norms + torch.finfo(torch.float32).eps)
        return changed.sub_(original).mul_(strength)


class ReplacementLayer(ValuesChange):
    """Other values in place of the weight (set_weight)."""

    method = "set_weight"

    def difference(self, strength: float, weight: Tensor) -> Tensor:
        """Compute the scaled way from the weight to the new values."""
        return (self.values.to(weight.device, torch.float32) - weight.float()).mul_(strength)
