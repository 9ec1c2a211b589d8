"""How one generation is sampled, settled before the network runs: levels or times, start, what is kept.

B batch, C latent channels, L latents.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..model_info import ModelFacts
from ..random_numbers import RandomNumbers
from ..sampling.denoiser import VDenoiser, Velocity, noise_level
from ..sampling.external import check_accepts_external
from ..sampling.inpainting import Inpainting, MaskArguments, StrengthInpainting, build_mask, paste_latents
from ..sampling.rectified_flow import sample_euler, sample_few_steps
from ..sampling.samplers import sample_v
from ..sampling.schedules import DEFAULT_SCHEDULE, bounds_of, check_sigmas, levels_below, noise_levels
from .settings import SamplerSettings, checked_noise_level

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplingPlan:
    """steps: of the run. sigma_min, sigma_max: its bounds; with rectified flow sigma_max is the time to start
    from. sigmas: the noise levels, (steps + 1,), None with rectified flow. init: (B, C, L), latents to vary.
    inpainting: latents to keep in part.
    """

    model: ModelFacts
    settings: SamplerSettings
    steps: int
    sigma_min: float
    sigma_max: float
    sigmas: Tensor | None
    init: Tensor | None
    inpainting: Inpainting | StrengthInpainting | None

    @property
    def guided_times(self) -> tuple[float, float] | None:
        """(low, high) times of the network between which guidance is applied, None where it always is.

        Of step i of n it is where `guidance_interval` holds i / n, its end not included. The bounds lie
        halfway between steps, so that no rounding decides. Between two steps the noise level decides.
        """
        start, end = self.settings.guidance_interval
        if (start, end) == (0, 1):
            return None
        if self.sigmas is None:
            times = torch.linspace(self.sigma_max, 0, self.steps + 1).tolist()
        else:
            times = (self.sigmas.double().atan() * 2 / math.pi).tolist()
        borders = [math.inf, *((high + low) / 2 for high, low in pairwise(times[:-1])), -math.inf]
        first, last = (math.ceil(share * self.steps - 1e-6) for share in (start, end))
        return borders[last], borders[first]

    def run(self, velocity: Velocity, noise: Tensor, random: RandomNumbers) -> Tensor:
        """From noise (B, C, L) to latents (B, C, L)."""
        shared: dict[str, Any] = {
            "steps": self.steps,
            "callback": self.settings.callback,
            "init": self.init,
            "inpainting": self.inpainting,
        }
        if self.sigmas is None:
            if self.model.config.few_step_count is not None:
                return sample_few_steps(velocity, noise, start=self.sigma_max, random=random, **shared)
            return sample_euler(velocity, noise, start=self.sigma_max, **shared)
        return sample_v(
            VDenoiser(velocity),
            noise,
            sampler=self.settings.sampler_type or self.model.defaults.sampler_type,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            sigmas=self.sigmas,
            custom_sampler=self.settings.custom_sampler,
            random=random,
            **shared,
        )


def plan_sampling(
    model: ModelFacts,
    settings: SamplerSettings,
    steps: int,
    *,
    init: Tensor | None = None,
    mask: Tensor | MaskArguments | None = None,
    init_noise_level: float = 1.0,
) -> SamplingPlan:
    """init: (B, C, L). mask: what of it is kept; without one all of it is varied, from init_noise_level.

    Raises `InputError` for bounds, levels or a schedule that make no sense, and for settings that this model
    has no use for and that would change what is meant.
    """
    flow = model.config.objective == "rectified_flow"
    check_accepts_external(model, settings.sigmas, settings.custom_sampler)
    if flow and settings.schedule not in (None, DEFAULT_SCHEDULE):
        log.info("The schedule %s is not used: this model's steps are even in time.", settings.schedule)
    varies = init is not None and mask is None
    sigmas = None if settings.sigmas is None else check_sigmas(settings.sigmas)
    if sigmas is not None and init is None:
        _say_if_too_quiet(sigmas, model.defaults.sigma_max)
    sigma_min, sigma_max = _bounds(model, settings, sigmas)
    if varies:
        sigma_max = checked_noise_level(model, init_noise_level, sigma_min)
    inpainting = None if init is None or mask is None else _inpainting(init, mask)
    strength = _largest(inpainting)
    if isinstance(inpainting, StrengthInpainting) and strength < 1:
        # Where nothing is made from pure noise, all steps are for the noise that there is.
        inpainting = replace(inpainting, mask=(inpainting.mask / strength).clamp(max=1))
        if flow:
            sigma_max = min(sigma_max, 1.0) * strength
        else:
            sigma_max = noise_level(strength, sigma_min, sigma_max)
    if flow:
        sigma_max = min(sigma_max, 1.0)
    elif sigmas is not None:
        sigmas = levels_below(sigmas, sigma_max)
        sigma_max = float(sigmas[0])
    else:
        sigmas = noise_levels(steps, sigma_min, sigma_max, settings.schedule, settings.rho)
    return SamplingPlan(
        model=model,
        settings=settings,
        steps=steps if sigmas is None else len(sigmas) - 1,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        sigmas=sigmas,
        init=init if varies or strength < 1 else None,
        inpainting=inpainting,
    )


def _say_if_too_quiet(sigmas: Tensor, wanted: float) -> None:
    start = float(sigmas[0])
    if start < wanted / 4:
        log.warning(
            "The noise levels begin at %g, and the model was made to begin at %g: the sound will lack much. "
            "Set sigma_max where they come from.",
            start,
            wanted,
        )


def _bounds(model: ModelFacts, settings: SamplerSettings, sigmas: Tensor | None) -> tuple[float, float]:
    """sigma_min and sigma_max: as set, the model's own, or those of given levels."""
    defaults = model.defaults
    sigma_min = defaults.sigma_min if settings.sigma_min is None else settings.sigma_min
    if sigmas is None:
        return sigma_min, defaults.sigma_max if settings.sigma_max is None else settings.sigma_max
    return bounds_of(sigmas, sigma_min)


def _largest(inpainting: Inpainting | StrengthInpainting | None) -> float:
    """The largest strength of a mask; 1 where there is none, or nothing is to be changed."""
    if not isinstance(inpainting, StrengthInpainting):
        return 1.0
    return float(inpainting.mask.max()) or 1.0


def _inpainting(init: Tensor, mask: Tensor | MaskArguments) -> Inpainting | StrengthInpainting:
    if isinstance(mask, Tensor):
        return StrengthInpainting(init=init, mask=mask.to(init))
    return Inpainting(init=paste_latents(init, mask), mask=build_mask(init.shape[-1], mask).to(init))
