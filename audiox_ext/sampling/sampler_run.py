"""What the samplers of the v objective share: the denoiser, the schedule, and whom to tell of a step.

B batch, C latent channels, L latents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..random_numbers import RandomNumbers
from .denoiser import StepCallback, StepInfo, noise_time, randn_like
from .inpainting import Inpainting, StrengthInpainting

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x (B, C, L), sigma) -> the clean latents expected, (B, C, L)."""


@dataclass(kw_only=True)
class SamplerRun:
    """What every sampler of one generation needs: the denoiser, the schedule and whom to tell.

    sigmas: (steps + 1,), on the CPU, and so is all that is computed of them: a number without dimensions
    reaches another device with the operation that uses it, and asking it whether it is 0 waits for nothing.
    """

    network: Denoise
    sigmas: Tensor
    random: RandomNumbers
    callback: StepCallback | None
    inpainting: Inpainting | StrengthInpainting | None
    sigma_min: float
    sigma_max: float
    step: int = field(default=0, init=False)  # the one that is under way
    done: int = field(default=0, init=False)

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    def levels(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(sigma, sigma_next) of every step."""
        for step in range(self.steps):
            self.step = step
            yield self.sigmas[step], self.sigmas[step + 1]

    def denoise(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The clean latents expected, (B, C, L); the original's where a strength mask holds it for this
        step.
        """
        denoised = self.network(x, sigma)
        if self._strengths is None:
            return denoised
        return self._strengths.hold(denoised, self._time(self.step))

    def if_free(self, back: int, value: Tensor, otherwise: Tensor) -> Tensor:
        """value, or what stands in for it where latents were still held `back` steps ago.

        A multi-step sampler must not extrapolate from the original to the network's estimate.
        """
        if self._strengths is None:
            return value
        return torch.where(self._strengths.held(self._time(self.step - back)), otherwise, value)

    @property
    def _strengths(self) -> StrengthInpainting | None:
        return self.inpainting if isinstance(self.inpainting, StrengthInpainting) else None

    def _time(self, step: int) -> float:
        return noise_time(float(self.sigmas[step]), self.sigma_min, float(self.sigmas[0]))

    def after_first_call(self, x: Tensor, sigma: Tensor, denoised: Tensor) -> Tensor:
        """Report the step; where latents are kept by the published rule, put them back at this noise level.
        Returns x to go on with.
        """
        if isinstance(self.inpainting, Inpainting):
            noised = self.inpainting.init + randn_like(x, self.random) * sigma
            keep = self.inpainting.mask <= (self.done + 1) / self.steps
            x = torch.where(keep, noised, x)
        self.report(float(sigma), denoised)
        return x

    def report(self, sigma: float, denoised: Tensor) -> None:
        """Tell the callback of a step that is done but for its arithmetic."""
        self.done += 1
        if self.callback is not None:
            self.callback(
                StepInfo(step=self.done, steps=max(self.steps, self.done), sigma=sigma, denoised=denoised)
            )
