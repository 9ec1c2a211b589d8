"""External samplers, such as ComfyUI's: functions of a denoiser, noised latents and noise levels.

B batch, C latent channels, L latents.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError
from ..model_info import ModelFacts
from .inpainting import Inpainting, StrengthInpainting
from .sampler_run import Denoise, SamplerRun


@dataclass(frozen=True, kw_only=True)
class SamplerExtra:
    """Arguments of an external sampler besides denoiser, latents and noise levels.

    Attributes:
        seed: Seed for its random numbers, derived from the generation's seed (of a batch, the first item's).
        sigma_min: Lowest noise level of the schedule above 0.
        sigma_max: Highest noise level of the schedule.
        report: Function to call once per step with its noise level and the estimate of the clean latents
            (B, C, L). It raises to end the run.
    """

    seed: int
    sigma_min: float
    sigma_max: float
    report: Callable[[float, Tensor], None]


ExternalSampler = Callable[[Denoise, Tensor, Tensor, SamplerExtra], Tensor]
"""(denoise, x (B, C, L), sigmas (steps + 1,), extra) -> latents (B, C, L).

denoise: (x, sigma) -> the estimate of the clean latents. sigma has no dimensions, or is (B,) of equal values.
sigmas are on x's device.
"""


def check_accepts_external(
    model: ModelFacts, custom_sigmas: Tensor | None, custom_sampler: ExternalSampler | None
) -> None:
    """Raise `InputError` for an external sampler or noise levels if the model has no noise levels."""
    if model.config.objective == "rectified_flow" and not (custom_sigmas is None and custom_sampler is None):
        raise InputError(
            "A model of type rectified_flow, such as AudioX-Turbo, takes its own steps and accepts neither "
            "custom_sampler nor custom_sigmas. Disconnect them (in Python, leave them out)."
        )


def check_can_keep(inpainting: Inpainting | StrengthInpainting | None) -> None:
    """Raise `InputError` for latents that an external sampler cannot keep.

    A mask of 0 and 1 is held in the denoiser, which then knows the clean latents there. This works with every
    sampler. Latents that become free during the run would disturb a sampler that uses earlier steps.
    """
    if isinstance(inpainting, Inpainting):
        raise InputError(
            "mask_args work only with this engine's own samplers. Leave custom_sampler out, or give "
            "latent_mask."
        )
    if inpainting is not None and not bool(((inpainting.mask == 0) | (inpainting.mask == 1)).all()):
        raise InputError(
            "A custom_sampler changes all masked latents with one strength, but this mask has several "
            "strengths. Leave custom_sampler out, or use one strength."
        )


def run_external(custom_sampler: ExternalSampler, run: SamplerRun, x: Tensor) -> Tensor:
    """Run an external sampler. Draws one seed for it.

    Args:
        custom_sampler: The sampler.
        run: The run.
        x: Noised latents (B, C, L).

    Returns:
        Latents (B, C, L).

    Raises:
        InputError: The sampler returns something else.
    """

    def denoise(noised: Tensor, sigma: Tensor) -> Tensor:
        return run.denoise(noised, sigma.flatten()[0].float())

    extra = SamplerExtra(
        seed=run.random.integers(2**63 - 1)[0],
        sigma_min=run.sigma_min,
        sigma_max=run.sigma_max,
        report=run.report,
    )
    latents = custom_sampler(denoise, x, run.sigmas.to(x.device), extra)
    if not isinstance(latents, Tensor) or latents.shape != x.shape:
        actual = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise InputError(
            f"The custom_sampler returned {actual} for latents of shape {tuple(x.shape)}. Choose a "
            "different sampler."
        )
    return torch.as_tensor(latents, dtype=x.dtype, device=x.device)
