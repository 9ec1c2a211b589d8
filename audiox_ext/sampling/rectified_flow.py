"""Samplers for the rectified-flow objective: Euler for the multi-step model, re-noising for its few-step
student.

x_t = (1 - t) x0 + t noise, and the network predicts v = noise - x0 at time t. B batch, C channels, L latents.
Sources: Liu et al. 2022 (arXiv 2209.03003); the student, arXiv 2606.12555.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..random_numbers import RandomNumbers
from .denoiser import StepCallback, StepInfo, Velocity, randn_like
from .inpainting import Inpainting, StrengthInpainting


def sample_euler(
    velocity: Velocity,
    noise: Tensor,
    *,
    steps: int,
    start: float = 1.0,
    init: Tensor | None = None,
    inpainting: Inpainting | StrengthInpainting | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Euler steps from time `start` (0..1] to 0. Draws no random numbers; one network call a step.

    noise: (B, C, L), standard normal. init: (B, C, L), latents to vary. inpainting: instead of init, latents
    to keep in part. Returns (B, C, L).
    """
    times = torch.linspace(start, 0, steps + 1).to(noise.device)
    x = _start(noise, init if inpainting is None else inpainting.init, start)
    for step in range(steps):
        t, t_next = times[step], times[step + 1]
        v = velocity(x, t.expand(x.shape[0]))
        denoised = x - t * v
        x = x + (t_next - t) * v
        if inpainting is not None:
            noised = (1 - t_next) * inpainting.init + t_next * noise
            x = _keep(inpainting, _share(times, step), x, noised)
            if isinstance(inpainting, StrengthInpainting):
                denoised = inpainting.hold(denoised, _share(times, step))
        _report(callback, step, steps, t, denoised)
    return x


def sample_few_steps(
    velocity: Velocity,
    noise: Tensor,
    *,
    steps: int,
    random: RandomNumbers,
    start: float = 1.0,
    init: Tensor | None = None,
    inpainting: Inpainting | StrengthInpainting | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """The student's steps: estimate the clean latents, noise them anew to the next time. Arguments as
    `sample_euler`.

    random: source of the fresh noise, one draw of x's shape after every step but the last.
    """
    times = torch.linspace(start, 0, steps + 1).to(noise.device)
    x = _start(noise, init if inpainting is None else inpainting.init, start)
    clean = x
    for step in range(steps):
        t, t_next = times[step], times[step + 1]
        clean = x - t * velocity(x, t.expand(x.shape[0]))
        if inpainting is not None:
            clean = _keep(inpainting, _share(times, step), clean, inpainting.init)
        if step + 1 < steps:
            x = (1 - t_next) * clean + t_next * randn_like(x, random)
        _report(callback, step, steps, t, clean)
    return clean


def _start(noise: Tensor, init: Tensor | None, start: float) -> Tensor:
    return noise if init is None else (1 - start) * init + start * noise


def _share(times: Tensor, step: int) -> float:
    """The time of a step on the scale of a strength mask, 1 at the start of the run."""
    return float(times[step] / times[0])


def _keep(inpainting: Inpainting | StrengthInpainting, time: float, made: Tensor, kept: Tensor) -> Tensor:
    if isinstance(inpainting, StrengthInpainting):
        return torch.where(inpainting.held(time), kept, made)
    return inpainting.mask * made + (1 - inpainting.mask) * kept


def _report(callback: StepCallback | None, step: int, steps: int, t: Tensor, denoised: Tensor) -> None:
    if callback is not None:
        callback(StepInfo(step=step + 1, steps=steps, sigma=float(t), denoised=denoised))
