"""LoRA files of other programs, of random numbers, and their changes of weights, computed without the engine.

R rank, I inputs, O outputs, K width of a filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
LINEAR, FILTERS, POINTS = "transformer.layers.0.attn.qkv", "transformer.layers.0.linear1", "preprocess_conv"
"""Layers of the golden mmdit: a linear one, and convolutions of width 3 and 1."""
Apply = Callable[..., Tensors]
"""Applies tensors as a file to the golden mmdit; see the fixture `apply`."""


def underscores(name: str) -> str:
    """The name as kohya writes it."""
    return name.replace(".", "_")


@dataclass(frozen=True)
class Method:
    """The tensors of one layer, and the change of its weight at strength 1.

    Attributes:
        name: of the method.
        tensors: by the end of their names.
        difference: from the weight (O, I, K), float64, to its change.
        is_linear_in_comfyui: whether ComfyUI scales the change with the strength, as the engine always does.
        is_in_comfyui: whether ComfyUI reads it, and computes what the method's paper says.
    """

    name: str
    tensors: Tensors
    difference: Callable[[Tensor], Tensor]
    is_linear_in_comfyui: bool = True
    is_in_comfyui: bool = True


class MethodFiles:
    """Makes the methods' tensors for one weight of the shape (O, I) or (O, I, K)."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0, axes: int | None = None) -> None:
        """Set the weight's shape, and the number of axes of matrices for convolutions."""
        self.generator = torch.Generator().manual_seed(seed)
        self.outputs, self.inputs = shape[:2]
        self.filters = shape[2:]
        ones = () if axes is None or len(shape) < 3 else (1,) * (axes - len(shape))
        self.ones = (1,) * len(self.filters) + ones
        self.filter_sizes = self.filters + ones
        self.shape = shape

    def __iter__(self) -> Iterator[Method]:
        """Every method."""
        for alpha in (None, torch.tensor(2, dtype=torch.int64)):
            suffix = "" if alpha is None else " with alpha"
            for method in (*self.lora(), *self.hadamard(), *self.kronecker(), self.generalized()):
                yield self.scaled(method, alpha, suffix)
        for method in self.lora():
            yield from (self.dora(method, "outputs"), self.dora(method, "inputs"))
        yield from (self.rotation(), self.butterfly(), self.plain("diff"), self.plain("w_norm"), self.set())

    def random(self, *shape: int, scale: float = 0.1) -> Tensor:
        """Random numbers."""
        return torch.randn(*shape, generator=self.generator) * scale

    def scaled(self, method: Method, alpha: Tensor | None, suffix: str) -> Method:
        """The method with an alpha, which is divided by the rank 4."""
        if alpha is None:
            return method
        # LoKr has no rank, and so no scale, if both matrices are whole.
        factor = 1.0 if method.name == "LoKr of whole matrices" else float(alpha) / 4
        return Method(
            method.name + suffix,
            {**method.tensors, "alpha": alpha},
            lambda weight: method.difference(weight) * factor,
            method.is_linear_in_comfyui,
            method.is_in_comfyui,
        )

    def lora(self) -> Iterator[Method]:
        """LoRA, and for convolutions with a third matrix."""
        down, up = self.random(4, self.inputs, *self.filter_sizes), self.random(self.outputs, 4, *self.ones)
        product = (
            torch.einsum("or,rik->oik", up.double().flatten(1), down.double().flatten(2, -1))
            if (self.filters)
            else up.double() @ down.double()
        )
        tensors = {"lora_down.weight": down, "lora_up.weight": up}
        yield Method("LoRA", tensors, lambda weight: product.reshape(weight.shape))
        if self.filters:
            down, mid = self.random(4, self.inputs, *self.ones), self.random(4, 4, *self.filter_sizes)
            whole = torch.einsum(
                "os,srk,ri->oik",
                up.double().flatten(1),
                mid.double().flatten(2),
                down.double().flatten(1),
            )
            tensors = {"lora_down.weight": down, "lora_up.weight": up, "lora_mid.weight": mid}
            # ComfyUI expects four axes here.
            yield Method(
                "LoRA of three matrices",
                tensors,
                lambda weight: whole.reshape(weight.shape),
                is_in_comfyui=mid.dim() == 4,
            )

    def hadamard(self) -> Iterator[Method]:
        """LoHa."""
        width = self.inputs * (self.filters[0] if self.filters else 1)
        a1, b1, a2, b2 = (self.random(*s) for s in [(self.outputs, 4), (4, width)] * 2)
        whole = (a1.double() @ b1.double()) * (a2.double() @ b2.double())
        tensors = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2}
        yield Method("LoHa", tensors, lambda weight: whole.reshape(weight.shape))
        if self.filters:
            t1, t2 = self.random(4, 4, *self.filter_sizes, scale=1), self.random(4, 4, *self.filter_sizes)
            a1, b1, a2, b2 = (self.random(*s) for s in [(4, self.outputs), (4, self.inputs)] * 2)
            factors = [
                torch.einsum("srk,so,ri->oik", t.double().flatten(2), a.double(), b.double())
                for t, a, b in ((t1, a1, b1), (t2, a2, b2))
            ]
            tensors = {"hada_w1_a": a1, "hada_w1_b": b1, "hada_w2_a": a2, "hada_w2_b": b2}
            yield Method(
                "LoHa of three matrices",
                {**tensors, "hada_t1": t1, "hada_t2": t2},
                lambda weight: (factors[0] * factors[1]).reshape(weight.shape),
                is_in_comfyui=t1.dim() == 4,
            )

    def kronecker(self) -> Iterator[Method]:
        """LoKr, of whole matrices and of products."""
        first = self.random(4, 2)
        second = self.random(self.outputs // 4, self.inputs // 2, *self.filter_sizes)
        tensors = {"lokr_w1": first, "lokr_w2": second}
        in_comfyui = second.dim() != 3  # of three axes it computes something else
        yield self._kronecker("whole matrices", tensors, first, second, in_comfyui)
        a, b = self.random(self.outputs // 4, 4), self.random(4, second[0].numel())
        second = (a.double() @ b.double()).reshape(second.shape)
        yield self._kronecker("a product", {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b}, first, second)
        a1, b1 = self.random(4, 4), self.random(4, 2)
        tensors = {"lokr_w1_a": a1, "lokr_w1_b": b1, "lokr_w2_a": a, "lokr_w2_b": b}
        yield self._kronecker("two products", tensors, a1.double() @ b1.double(), second)
        if self.filters:
            a, b = self.random(4, self.outputs // 4), self.random(4, self.inputs // 2)
            t = self.random(4, 4, *self.filter_sizes)
            second = torch.einsum("srk,so,ri->oik", t.double().flatten(2), a.double(), b.double())
            tensors = {"lokr_w1": first, "lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": t}
            yield self._kronecker("three matrices", tensors, first, second, in_comfyui=False)  # it fails

    def _kronecker(
        self, name: str, tensors: Tensors, first: Tensor, second: Tensor, in_comfyui: bool = True
    ) -> Method:
        """LoKr, block by block."""
        second = second.double().reshape(*second.shape[:2], -1)
        rows = [torch.cat([value * second for value in row.double()], dim=1) for row in first]
        whole = torch.cat(rows)
        return Method(
            f"LoKr of {name}", tensors, lambda weight: whole.reshape(weight.shape), is_in_comfyui=in_comfyui
        )

    def generalized(self) -> Method:
        """GLoRA."""
        a1, a2 = self.random(self.inputs, 4, *self.ones), self.random(4, self.inputs, *self.ones)
        b1, b2 = self.random(self.outputs, 4, *self.ones), self.random(4, self.inputs, *self.filter_sizes)
        turn, add = (x.double().flatten(1) @ y.double().flatten(1) for x, y in ((a1, a2), (b1, b2)))

        def difference(weight: Tensor) -> Tensor:
            return torch.einsum("oi...,ij->oj...", weight, turn) + add.reshape(weight.shape)

        tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
        return Method("GLoRA", tensors, difference)

    def dora(self, method: Method, axis: str) -> Method:
        """DoRA of LoRA, with magnitudes of outputs or inputs."""
        count = self.outputs if axis == "outputs" else self.inputs
        shape = (count, 1, *self.ones) if axis == "outputs" else (1, count, *self.ones)
        magnitude = self.random(*shape[: len(self.shape)], scale=0.2) + 1

        def difference(weight: Tensor) -> Tensor:
            changed = weight + method.difference(weight)
            result = changed.clone()
            for index in range(count):
                place = (index,) if axis == "outputs" else (slice(None), index)
                norm = (weight if axis == "outputs" else changed)[place].norm()
                result[place] *= magnitude.double().flatten()[index] / norm
            return result - weight

        tensors = {**method.tensors, "dora_scale": magnitude}
        return Method(f"DoRA of {axis}, {method.name}", tensors, difference, True, method.is_in_comfyui)

    def rotation(self) -> Method:
        """OFT with a limit of the norm."""
        blocks = self.random(self.outputs // 4, 4, 4)

        def difference(weight: Tensor) -> Tensor:
            rotations = cayley(blocks.double(), 0.5)
            rotated = torch.cat(
                [(r.T @ w.flatten(1)) for r, w in zip(rotations, weight.split(4), strict=True)]
            )
            return rotated.reshape(weight.shape) - weight

        return Method("OFT", {"oft_blocks": blocks, "alpha": torch.tensor(0.5)}, difference, False)

    def butterfly(self) -> Method:
        """BOFT of two rounds."""
        blocks = self.random(2, self.outputs // 4, 4, 4)

        def difference(weight: Tensor) -> Tensor:
            rows = weight.flatten(1)
            for index, rotations in enumerate(cayley(blocks.double(), 0.0)):
                stride = 2**index * 2
                result = torch.empty_like(rows)
                for group, rotation in enumerate(rotations):
                    # Rows of a group: pairs, `stride` apart, in order.
                    places = []
                    for pair in range(2 * group, 2 * group + 2):
                        start = pair // stride * 2 * stride + pair % stride
                        places += [start, start + stride]
                    result[places] = rotation @ rows[places]
                rows = result
            return rows.reshape(weight.shape) - weight

        return Method("BOFT", {"oft_blocks": blocks, "alpha": torch.tensor(0.0)}, difference, False)

    def plain(self, part: str) -> Method:
        """The difference itself."""
        values = self.random(*self.shape)
        return Method(part, {part: values}, lambda weight: values.double())

    def set(self) -> Method:
        """Other values."""
        values = self.random(*self.shape)
        return Method("set_weight", {"set_weight": values}, lambda weight: values.double() - weight, False)


def cayley(blocks: Tensor, limit: float) -> Tensor:
    """Rotations of blocks, whose norm is limited."""
    skew = blocks - blocks.transpose(-1, -2)
    if 0 < limit < skew.norm():
        skew = skew * limit / skew.norm()
    identity = torch.eye(blocks.shape[-1], dtype=blocks.dtype)
    return (identity + skew) @ torch.linalg.inv(identity - skew)
