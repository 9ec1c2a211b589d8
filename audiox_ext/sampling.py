"""Sampling with the v objective: from noise to latents by a solver of choice."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .denoising import Inpainting, StepCallback, VDenoiser, polyexponential_sigmas
from .errors import InputError
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
    generator: torch.Generator,
    init: Tensor | None = None,
    mask: Tensor | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Run a solver from noise to latents.

    noise: (B, C, L), standard normal. init: (B, C, L), latents to vary, or, with mask (L,), to keep where the
    mask is 0. For a variation the caller passes its noise level as sigma_max. Returns (B, C, L). Raises
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
    x, inpainting = noise, None
    if init is not None and mask is not None:
        if sampler_type in CANNOT_INPAINT:
            raise InputError(
                f"{sampler_type} cannot keep parts of the sound: its steps vary, or build on old ones. "
                "Choose dpmpp-2m-sde or dpmpp-3m-sde."
            )
        inpainting = Inpainting(init=init, mask=mask)
        x = torch.where(mask <= 1 / steps, init + noise, noise)
    elif init is not None:
        x = init + noise
    run = SolverRun(
        denoise=denoise,
        sigmas=sigmas,
        generator=generator,
        callback=callback,
        inpainting=inpainting,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
    )
    return solver(run, x)
