"""Which latents an inpainting run keeps.

B batch, C latent channels, L latents. Positions of `MaskArguments` are in percent of the latents' number n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

_ROUNDING = 1e-6  # of times: a strength that is one of the steps' times is free there


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    """Latents to keep, as published. init: (B, C, L). mask: (L,), 1 where new sound is made, 0 where init
    stays, between where it stays for a part of the steps; see `MaskArguments`.
    """

    init: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class StrengthInpainting:
    """How far each latent may change. init: (B, C, L). mask: (L,) or (B, L), values in [0, 1].

    0 stays exactly, 1 is made anew from pure noise; s between is the noised original while the run's time, 1
    at its start and 0 at its end, is above s, and free from then on, as in a variation that starts at s.
    While it is held, its clean latents are known: they take the place of the network's estimate, and so x
    stays the original at the noise of the moment in every sampler. Source: Differential Diffusion, Levin and
    Fried 2023 (arXiv 2306.00950). Raises `InputError` for a mask that does not fit.
    """

    init: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        shape, (batch, _, length) = tuple(self.mask.shape), self.init.shape
        if shape not in ((length,), (batch, length)):
            raise InputError(
                f"The mask is {shape} for latents of {tuple(self.init.shape)}: it must be ({length},) or "
                f"({batch}, {length})."
            )
        low, high = float(self.mask.min()), float(self.mask.max())
        if not (low >= 0 and high <= 1):
            raise InputError(f"The mask's values must lie in [0, 1], got {low:g} to {high:g}.")

    def held(self, time: float) -> Tensor:
        """True where the original is held at this time, (1 or B, 1, L)."""
        mask = self.mask if self.mask.dim() == 2 else self.mask[None]
        return ((mask < time - _ROUNDING) | (mask == 0))[:, None]

    def hold(self, clean: Tensor, time: float) -> Tensor:
        """The clean latents (B, C, L) with the original where it is held."""
        return torch.where(self.held(time), self.init, clean)


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
