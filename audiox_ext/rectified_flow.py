"""Solvers for the rectified-flow objective: Euler for the multi-step model, re-noising for its few-step
student.

x_t = (1 - t) x0 + t noise, and the network predicts v = noise - x0 at time t. B batch, C channels, L latents.
Sources: Liu et al. 2022 (arXiv 2209.03003); the student, arXiv 2606.12555.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .denoising import StepCallback, StepInfo, Velocity, randn_like


def sample_euler(
    velocity: Velocity,
    noise: Tensor,
    *,
    steps: int,
    start: float = 1.0,
    init: Tensor | None = None,
    mask: Tensor | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """Euler steps from time `start` (0..1] to 0. Draws no random numbers; one network call a step.

    noise: (B, C, L), standard normal. init: (B, C, L) to vary from, or, with mask (L,), to keep where the
    mask is 0. Returns (B, C, L).
    """
    times = torch.linspace(start, 0, steps + 1).to(noise.device)
    x = _start(noise, init, start)
    for step in range(steps):
        t, t_next = times[step], times[step + 1]
        v = velocity(x, t.expand(x.shape[0]))
        denoised = x - t * v
        x = x + (t_next - t) * v
        if init is not None and mask is not None:
            x = _keep(mask, x, (1 - t_next) * init + t_next * noise)
        _report(callback, step, steps, t, denoised)
    return x


def sample_few_steps(
    velocity: Velocity,
    noise: Tensor,
    *,
    steps: int,
    generator: torch.Generator,
    start: float = 1.0,
    init: Tensor | None = None,
    mask: Tensor | None = None,
    callback: StepCallback | None = None,
) -> Tensor:
    """The student's steps: estimate the clean latents, noise them anew to the next time. Arguments as
    `sample_euler`.

    generator: source of the fresh noise, one draw of x's shape after every step but the last.
    """
    times = torch.linspace(start, 0, steps + 1).to(noise.device)
    x = _start(noise, init, start)
    clean = x
    for step in range(steps):
        t, t_next = times[step], times[step + 1]
        clean = x - t * velocity(x, t.expand(x.shape[0]))
        if init is not None and mask is not None:
            clean = _keep(mask, clean, init)
        if step + 1 < steps:
            x = (1 - t_next) * clean + t_next * randn_like(x, generator)
        _report(callback, step, steps, t, clean)
    return clean


def _start(noise: Tensor, init: Tensor | None, start: float) -> Tensor:
    return noise if init is None else (1 - start) * init + start * noise


def _keep(mask: Tensor, made: Tensor, kept: Tensor) -> Tensor:
    return mask * made + (1 - mask) * kept


def _report(callback: StepCallback | None, step: int, steps: int, t: Tensor, denoised: Tensor) -> None:
    if callback is not None:
        callback(StepInfo(step=step + 1, steps=steps, sigma=float(t), denoised=denoised))
