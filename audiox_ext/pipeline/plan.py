"""The plan of a run, made before the network runs: noise levels or times, start, latents to keep.

B batch, C latent channels, L latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, is_number, quote_value
from ..model_info import ModelFacts
from ..random_numbers import RandomNumbers
from ..sampling.denoiser import StepCallback, VDenoiser, Velocity, noise_level
from ..sampling.inpainting import Inpainting, MaskArguments, StrengthInpainting, build_mask, paste_latents
from ..sampling.rectified_flow import sample_euler, sample_few_steps
from ..sampling.samplers import sample_v
from ..sampling.schedules import levels_below, noise_levels
from ..utf8 import get_logger
from .settings import GenerationSettings

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class SamplingPlan:
    """The plan of a run.

    Attributes:
        model: The model.
        settings: Settings with the model's own values filled in.
        steps: Number of steps.
        sigma_min: Lowest noise level above 0; not used with rectified flow.
        sigma_max: Highest noise level; with rectified flow the start time.
        sigmas: Noise levels (steps + 1,); None with rectified flow.
        init: Latents to vary (B, C, L), or None.
        inpainting: Latents to keep in part, or None.
        callback: Called once per step, or None.
    """

    model: ModelFacts
    settings: GenerationSettings
    steps: int
    sigma_min: float
    sigma_max: float
    sigmas: Tensor | None
    init: Tensor | None
    inpainting: Inpainting | StrengthInpainting | None
    callback: StepCallback | None

    @property
    def guidance_times(self) -> tuple[float, float] | None:
        """(low, high) times of the network between which guidance is applied, None where it always is.

        Step i of n has guidance if guidance_start <= i / n < guidance_end. The bounds lie halfway between
        the times of steps, so that rounding never decides. A call between two steps is decided by its time.
        """
        start, end = self.settings.guidance_start, self.settings.guidance_end
        if (start, end) == (0, 1):
            return None
        if self.sigmas is None:
            times = torch.linspace(self.sigma_max, 0, self.steps + 1).tolist()
        else:
            times = (self.sigmas.double().atan() * 2 / math.pi).tolist()
        borders = [math.inf, *((high + low) / 2 for high, low in pairwise(times[:-1])), -math.inf]
        first, last = (math.ceil(fraction * self.steps - 1e-6) for fraction in (start, end))
        return borders[last], borders[first]

    def run(self, velocity: Velocity, noise: Tensor, random: RandomNumbers) -> Tensor:
        """Sample latents.

        Args:
            velocity: The network with its conditioning.
            noise: Standard normal numbers (B, C, L).
            random: Source of the sampler's random numbers.

        Returns:
            Latents (B, C, L).
        """
        shared: dict[str, Any] = {
            "steps": self.steps,
            "callback": self.callback,
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
            sampler=self.settings.sampler or self.model.defaults.sampler_type,
            sigma_min=self.sigma_min,
            sigma_max=self.sigma_max,
            sigmas=self.sigmas,
            custom_sampler=self.settings.custom_sampler,
            random=random,
            **shared,
        )


def plan_sampling(
    model: ModelFacts,
    settings: GenerationSettings,
    *,
    init: Tensor | None = None,
    mask: Tensor | MaskArguments | None = None,
    init_noise_level: float = 1.0,
    callback: StepCallback | None = None,
) -> SamplingPlan:
    """Plan a run.

    Args:
        model: The model.
        settings: Settings with the model's own values filled in, see `resolve_settings`.
        init: Latents to vary or keep in part (B, C, L).
        mask: The latents to keep; None varies all of them.
        init_noise_level: Noise level from which a variation starts.
        callback: Called once per step.

    Raises:
        InputError: The start, the bounds or the schedule are out of range.
    """
    assert settings.steps is not None
    assert settings.sigma_max is not None
    flow, sigmas = model.config.objective == "rectified_flow", settings.custom_sigmas
    sigma_min, sigma_max = settings.sigma_min or 0.0, settings.sigma_max
    varies = init is not None and mask is None
    if sigmas is not None and init is None:
        _warn_if_start_is_low(sigmas, model.defaults.sigma_max)
    if varies:
        sigma_max = check_noise_level(model, init_noise_level, sigma_min)
    inpainting = None if init is None or mask is None else _inpainting_of(init, mask)
    strength = _largest_strength(inpainting)
    if isinstance(inpainting, StrengthInpainting) and strength < 1:
        # Where no latent starts from pure noise, all steps are spent on the noise that there is.
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
        sigmas = noise_levels(settings.steps, sigma_min, sigma_max, settings.schedule, settings.rho)
    return SamplingPlan(
        model=model,
        settings=settings,
        steps=settings.steps if sigmas is None else len(sigmas) - 1,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
        sigmas=sigmas,
        init=init if varies or strength < 1 else None,
        inpainting=inpainting,
        callback=callback,
    )


def check_noise_level(model: ModelFacts, level: float, sigma_min: float) -> float:
    """Return the start of a variation. Raises `InputError` unless it is above sigma_min (v) or 0 (flow)."""
    if not (is_number(level) and 0 < level <= 1e6):
        raise InputError(f"init_noise_level must be a number above 0, up to 1e6, got {quote_value(level)}.")
    if model.config.objective == "v" and level <= sigma_min:
        raise InputError(
            f"init_noise_level is {level:g}, which must be above sigma_min, {sigma_min:g}. Raise it, or "
            "lower sigma_min."
        )
    return float(level)


def _warn_if_start_is_low(sigmas: Tensor, expected_start: float) -> None:
    """Log that external noise levels start far below the model's own."""
    start = float(sigmas[0])
    if start < expected_start / 4:
        log.warning(
            "The noise levels start at %g, and the model expects a start at %g: the sound will lack detail. "
            "Set sigma_max in the node or function that makes them.",
            start,
            expected_start,
        )


def _largest_strength(inpainting: Inpainting | StrengthInpainting | None) -> float:
    """Return the largest strength of a mask; 1 where there is none, or nothing is to be changed."""
    if not isinstance(inpainting, StrengthInpainting):
        return 1.0
    return float(inpainting.mask.max()) or 1.0


def _inpainting_of(init: Tensor, mask: Tensor | MaskArguments) -> Inpainting | StrengthInpainting:
    """Return which latents are kept, by strengths or by the published arguments."""
    if isinstance(mask, Tensor):
        return StrengthInpainting(init=init, mask=mask.to(init))
    return Inpainting(init=paste_latents(init, mask), mask=build_mask(init.shape[-1], mask).to(init))
