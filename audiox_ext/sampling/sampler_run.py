"""Shared state of all samplers of the v objective: the steps of a run, its kept latents and its reports.

B batch, C latent channels, L latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from ..random_numbers import RandomNumbers
from .denoiser import StepCallback, StepInfo, noise_time, randn_like
from .inpainting import Inpainting, StrengthInpainting

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x (B, C, L), sigma) -> the estimate of the clean latents, (B, C, L)."""


@dataclass(kw_only=True)
class SamplerRun:
    """The state of one run of a sampler.

    The noise levels stay on the CPU. A tensor without dimensions reaches another device together with the
    operation that uses it, and comparing it with 0 does not wait for a GPU.

    Attributes:
        denoiser: The network's estimate of the clean latents.
        sigmas: Noise levels (steps + 1,), on the CPU.
        random: Source of all random numbers of the run.
        callback: Called once per step, or None.
        inpainting: Latents to keep in part, or None.
        sigma_min: Lowest noise level of the schedule above 0.
        sigma_max: Highest noise level of the schedule.
        step: Index of the current step.
        reported: Number of steps that have been reported.
    """

    denoiser: Denoise
    sigmas: Tensor
    random: RandomNumbers
    callback: StepCallback | None
    inpainting: Inpainting | StrengthInpainting | None
    sigma_min: float
    sigma_max: float
    step: int = field(default=0, init=False)
    reported: int = field(default=0, init=False)

    @property
    def step_count(self) -> int:
        """Number of steps."""
        return len(self.sigmas) - 1

    def each_step(self, sigmas: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (sigma, sigma_next) of every step, and keep `step` up to date."""
        for step, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
            self.step = step
            yield sigma, sigma_next

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Estimate the clean latents.

        Args:
            x: Noised latents (B, C, L).
            sigma: Their noise level, without dimensions.

        Returns:
            (B, C, L): the denoiser's estimate, or the original where a strength mask holds it in this step.
        """
        denoised = self.denoiser(x, sigma)
        if self._strengths is None:
            return denoised
        return self._strengths.hold(denoised, self._time_of(self.step))

    def choose_if_free(self, steps_back: int, value: Tensor, fallback: Tensor) -> Tensor:
        """Return `value`, but `fallback` where latents were still held some steps ago.

        A multistep sampler must not extrapolate from the original to the network's estimate.

        Args:
            steps_back: Number of steps back at which the latents must already have been free.
            value: (B, C, L).
            fallback: (B, C, L).
        """
        if self._strengths is None:
            return value
        return torch.where(self._strengths.held(self._time_of(self.step - steps_back)), fallback, value)

    def finish_first_call(self, x: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
        """Report the step, and put back the latents that the published inpainting rule keeps.

        Args:
            x: Latents at the start of the step (B, C, L).
            sigma: Their noise level.
            denoised: The estimate of the clean latents from the step's first denoiser call (B, C, L).

        Returns:
            The latents (B, C, L) from which the step continues.
        """
        if isinstance(self.inpainting, Inpainting):
            noised = self.inpainting.init + randn_like(x, self.random) * sigma
            keep = self.inpainting.mask <= (self.reported + 1) / self.step_count
            x = torch.where(keep, noised, x)
        self.report(float(sigma), denoised)
        return x

    def report(self, sigma: float, denoised: Tensor) -> None:
        """Pass a step's noise level and estimate (B, C, L) to the callback."""
        self.reported += 1
        if self.callback is not None:
            steps = max(self.step_count, self.reported)
            self.callback(StepInfo(step=self.reported, steps=steps, sigma=sigma, denoised=denoised))

    @property
    def _strengths(self) -> StrengthInpainting | None:
        """The inpainting if it has denoising strengths, else None."""
        return self.inpainting if isinstance(self.inpainting, StrengthInpainting) else None

    def _time_of(self, step: int) -> float:
        """Time of a step: 1 at the start of the run, 0 at its end."""
        return noise_time(float(self.sigmas[step]), self.sigma_min, float(self.sigmas[0]))
