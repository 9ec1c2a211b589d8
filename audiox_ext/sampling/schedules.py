"""Noise schedules for the v objective: which noise levels a run visits.

A schedule is a function of the steps and the bounds, and gives the levels from sigma_max down to sigma_min,
(steps,) float32. `noise_levels` adds the 0 at which every run ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from .denoiser import noise_level

DEFAULT_SCHEDULE = "polyexponential"

# Both parameters of the distribution whose quantiles `beta` takes (Lee et al. 2024).
_BETA_SHAPE = (0.6, 0.6)

# Levels of a schedule that Sabour et al. 2024 (arXiv 2404.14507) optimised for a video model, Stable Video
# Diffusion: of their published lists the one with the widest range, and so the nearest to AudioX's.
_ALIGNED = (700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002)


def polyexponential(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """exp of a power ramp; rho, default 1, is its exponent. With 1 equal ratios from level to level."""
    ramp = torch.linspace(1, 0, steps) ** (1.0 if rho is None else rho)
    return torch.exp(ramp * (math.log(sigma_max) - math.log(sigma_min)) + math.log(sigma_min))


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Equal steps of sigma^(1 / rho), rho by default 7 (Karras et al. 2022, arXiv 2206.00364)."""
    rho = 7.0 if rho is None else rho
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return ((high + torch.linspace(0, 1, steps, dtype=torch.float64) * (low - high)) ** rho).float()


def exponential(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Equal ratios from level to level: `polyexponential` with rho 1, whatever rho is."""
    return polyexponential(steps, sigma_min, sigma_max, None)


def beta(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """Quantiles of a beta distribution over the network's time: dense at both ends of the run (Lee et al.
    2024, arXiv 2407.12173). rho has no influence.
    """
    from scipy.special import betaincinv

    ramp = torch.linspace(1, 0, steps, dtype=torch.float64).numpy()
    times = [float(time) for time in betaincinv(*_BETA_SHAPE, ramp)]
    levels = [noise_level(time, sigma_min, sigma_max) if time > 0 else sigma_min for time in times]
    return torch.tensor(levels, dtype=torch.float64).float()


def align_your_steps(steps: int, sigma_min: float, sigma_max: float, rho: float | None) -> Tensor:
    """A list optimised for another model, interpolated in log sigma and stretched to the bounds (Sabour et
    al. 2024, arXiv 2404.14507). rho has no influence.
    """
    import numpy

    known = numpy.log(numpy.array(_ALIGNED))
    shares = (known - known[-1]) / (known[0] - known[-1])  # 1 at the first level, 0 at the last
    wanted = numpy.linspace(0, 1, steps)
    ramp = torch.from_numpy(numpy.interp(wanted, numpy.linspace(0, 1, len(shares)), shares))
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
    """The levels of a run, falling from sigma_max to sigma_min, then 0: (steps + 1,) float32 on the CPU.

    schedule: None for `DEFAULT_SCHEDULE`. rho: None for the schedule's own. Raises `InputError` for an
    unknown schedule, bounds that are not 0 < sigma_min < sigma_max, or levels that float32 cannot tell apart.
    """
    chosen = SCHEDULES.get(schedule or DEFAULT_SCHEDULE)
    if chosen is None:
        raise InputError(
            f"There is no schedule called {schedule!r}. Choose one of {', '.join(SCHEDULE_NAMES)}."
        )
    if not (0 < sigma_min < sigma_max < math.inf):
        raise InputError(
            f"sigma_min is {sigma_min:g} and sigma_max {sigma_max:g}: sigma_min must be above 0 and below "
            "sigma_max."
        )
    sigmas = chosen(steps, sigma_min, sigma_max, rho)
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    if not bool((sigmas.diff() < 0).all()):
        # A step of no length is a division by zero in the samplers that look back.
        raise InputError(
            f"{steps} steps of {schedule or DEFAULT_SCHEDULE} from {sigma_max:g} to {sigma_min:g}"
            f"{'' if rho is None else f' with rho {rho:g}'} lie too close together to be told apart. Make "
            "fewer steps, or move sigma_min and sigma_max apart."
        )
    return sigmas


def checked_levels(sigmas: Tensor) -> Tensor:
    """Noise levels from outside, (steps + 1,) float32 on the CPU. Raises `InputError` if they do not fall
    from a positive number to one that is 0 or more.
    """
    levels = torch.as_tensor(sigmas).detach().float().cpu()
    if levels.dim() != 1 or len(levels) < 2:
        raise InputError(
            f"sigmas must be a list of at least two noise levels, got the shape {tuple(levels.shape)}."
        )
    if not (bool(torch.isfinite(levels).all()) and bool((levels.diff() < 0).all()) and levels[-1] >= 0):
        raise InputError(
            "sigmas must be noise levels that fall from each to the next, down to 0 or above it, got "
            f"{', '.join(f'{float(level):g}' for level in levels[:12])}{' ...' if len(levels) > 12 else ''}."
        )
    return levels


def bounds_of(levels: Tensor, sigma_min: float) -> tuple[float, float]:
    """The lowest and the highest level above 0; of a single one sigma_min is the lowest."""
    positive = levels[levels > 0]
    lowest, highest = float(positive[-1]), float(positive[0])
    return lowest if lowest < highest else min(sigma_min, highest / 2), highest


def levels_below(sigmas: Tensor, start: float) -> Tensor:
    """The part of a schedule for a run that begins at the noise level `start`; all of it if that is above."""
    if start >= float(sigmas[0]):
        return sigmas
    return torch.cat([sigmas.new_tensor([start]), sigmas[sigmas < start]])
