"""Sampling with the v objective: from noise to latents by a sampler of choice."""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import SAMPLER_NAMES
from ..errors import InputError
from ..random_numbers import RandomNumbers
from .denoiser import StepCallback, VDenoiser
from .external import ExternalSampler, check_can_keep, run_external
from .inpainting import Inpainting, StrengthInpainting
from .sampler_run import SamplerRun
from .samplers import CANNOT_INPAINT, SAMPLERS
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
    custom_sampler: ExternalSampler | None = None,
    random: RandomNumbers,
    init: Tensor | None = None,
    inpainting: Inpainting | StrengthInpainting | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Run a sampler from noise to latents.

    noise: (B, C, L), standard normal. rho, schedule: see `noise_levels`. sigmas: (steps + 1,), such levels
    between sigma_min and sigma_max themselves. sampler: one from outside, in place of sampler_type. init: (B,
    C, L), latents to vary; the caller passes the variation's noise level as sigma_max. inpainting: latents to
    keep in part. Returns (B, C, L). Raises `InputError` for an unknown sampler or schedule, or bounds that
    are not 0 < sigma_min < sigma_max.
    """
    own = SAMPLERS.get(sampler_type)
    if own is None:
        raise InputError(
            f"There is no sampler called {sampler_type!r}. Choose one of {', '.join(SAMPLER_NAMES)}."
        )
    if sigmas is None:
        sigmas = noise_levels(steps, sigma_min, sigma_max, schedule, rho)
    noise = noise * sigmas[0].to(noise.device)
    x = noise if init is None else init + noise
    if inpainting is not None:
        if custom_sampler is not None:
            check_can_keep(inpainting)
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
    run = SamplerRun(
        network=denoise,
        sigmas=sigmas,
        random=random,
        callback=callback,
        inpainting=inpainting,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
    )
    x = own(run, x) if custom_sampler is None else run_external(custom_sampler, run, x)
    if isinstance(inpainting, StrengthInpainting):
        return inpainting.hold(x, 0.0)  # without the sampler's rounding
    return x
