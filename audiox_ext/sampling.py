"""Sampling with the v objective: from noise to latents by a solver of choice."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .denoising import StepCallback, VDenoiser, polyexponential_sigmas
from .errors import InputError
from .inpainting import Inpainting, StrengthInpainting
from .random_numbers import RandomNumbers
from .solvers import CANNOT_INPAINT, SOLVERS, SolverRun

SAMPLER_NAMES: tuple[str, ...] = tuple(SOLVERS)


def sample_v(
    denoise: VDenoiser,
    noise: Tensor,
    *,
    sampler_type: str,
    steps: int,
    sigma_min: float,
    sigma_max: float,
    rho: float = 1.0,
    random: RandomNumbers,
    init: Tensor | None = None,
    inpainting: Inpainting | StrengthInpainting | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Run a solver from noise to latents.

    noise: (B, C, L), standard normal. init: (B, C, L), latents to vary; the caller passes the variation's
    noise level as sigma_max. inpainting: latents to keep in part. Returns (B, C, L). Raises
    `InputError` for an unknown solver or bounds that are not 0 < sigma_min < sigma_max.
    """
    solver = SOLVERS.get(sampler_type)
    if solver is None:
        raise InputError(
            f"There is no sampler called {sampler_type!r}. Choose one of {', '.join(SAMPLER_NAMES)}."
        )
    if not (0 < sigma_min < sigma_max < math.inf):
        raise InputError(
            f"sigma_min is {sigma_min:g} and sigma_max {sigma_max:g}: sigma_min must be above 0 and below "
            "sigma_max."
        )
    sigmas = polyexponential_sigmas(steps, sigma_min, sigma_max, rho)
    noise = noise * sigmas[0].to(noise.device)
    x = noise if init is None else init + noise
    if inpainting is not None:
        if sampler_type in CANNOT_INPAINT:
            raise InputError(
                f"{sampler_type} cannot keep parts of the sound: its steps vary, or build on old ones. "
                "Choose dpmpp-2m-sde or dpmpp-3m-sde."
            )
        if isinstance(inpainting, StrengthInpainting):
            keep = inpainting.held(1.0)
        else:
            keep = inpainting.mask <= 1 / steps
        x = torch.where(keep, inpainting.init + noise, x)
    run = SolverRun(
        network=denoise,
        sigmas=sigmas,
        random=random,
        callback=callback,
        inpainting=inpainting,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
    )
    x = solver(run, x)
    if isinstance(inpainting, StrengthInpainting):
        return inpainting.hold(x, 0.0)  # without the solver's rounding
    return x
