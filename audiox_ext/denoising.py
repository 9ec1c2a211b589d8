"""Denoiser, noise schedule and noise sources for the v objective.

B batch, C latent channels, L latents. A solver is a function of a denoiser and draws its random numbers from
the generator it is given, on the CPU, so that a seed means the same on every device. Sources: Karras et al.
2022 (arXiv 2206.00364), Lu et al. 2022 (arXiv 2206.00927, 2211.01095).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x (B, C, L), t (B,)) -> the network's prediction (B, C, L)."""


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """What a callback learns after a step. step: 1..steps. sigma: its noise level. denoised: (B, C, L)."""

    step: int
    steps: int
    sigma: float
    denoised: Tensor


StepCallback = Callable[[StepInfo], None]


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    """Latents to keep. init: (B, C, L). mask: (L,), 1 where new sound is made, 0 where init stays."""

    init: Tensor
    mask: Tensor


def polyexponential_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 1.0) -> Tensor:
    """Noise levels from sigma_max down to sigma_min along exp of a power ramp, then 0: (steps + 1,)."""
    ramp = torch.linspace(1, 0, steps) ** rho
    sigmas = torch.exp(ramp * (math.log(sigma_max) - math.log(sigma_min)) + math.log(sigma_min))
    return torch.cat([sigmas, sigmas.new_zeros(1)])


class VDenoiser:
    """The clean latents that a network with the v objective expects at noise level sigma (> 0).

    Scalings for unit data variance: c_skip = 1 / (s^2 + 1), c_out = -s / sqrt(s^2 + 1), c_in = 1 / sqrt(s^2 +
    1), and the network's time t = 2 / pi * atan(s).
    """

    def __init__(self, velocity: Velocity) -> None:
        self.velocity = velocity

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x: (B, C, L). sigma: 0-dimensional, float32. Returns (B, C, L)."""
        square = sigma.square() + 1
        t = (sigma.atan() / math.pi * 2).expand(x.shape[0])
        v = self.velocity(x * square.rsqrt(), t)
        return x / square - v * (sigma * square.rsqrt())


def randn_like(x: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers of x's shape, drawn on the CPU in float32, wherever x is."""
    return torch.randn(x.shape, generator=generator).to(device=x.device, dtype=x.dtype)


class BrownianNoise:
    """Noise between two levels of the schedule, cut from one Brownian path, so that it does not depend on the
    steps.
    """

    def __init__(self, x: Tensor, sigmas: Tensor, generator: torch.Generator) -> None:
        import torchsde

        entropy = int(torch.randint(0, 2**63 - 1, (), generator=generator))
        # The path lives on the CPU: its generators would give other numbers on another device.
        start = torch.zeros(x.shape, dtype=x.dtype)
        lowest, highest = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        self._tree = torchsde.BrownianTree(lowest, start, highest, entropy=entropy)
        # The tree keeps its ends to six digits and warns about a query beyond them.
        self._lowest, self._highest = round(lowest, 6), round(highest, 6)

    def __call__(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Unit-variance noise of x's shape for the step from sigma down to sigma_next (> 0)."""
        low, high = float(sigma_next), float(sigma)
        increment = self._tree(max(low, self._lowest), min(high, self._highest))
        return (-increment / (high - low) ** 0.5).to(device=x.device, dtype=x.dtype)
