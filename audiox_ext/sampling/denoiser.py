"""Denoiser, noise levels and noise sources for the v objective.

B batch, C latent channels, L latents. A sampler is a function of a denoiser and draws its random numbers from
the source it is given. Sources: Karras et al. 2022 (arXiv 2206.00364), Lu et al. 2022 (arXiv 2206.00927,
2211.01095).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..random_numbers import RandomNumbers

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

KEPT_LIMIT = 2**26  # bytes that are kept of a Brownian path


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
    return _beside(x, random.normal(x.shape))


def _beside(x: Tensor, drawn: Tensor) -> Tensor:
    """What was drawn on the CPU, as x is. The CPU goes on at once: it does not wait until a GPU that is still
    at work has taken it.
    """
    if x.device.type == "cuda":
        drawn = drawn.pin_memory()
    return drawn.to(device=x.device, dtype=x.dtype, non_blocking=True)


class BrownianNoise:
    """Noise between two levels of the schedule, cut from one Brownian path, so that it does not depend on the
    steps. Where each batch item has its own seed, it has its own path.

    A path costs 3 ms a step and sound (11 s of latents, one core). Asked for when the pass of a step has been
    started and before its result is needed, it costs no time on a GPU.
    """

    def __init__(self, x: Tensor, sigmas: Tensor, random: RandomNumbers) -> None:
        import torchsde

        entropies = random.integers(2**63 - 1)
        # The paths live on the CPU: their generators would give other numbers on another device.
        start = torch.zeros(x.shape[0] // len(entropies), *x.shape[1:], dtype=x.dtype)
        lowest, highest = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        # Settings and numbers of torchsde.BrownianTree, which has no say in how much is kept of the way from
        # the whole path down to a step: with its 45 tensors most of that is made twice.
        kept = max(45, min(128, KEPT_LIMIT // (start.numel() * start.element_size())))
        self._paths = [
            torchsde.BrownianInterval(
                lowest,
                highest,
                size=start.shape,
                dtype=start.dtype,
                device=start.device,
                entropy=own,
                tol=1e-6,
                pool_size=24,
                halfway_tree=True,
                cache_size=kept,
            )
            for own in entropies
        ]
        # The path keeps its ends to six digits and warns about a query beyond them.
        self._lowest, self._highest = round(lowest, 6), round(highest, 6)

    def __call__(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Unit-variance noise of x's shape for the step from sigma down to sigma_next; zeros if that is 0."""
        low, high = float(sigma_next), float(sigma)
        if low == 0:
            return torch.zeros_like(x)
        within = max(low, self._lowest), min(high, self._highest)
        increment = torch.cat([path(*within) for path in self._paths])
        return _beside(x, -increment / (high - low) ** 0.5)
