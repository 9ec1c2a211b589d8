"""Noise schedules for the v objective: the noise levels (sigmas) that a run visits.

A schedule is a function of the number of steps and the bounds. It returns the levels from sigma_max down to
sigma_min, (steps,) float32. `noise_levels` appends the 0 at which every run ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError, quote_value
from .denoiser import check_sigma_bounds, noise_level

DEFAULT_SCHEDULE = "polyexponential"

_BETA_SHAPE = (0.6, 0.6)
"""Both parameters of the distribution whose quantiles `beta` takes (Lee et al. 2024)."""

# A schedule that Sabour et al. 2024 (arXiv 2404.14507) optimised for Stable Video Diffusion. Of their lists
# it has the widest range, which makes it the nearest to AudioX's.
_ALIGNED_SIGMAS = (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Levels along exp of a power ramp. rho is its exponent; 1, the default, gives equal ratios."""
    ramp = torch.linspace(1, 0, steps) ** (1.0 if rho is None else rho)
    return torch.exp(ramp * (math.log(sigma_max) - math.log(sigma_min)) + math.log(sigma_min))


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Levels with equal steps of sigma^(1 / rho), rho 7 by default (Karras et al. 2022, arXiv 2206.00364)."""
    rho = 7.0 if rho is None else rho
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return ((high + torch.linspace(0, 1, steps, dtype=torch.float64) * (low - high)) ** rho).float()


def exponential(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Levels with equal ratios: `polyexponential` with rho 1. rho has no influence."""
    return polyexponential(steps, sigma_min, sigma_max, None)


def beta(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Levels at the quantiles of a beta distribution over the network's time, dense at both ends of the run.

    rho has no influence. Source: Lee et al. 2024 (arXiv 2407.12173).
    """
    from scipy.special import betaincinv

    ramp = torch.linspace(1, 0, steps, dtype=torch.float64).numpy()
    times = [float(time) for time in betaincinv(*_BETA_SHAPE, ramp)]
    sigmas = [noise_level(time, sigma_min, sigma_max) if time > 0 else sigma_min for time in times]
    return torch.tensor(sigmas, dtype=torch.float64).float()


def align_your_steps(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Levels optimised for another model, interpolated in log sigma and stretched to the bounds.

    rho has no influence. Source: Sabour et al. 2024 (arXiv 2404.14507).
    """
    import numpy

    logs = numpy.log(numpy.array(_ALIGNED_SIGMAS))
    fractions = (logs - logs[-1]) / (logs[0] - logs[-1])  # 1 at the first level, 0 at the last
    positions = numpy.linspace(0, 1, steps)
    ramp = torch.from_numpy(numpy.interp(positions, numpy.linspace(0, 1, len(fractions)), fractions))
    return torch.exp(ramp * math.log(sigma_max / sigma_min) + math.log(sigma_min)).float()


Schedule = Callable[[int, float, float, float | None], Tensor]

SCHEDULES: dict[str, Schedule] = {
    "polyexponential": polyexponential,
    "karras": karras,
    "exponential": exponential,
    "beta": beta,
    "align-your-steps": align_your_steps,
}
SCHEDULE_NAMES: tuple[str, ...] = tuple(SCHEDULES)


def noise_levels(
    steps: int, sigma_min: float, sigma_max: float, schedule: str | None = None, rho: float | None = None
) -> Tensor:
    """Return the noise levels of a run, falling from sigma_max to sigma_min and then to 0.

    Args:
        steps: Number of steps, at least 1.
        sigma_min: Lowest level above 0.
        sigma_max: Highest level.
        schedule: One of `SCHEDULE_NAMES`, or None for `DEFAULT_SCHEDULE`.
        rho: The schedule's parameter, or None for its default.

    Returns:
        (steps + 1,) float32 on the CPU.

    Raises:
        InputError: The schedule is unknown, the bounds are not 0 < sigma_min < sigma_max, or float32 cannot
            tell neighbouring levels apart.
    """
    name = schedule or DEFAULT_SCHEDULE
    if name not in SCHEDULES:
        raise InputError(
            f"There is no schedule called {schedule!r}. Choose one of {', '.join(SCHEDULE_NAMES)}."
        )
    check_sigma_bounds(sigma_min, sigma_max)
    sigmas = SCHEDULES[name](steps, sigma_min, sigma_max, rho)
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    if not bool((sigmas.diff() < 0).all()):
        # A multistep sampler divides by the length of a step.
        raise InputError(
            f"{steps} steps of {name} from {sigma_max:g} to {sigma_min:g}"
            f"{'' if rho is None else f' with rho {rho:g}'} are too close together to distinguish. "
            "Choose fewer steps, or move sigma_min and sigma_max apart."
        )
    return sigmas


def check_sigmas(sigmas: Tensor) -> Tensor:
    """Check noise levels from outside.

    Args:
        sigmas: (steps + 1,), falling from a number above 0 to one that is 0 or more.

    Returns:
        The same as float32 on the CPU.

    Raises:
        InputError: They are not such levels.
    """
    if not isinstance(sigmas, Tensor) or sigmas.is_complex():
        raise InputError(f"sigmas are {quote_value(sigmas)}. Give a tensor of noise levels.")
    levels = sigmas.detach().float().cpu()
    if levels.dim() != 1 or len(levels) < 2:
        raise InputError(
            f"sigmas must be a list of at least two noise levels, got the shape {tuple(levels.shape)}."
        )
    if not (bool(torch.isfinite(levels).all()) and bool((levels.diff() < 0).all()) and levels[-1] >= 0):
        raise InputError(
            "sigmas must be noise levels that decrease at every step and end at 0 or above, got "
            f"{', '.join(f'{float(level):g}' for level in levels[:12])}{' ...' if len(levels) > 12 else ''}."
        )
    return levels


def bounds_of(sigmas: Tensor, sigma_min: float) -> tuple[float, float]:
    """Return the lowest and the highest noise level above 0. With only one, sigma_min is the lowest."""
    positive = sigmas[sigmas > 0]
    lowest, highest = float(positive[-1]), float(positive[0])
    return lowest if lowest < highest else min(sigma_min, highest / 2), highest


def levels_below(sigmas: Tensor, start: float) -> Tensor:
    """Return the part of a schedule from a noise level down; all of it if the noise level is above it."""
    if start >= float(sigmas[0]):
        return sigmas
    return torch.cat([sigmas.new_tensor([start]), sigmas[sigmas < start]])
