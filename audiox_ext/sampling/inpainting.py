"""Inpainting: which latents of a sound a run keeps.

B batch, C latent channels, L latents. Positions in `MaskArguments` are in percent of the number of latents.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError

_ROUNDING = 1e-6  # a latent is free at the time that equals its strength, in spite of rounding


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    """Latents to keep by the published rule.

    Attributes:
        init: Latents of the original (B, C, L).
        mask: (L,): 1 makes new sound, 0 keeps the original, a value in between keeps it for part of the
            steps. See `MaskArguments`.
    """

    init: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class StrengthInpainting:
    """Latents to change, each with its own denoising strength.

    Strength 0 keeps a latent exactly, 1 makes it from pure noise. A latent of strength s stays the noised
    original while the run's time (1 at its start, 0 at its end) is above s, and is free from then on, as in a
    variation that starts at s. While it is held, its clean latents are known. They replace the network's
    estimate, so that x stays the original at the current noise level in every sampler.

    Source: Differential Diffusion, Levin and Fried 2023 (arXiv 2306.00950).

    Attributes:
        init: Latents of the original (B, C, L).
        mask: Strengths (L,) or (B, L) in [0, 1].
    """

    init: Tensor
    mask: Tensor

    def __post_init__(self) -> None:
        """Raise `InputError` for a mask of another shape or range."""
        shape, (batch, _, length) = tuple(self.mask.shape), self.init.shape
        if shape not in ((length,), (batch, length)):
            raise InputError(
                f"The mask has shape {shape}. For latents of shape {tuple(self.init.shape)} it "
                f"must be ({length},) or ({batch}, {length})."
            )
        low, high = float(self.mask.min()), float(self.mask.max())
        if not (low >= 0 and high <= 1):
            raise InputError(f"The mask's values must lie in [0, 1], got {low:g} to {high:g}.")

    def held(self, time: float) -> Tensor:
        """Return where the original is held at this time: bool, (1 or B, 1, L)."""
        mask = self.mask if self.mask.dim() == 2 else self.mask[None]
        return ((mask < time - _ROUNDING) | (mask == 0))[:, None]

    def hold(self, clean: Tensor, time: float) -> Tensor:
        """Return the clean latents (B, C, L), replaced by the original where it is held."""
        return torch.where(self.held(time), self.init, clean)


@dataclass(frozen=True, kw_only=True)
class MaskArguments:
    """`mask_args` of `generate_diffusion_cond`, in percent of the latents unless noted.

    Attributes:
        cropfrom: Start of the latents that are copied.
        pastefrom: Start of the place to which they are copied.
        pasteto: End of that place.
        maskstart: Start of the region that is regenerated.
        maskend: End of that region.
        softnessL: Length of the Hann ramp inside its start.
        softnessR: Length of the Hann ramp inside its end.
        marination: Fraction of the original that stays in the region, 0 to 1.
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
        """Raise `InputError` for values out of range."""
        for name in self.__dataclass_fields__:
            value, limit = getattr(self, name), 1 if name == "marination" else 100
            if not (isinstance(value, (int, float)) and math.isfinite(value) and 0 <= value <= limit):
                raise InputError(f"mask_args: {name} must lie in [0, {limit}], got {value!r}.")
        for first, second in (("maskstart", "maskend"), ("pastefrom", "pasteto")):
            start, end = getattr(self, first), getattr(self, second)
            if end <= start:
                raise InputError(
                    f"mask_args: {first} is {start:g} %, {second} {end:g} %: the end must follow the start. "
                    "Swap them or choose a later end."
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, float]) -> MaskArguments:
        """Build from a mapping. Raises `InputError` for a name that is not one of the fields."""
        unknown = sorted(set(values) - set(cls.__dataclass_fields__))
        if unknown:
            raise InputError(
                f"Unknown mask_args: {', '.join(unknown)}. Choose from {', '.join(cls.__dataclass_fields__)}."
            )
        return cls(**values)


def paste_latents(init: Tensor, arguments: MaskArguments) -> Tensor:
    """Copy the cropped latents of init (B, C, L) to their place, with zeros elsewhere."""
    n = init.shape[-1]
    source = math.floor(arguments.cropfrom / 100 * n)
    target = math.floor(arguments.pastefrom / 100 * n)
    count = min(math.ceil(arguments.pasteto / 100 * n) - target, n - source)
    pasted = torch.zeros_like(init)
    pasted[..., target : target + count] = init[..., source : source + count]
    return pasted


def build_mask(n: int, arguments: MaskArguments) -> Tensor:
    """Return the mask of n latents, (n,) float32: 1 where sound is regenerated, 0 where it is kept."""
    start, end = math.floor(arguments.maskstart / 100 * n), math.ceil(arguments.maskend / 100 * n)
    left, right = round(arguments.softnessL / 100 * n), round(arguments.softnessR / 100 * n)
    if max(left, right) > end - start:
        raise InputError(
            f"mask_args: a softness of {max(left, right)} latents is longer than the masked {end - start} "
            "latents. Lower softnessL or softnessR."
        )
    mask = torch.zeros(n)
    mask[start:end] = 1
    if left:
        mask[start : start + left] = torch.hann_window(2 * left, periodic=False)[:left]
    if right:
        mask[end - right : end] = torch.hann_window(2 * right, periodic=False)[right:]
    return mask * (1 - arguments.marination)
