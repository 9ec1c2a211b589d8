"""Sampling with the v objective: from noise to latents by a solver of choice."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import SAMPLER_NAMES
from ..errors import InputError
from ..random_numbers import RandomNumbers
from .denoiser import StepCallback, VDenoiser
from .external import ForeignSolver, check_can_hold, run_foreign
from .inpainting import Inpainting, StrengthInpainting
from .sampler_run import SolverRun
from .samplers import CANNOT_INPAINT, SOLVERS
from .schedules import noise_levels


def sample_v(
    denoise: VDenoiser,
    noise: Tensor,
    *,
    sampler_type: str,
    steps: int,
    sigma_min: float,
    sigma_max: float,
    rho: float | None = None,
    schedule: str | None = None,
    sigmas: Tensor | None = None,
    solver: ForeignSolver | None = None,
    random: RandomNumbers,
    init: Tensor | None = None,
    inpainting: Inpainting | StrengthInpainting | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Run a solver from noise to latents.

    noise: (B, C, L), standard normal. rho, schedule: see `noise_levels`. sigmas: (steps + 1,), such levels
    between sigma_min and sigma_max themselves. solver: one from outside, in place of sampler_type. init: (B,
    C, L), latents to vary; the caller passes the variation's noise level as sigma_max. inpainting: latents to
    keep in part. Returns (B, C, L). Raises `InputError` for an unknown solver or schedule, or bounds that are
    not 0 < sigma_min < sigma_max.
    """
    own = SOLVERS.get(sampler_type)
    if own is None:
        raise InputError(
            f"There is no sampler called {sampler_type!r}. Choose one of {', '.join(SAMPLER_NAMES)}."
        )
    if sigmas is None:
        sigmas = noise_levels(steps, sigma_min, sigma_max, schedule, rho)
    noise = noise * sigmas[0].to(noise.device)
    x = noise if init is None else init + noise
    if inpainting is not None:
        if solver is not None:
            check_can_hold(inpainting)
        elif sampler_type in CANNOT_INPAINT:
            raise InputError(
                f"{sampler_type} cannot keep parts of the sound: its steps vary, or build on old ones. "
                "Choose dpmpp-2m-sde or dpmpp-3m-sde."
            )
        if isinstance(inpainting, StrengthInpainting):
            keep = inpainting.held(1.0)
        else:
            keep = inpainting.mask <= 1 / (len(sigmas) - 1)
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
    x = own(run, x) if solver is None else run_foreign(solver, run, x)
    if isinstance(inpainting, StrengthInpainting):
        return inpainting.hold(x, 0.0)  # without the solver's rounding
    return x
