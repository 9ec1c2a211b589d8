"""Which latents an inpainting run keeps. All positions are in percent of the latents' number n."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .errors import InputError


@dataclass(frozen=True, kw_only=True)
class MaskArguments:
    """`mask_args` of `generate_diffusion_cond`.

    Latents from cropfrom on are copied to [pastefrom, pasteto); [maskstart, maskend) is made anew, with Hann
    ramps of softnessL and softnessR inside its ends; marination in [0, 1] keeps that share of what was there.
    """

    cropfrom: float = 0.0
    pastefrom: float = 0.0
    pasteto: float = 100.0
    maskstart: float = 0.0
    maskend: float = 100.0
    softnessL: float = 0.0  # noqa: N815 - the published name
    softnessR: float = 0.0  # noqa: N815 - the published name
    marination: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value, limit = getattr(self, name), 1 if name == "marination" else 100
            if not (isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= limit):
                raise InputError(f"mask_args: {name} must lie in [0, {limit}], got {value!r}.")
        for first, second in (("maskstart", "maskend"), ("pastefrom", "pasteto")):
            start, end = getattr(self, first), getattr(self, second)
            if end <= start:
                raise InputError(
                    f"mask_args: {first} is {start:g} %, {second} {end:g} %: it must end after it starts. "
                    "Swap them or choose a later end."
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, float]) -> MaskArguments:
        """Raises `InputError` for a name that is not one of the fields."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise InputError(
                f"mask_args does not know {', '.join(unknown)}; it takes "
                f"{', '.join(cls.__dataclass_fields__)}."
            )
        return cls(**values)


def paste_latents(init: Tensor, arguments: MaskArguments) -> Tensor:
    """init: (B, C, n). Returns (B, C, n): the wanted part moved to its place, zeros elsewhere."""
    n = init.shape[-1]
    source = math.floor(arguments.cropfrom / 100 * n)
    target = math.floor(arguments.pastefrom / 100 * n)
    count = min(math.ceil(arguments.pasteto / 100 * n) - target, n - source)
    pasted = torch.zeros_like(init)
    pasted[..., target : target + count] = init[..., source : source + count]
    return pasted


def build_mask(n: int, arguments: MaskArguments) -> Tensor:
    """(n,) float32, 1 where sound is made anew, 0 where it is kept."""
    start, end = math.floor(arguments.maskstart / 100 * n), math.ceil(arguments.maskend / 100 * n)
    left, right = round(arguments.softnessL / 100 * n), round(arguments.softnessR / 100 * n)
    if max(left, right) > end - start:
        raise InputError(
            f"mask_args: a softness of {max(left, right)} latents is longer than the masked {end - start}. "
            "Lower it."
        )
    mask = torch.zeros(n)
    mask[start:end] = 1
    if left:
        mask[start : start + left] = torch.hann_window(2 * left, periodic=False)[:left]
    if right:
        mask[end - right : end] = torch.hann_window(2 * right, periodic=False)[right:]
    return mask * (1 - arguments.marination)
