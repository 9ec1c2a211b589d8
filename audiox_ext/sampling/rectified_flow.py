"""Samplers for rectified flow: Euler for the multi-step model, re-noising for its few-step student.

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
    """Take Euler steps from time `start` to 0. Draws no random numbers; one network call per step.

    Args:
        velocity: The network with its conditioning.
        noise: Standard normal numbers (B, C, L).
        steps: Number of steps.
        start: Time from which to start, above 0 to 1.
        init: Latents to vary (B, C, L).
        inpainting: Latents to keep in part, instead of init.
        callback: Called once per step.

    Returns:
        Latents (B, C, L).
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
            x = _keep(inpainting, _run_time(times, step), x, noised)
            if isinstance(inpainting, StrengthInpainting):
                denoised = inpainting.hold(denoised, _run_time(times, step))
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
    """Take the student's steps: estimate the clean latents, then noise them to the next time.

    Arguments and result are those of `sample_euler`. In addition, `random` is the source of the fresh noise:
    one draw of x's shape after every step but the last.
    """
    times = torch.linspace(start, 0, steps + 1).to(noise.device)
    x = _start(noise, init if inpainting is None else inpainting.init, start)
    clean = x
    for step in range(steps):
        t, t_next = times[step], times[step + 1]
        clean = x - t * velocity(x, t.expand(x.shape[0]))
        if inpainting is not None:
            clean = _keep(inpainting, _run_time(times, step), clean, inpainting.init)
        if step + 1 < steps:
            x = (1 - t_next) * clean + t_next * randn_like(x, random)
        _report(callback, step, steps, t, clean)
    return clean


def _start(noise: Tensor, init: Tensor | None, start: float) -> Tensor:
    """Return the noised latents from which the run starts."""
    return noise if init is None else (1 - start) * init + start * noise


def _run_time(times: Tensor, step: int) -> float:
    """Return the time of a step on the scale of a strength mask, 1 at the start of the run."""
    return float(times[step] / times[0])


def _keep(inpainting: Inpainting | StrengthInpainting, time: float, new: Tensor, original: Tensor) -> Tensor:
    """Return the new latents, with the original where it is kept."""
    if isinstance(inpainting, StrengthInpainting):
        return torch.where(inpainting.held(time), original, new)
    return inpainting.mask * new + (1 - inpainting.mask) * original


def _report(callback: StepCallback | None, step: int, steps: int, t: Tensor, denoised: Tensor) -> None:
    """Call the callback, if there is one."""
    if callback is not None:
        callback(StepInfo(step=step + 1, steps=steps, sigma=float(t), denoised=denoised))
