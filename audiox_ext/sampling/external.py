"""Samplers from outside, such as ComfyUI's: functions of a denoiser, noised latents and noise levels.

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
    """What a sampler from outside gets beside denoiser, latents and levels.

    seed: for whatever it draws; follows from the generation's seed, in a batch from that of its first item.
    sigma_min, sigma_max: what the schedule's bounds are. report: to be called once a step, with its noise
    level and the clean latents expected (B, C, L); ends the run by raising.
    """

    seed: int
    sigma_min: float
    sigma_max: float
    report: Callable[[float, Tensor], None]


ExternalSampler = Callable[[Denoise, Tensor, Tensor, SamplerExtra], Tensor]
"""(denoise, x (B, C, L), sigmas (steps + 1,), extra) -> latents (B, C, L).

denoise: (x, sigma) -> the clean latents expected; sigma has no dimensions, or is (B,) of one value. sigmas
are on x's device.
"""


def check_accepts_external(
    model: ModelFacts, sigmas: Tensor | None, custom_sampler: ExternalSampler | None
) -> None:
    """Raises `InputError` for noise levels or a sampler from outside where the model has no noise levels."""
    if model.config.objective == "rectified_flow" and not (sigmas is None and custom_sampler is None):
        raise InputError(
            "A model of the kind rectified_flow, such as AudioX-Turbo, takes its own steps and no other "
            "sampler or noise levels: leave sigmas and sampler out (in ComfyUI: disconnect them)."
        )


def check_can_keep(inpainting: Inpainting | StrengthInpainting | None) -> None:
    """Raises `InputError` for what only our own samplers keep.

    A mask of 0 and 1 is held in the denoiser, which then knows the clean latents there: right with every
    sampler. What is let go in the middle of a run throws a sampler that looks back.
    """
    if isinstance(inpainting, Inpainting):
        raise InputError(
            "mask_args work with this engine's own samplers alone. Leave custom_sampler out, or give "
            "latent_mask."
        )
    if inpainting is not None and not bool(((inpainting.mask == 0) | (inpainting.mask == 1)).all()):
        raise InputError(
            "A sampler from outside can keep latents or change them, all to the same degree; this mask has "
            "several. Leave the sampler out, or use one strength."
        )


def run_external(custom_sampler: ExternalSampler, run: SamplerRun, x: Tensor) -> Tensor:
    """Let a sampler from outside do a run's work. Draws one seed for it."""

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
        got = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise InputError(
            f"The custom_sampler gave {got} for latents of {tuple(x.shape)}. Choose another one."
        )
    return torch.as_tensor(latents, dtype=x.dtype, device=x.device)
