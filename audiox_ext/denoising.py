"""Denoiser, noise levels and noise sources for the v objective.

B batch, C latent channels, L latents. A solver is a function of a denoiser and draws its random numbers from
the source it is given. Sources: Karras et al. 2022 (arXiv 2206.00364), Lu et al. 2022 (arXiv 2206.00927,
2211.01095).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .errors import InputError
from .random_numbers import RandomNumbers

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

AHEAD_LIMIT = 2**26  # bytes of noise that are drawn ahead; 250 steps of 11 s are 15 MB


def noise_time(sigma: float, sigma_min: float, sigma_max: float) -> float:
    """How far a run from sigma_max to sigma_min still has to go at noise level sigma: 1 at its start, 0 at
    sigma_min.

    Linear in the network's time, 2 / pi * atan(sigma), as rectified flow's is.
    """
    lowest = math.atan(sigma_min)
    return (math.atan(sigma) - lowest) / (math.atan(sigma_max) - lowest)


def noise_level(strength: float, sigma_min: float, sigma_max: float) -> float:
    """The noise level from which a variation with the v objective starts; the inverse of `noise_time`.

    strength: in (0, 1]; 1 is sigma_max, and towards 0 it falls to sigma_min. With rectified flow the strength
    is the time to start from, as it is. Raises `InputError`.
    """
    if not 0 < strength <= 1:
        raise InputError(
            f"The strength of a variation is {strength!r}; it must be above 0 (the sound as it is) and at "
            "most 1 (a new sound)."
        )
    if not 0 < sigma_min < sigma_max < math.inf:
        raise InputError(
            f"sigma_min is {sigma_min:g} and sigma_max {sigma_max:g}: sigma_min must be above 0 and below "
            "sigma_max."
        )
    if strength == 1:
        return sigma_max  # without the rounding of a tangent near its pole
    lowest = math.atan(sigma_min)
    return math.tan(lowest + strength * (math.atan(sigma_max) - lowest))


class VDenoiser:
    """The clean latents that a network with the v objective expects at noise level sigma (> 0).

    Scalings for unit data variance: c_skip = 1 / (s^2 + 1), c_out = -s / sqrt(s^2 + 1), c_in = 1 / sqrt(s^2 +
    1), and the network's time t = 2 / pi * atan(s).
    """

    def __init__(self, velocity: Velocity) -> None:
        self.velocity = velocity

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x: (B, C, L). sigma: 0-dimensional, float32, on the CPU or x's device. Returns (B, C, L)."""
        square = sigma.square() + 1
        t = (sigma.atan() / math.pi * 2).expand(x.shape[0]).to(x.device)
        v = self.velocity(x * square.rsqrt(), t)
        return x / square - v * (sigma * square.rsqrt())


def randn_like(x: Tensor, random: RandomNumbers) -> Tensor:
    """Standard normal numbers of x's shape, drawn on the CPU in float32, wherever x is."""
    return random.normal(x.shape).to(device=x.device, dtype=x.dtype)


class BrownianNoise:
    """Noise between two levels of the schedule, cut from one Brownian path, so that it does not depend on the
    steps. Where each batch item has its own seed, it has its own path.
    """

    def __init__(self, x: Tensor, sigmas: Tensor, random: RandomNumbers) -> None:
        import torchsde

        entropies = random.integers(2**63 - 1)
        # The paths live on the CPU: their generators would give other numbers on another device.
        start = torch.zeros(x.shape[0] // len(entropies), *x.shape[1:], dtype=x.dtype)
        lowest, highest = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        self._trees = [torchsde.BrownianTree(lowest, start, highest, entropy=own) for own in entropies]
        # The tree keeps its ends to six digits and warns about a query beyond them.
        self._lowest, self._highest = round(lowest, 6), round(highest, 6)

    def __call__(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Unit-variance noise of x's shape for the step from sigma down to sigma_next (> 0)."""
        return self._between(float(sigma_next), float(sigma)).to(device=x.device, dtype=x.dtype)

    def ahead(self, x: Tensor, sigmas: Tensor, limit: int = AHEAD_LIMIT) -> Iterator[Tensor]:
        """The noise of x's shape of one step after the other, (steps + 1,) levels, on x's device; none for a
        step to 0.

        The same values as step by step. They are drawn for all steps at once (or for as many as fit into
        `limit` bytes), while a GPU is at work on the first: a step then waits neither for the path, which is
        made on the CPU, nor for a copy from there.
        """
        levels = [float(sigma) for sigma in sigmas if sigma > 0]
        pairs = list(pairwise(levels))
        at_once = max(1, limit // (x.numel() * x.element_size()))
        for first in range(0, len(pairs), at_once):
            drawn = [self._between(low, high) for high, low in pairs[first : first + at_once]]
            yield from torch.stack(drawn).to(device=x.device, dtype=x.dtype)

    def _between(self, low: float, high: float) -> Tensor:
        within = max(low, self._lowest), min(high, self._highest)
        increment = torch.cat([tree(*within) for tree in self._trees])
        return -increment / (high - low) ** 0.5
