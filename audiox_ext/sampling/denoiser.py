"""Denoiser, noise levels and noise sources for the v objective.

B batch, C latent channels, L latents. Sources: Karras et al. 2022 (arXiv 2206.00364), Lu et al. 2022 (arXiv
2206.00927, 2211.01095).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..errors import InputError
from ..random_numbers import RandomNumbers

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x (B, C, L), t (B,)) -> the network's prediction (B, C, L)."""


@dataclass(frozen=True, kw_only=True)
class StepInfo:
    """The arguments of a callback, which is called after each step.

    Attributes:
        step: Number of the step, 1 to steps.
        steps: Number of steps in the run.
        sigma: Noise level of the step; with rectified flow, its time.
        denoised: Estimate of the clean latents (B, C, L).
    """

    step: int
    steps: int
    sigma: float
    denoised: Tensor


StepCallback = Callable[[StepInfo], None]


def part_of_run(callback: StepCallback | None, index: int, count: int) -> StepCallback | None:
    """Wrap a callback so that it reports `count` equal parts as one run; `index` is the current part."""
    if callback is None or count == 1:
        return callback

    def report(info: StepInfo) -> None:
        callback(replace(info, step=info.step + index * info.steps, steps=info.steps * count))

    return report


MAX_BROWNIAN_CACHE = 2**26
"""Bytes of a Brownian path that are cached."""


def noise_time(sigma: float, sigma_min: float, sigma_max: float) -> float:
    """Return the remaining fraction of a run at a noise level: 1 at sigma_max, 0 at sigma_min.

    It is linear in the network's time, 2 / pi * atan(sigma), as in rectified flow.
    """
    lowest = math.atan(sigma_min)
    return (math.atan(sigma) - lowest) / (math.atan(sigma_max) - lowest)


def noise_level(strength: float, sigma_min: float, sigma_max: float) -> float:
    """Return the noise level from which a variation starts; the inverse of `noise_time`.

    With rectified flow the denoising strength is the start time itself.

    Args:
        strength: Denoising strength, above 0 (sigma_min) to 1 (sigma_max).
        sigma_min: Lowest noise level of the schedule.
        sigma_max: Highest noise level of the schedule.

    Raises:
        InputError: The strength or the bounds are out of range.
    """
    if not 0 < strength <= 1:
        raise InputError(
            f"The denoising strength is {strength!r}. Choose a number above 0 (unchanged), up to 1 "
            "(a new sound)."
        )
    check_sigma_bounds(sigma_min, sigma_max)
    if strength == 1:
        return sigma_max  # without the rounding of a tangent near its pole
    lowest = math.atan(sigma_min)
    return math.tan(lowest + strength * (math.atan(sigma_max) - lowest))


def check_sigma_bounds(sigma_min: float, sigma_max: float) -> None:
    """Raise `InputError` unless 0 < sigma_min < sigma_max, both finite."""
    if not 0 < sigma_min < sigma_max < math.inf:
        raise InputError(
            f"sigma_min is {sigma_min:g} and sigma_max {sigma_max:g}: sigma_min must be above 0 and below "
            "sigma_max."
        )


class VDenoiser:
    """Estimates the clean latents at a noise level with a network of the v objective.

    Scalings for unit data variance at sigma = s: c_skip = 1 / (s^2 + 1), c_out = -s / sqrt(s^2 + 1), c_in =
    1 / sqrt(s^2 + 1), and the network's time t = 2 / pi * atan(s).
    """

    def __init__(self, velocity: Velocity) -> None:
        """Wrap a network's velocity."""
        self.velocity = velocity

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Estimate the clean latents.

        Args:
            x: Noised latents (B, C, L).
            sigma: Noise level above 0, without dimensions, float32, on the CPU or x's device.

        Returns:
            (B, C, L).
        """
        square = sigma.square() + 1
        t = (sigma.atan() / math.pi * 2).expand(x.shape[0]).to(x.device)
        v = self.velocity(x * square.rsqrt(), t)
        return x / square - v * (sigma * square.rsqrt())


def randn_like(x: Tensor, random: RandomNumbers) -> Tensor:
    """Draw standard normal numbers of x's shape, on the CPU in float32, and move them to x's device."""
    return _move_to(x, random.normal(x.shape))


def _move_to(x: Tensor, numbers: Tensor) -> Tensor:
    """Convert numbers from the CPU to x's device and type, without waiting for a busy GPU."""
    if x.device.type == "cuda":
        numbers = numbers.pin_memory()
    return numbers.to(device=x.device, dtype=x.dtype, non_blocking=True)


class BrownianNoise:
    """Noise between two noise levels, taken from one Brownian path, so that it does not depend on the steps.

    Each batch item with its own seed has its own path. A path takes 3 ms per step and sound (11 s of
    latents, one core). On a GPU it takes no time if it is drawn while the network's pass is running.
    """

    def __init__(self, x: Tensor, sigmas: Tensor, random: RandomNumbers) -> None:
        """Draw the seeds of the paths.

        Args:
            x: Latents (B, C, L).
            sigmas: All noise levels of the run.
            random: Source of one seed per path.
        """
        import torchsde

        entropies = random.integers(2**63 - 1)
        # The paths live on the CPU: their generators would give other numbers on another device.
        start = torch.zeros(x.shape[0] // len(entropies), *x.shape[1:], dtype=x.dtype)
        lowest, highest = float(sigmas[sigmas > 0].min()), float(sigmas.max())
        # Settings and numbers of torchsde.BrownianTree, except for the size of the cache. Its 45 tensors are
        # too few for the way from the whole path down to a step, and most of them would be computed twice.
        cache_size = max(45, min(128, MAX_BROWNIAN_CACHE // (start.numel() * start.element_size())))
        self._paths = [
            torchsde.BrownianInterval(
                lowest,
                highest,
                size=start.shape,
                dtype=start.dtype,
                device=start.device,
                entropy=entropy,
                tol=1e-6,
                pool_size=24,
                halfway_tree=True,
                cache_size=cache_size,
            )
            for entropy in entropies
        ]
        # The path stores its ends with six digits and warns about a query beyond them.
        self._lowest, self._highest = round(lowest, 6), round(highest, 6)

    def __call__(self, x: Tensor, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Return unit-variance noise like x for the step from sigma to sigma_next; zeros if that is 0."""
        low, high = float(sigma_next), float(sigma)
        if low == 0:
            return torch.zeros_like(x)
        interval = max(low, self._lowest), min(high, self._highest)
        increment = torch.cat([path(*interval) for path in self._paths])
        return _move_to(x, -increment / (high - low) ** 0.5)
