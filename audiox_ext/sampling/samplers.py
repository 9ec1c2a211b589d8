"""Samplers for the v objective, named as in k-diffusion, and `sample_v`, which runs one of them.

A sampler is a function `(denoise, x, sigmas, run) -> x` in the symbols of its paper. `denoise` estimates the
clean latents, `x` is noised by `sigmas[0]`, and `run` provides random numbers, reports and kept latents.

B batch, C latent channels, L latents. Sources: Karras et al. 2022 (arXiv 2206.00364), Lu et al. 2022 (arXiv
2206.00927, 2211.01095).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..config import SAMPLER_NAMES
from ..errors import InputError
from ..random_numbers import RandomNumbers
from .denoiser import BrownianNoise, StepCallback, VDenoiser, randn_like
from .external import ExternalSampler, check_can_keep, run_external
from .inpainting import Inpainting, StrengthInpainting
from .multistep import sample_dpmpp_2m, sample_dpmpp_3m, sample_er_sde, sample_sa_solver, sample_unipc
from .sampler_run import Denoise, SamplerRun
from .schedules import noise_levels

Sampler = Callable[[Denoise, Tensor, Tensor, SamplerRun], Tensor]
"""(denoise, x (B, C, L), sigmas (steps + 1,), run) -> latents (B, C, L)."""


def sample_dpmpp_3m_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver++(3M) SDE, eta 1. One denoiser call per step; Brownian noise."""
    noise = BrownianNoise(x, sigmas, run.random)
    earlier: list[tuple[Tensor, Tensor]] = []  # (denoised, h) of the last steps, newest first
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        fresh = noise(x, sigma, sigma_next)  # drawn while a GPU is still busy with the call
        x = run.finish_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        h = sigma.log() - sigma_next.log()
        h_eta = 2 * h
        x = torch.exp(-h_eta) * x - torch.expm1(-h_eta) * denoised
        if earlier:
            phi_2 = torch.expm1(-h_eta) / h_eta + 1
            r0 = earlier[0][1] / h
            d1_0 = (denoised - earlier[0][0]) / r0
            d1_0 = run.choose_if_free(1, d1_0, torch.zeros_like(d1_0))
            if len(earlier) == 2:
                r1 = earlier[1][1] / h
                d1_1 = run.choose_if_free(2, (earlier[0][0] - earlier[1][0]) / r1, d1_0)
                d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
                d2 = (d1_0 - d1_1) / (r0 + r1)
                x = x + phi_2 * d1 - (phi_2 / h_eta - 0.5) * d2
            else:
                x = x + phi_2 * d1_0
        x = x + fresh * sigma_next * (-torch.expm1(-2 * h)).sqrt()
        earlier = [(denoised, h), *earlier[:1]]
    return x


def sample_dpmpp_2m_sde(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver++(2M) SDE, midpoint, eta 1. One denoiser call per step; Brownian noise."""
    noise = BrownianNoise(x, sigmas, run.random)
    earlier: tuple[Tensor, Tensor] | None = None  # (denoised, h) of the last step
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        fresh = noise(x, sigma, sigma_next)  # drawn while a GPU is still busy with the call
        x = run.finish_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        h = sigma.log() - sigma_next.log()
        x = sigma_next / sigma * torch.exp(-h) * x - torch.expm1(-2 * h) * denoised
        if earlier is not None:
            change = run.choose_if_free(1, denoised - earlier[0], torch.zeros_like(denoised))
            x = x - 0.5 * torch.expm1(-2 * h) * (h / earlier[1]) * change
        x = x + fresh * sigma_next * (-torch.expm1(-2 * h)).sqrt()
        earlier = (denoised, h)
    return x


def sample_heun(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """Heun, second order (Karras et al. 2022, algorithm 1). Two denoiser calls per step, one in the last."""
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        x = run.finish_first_call(x, sigma, denoised)
        slope, step = (x - denoised) / sigma, sigma_next - sigma
        ahead = x + slope * step
        if sigma_next > 0:
            slope_ahead = (ahead - denoise(ahead, sigma_next)) / sigma_next
            ahead = x + (slope + slope_ahead) / 2 * step
        x = ahead
    return x


def sample_dpm_2(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver-2, the midpoint rule in log sigma (Karras et al. 2022).

    Two denoiser calls per step, one in the last.
    """
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        x = run.finish_first_call(x, sigma, denoised)
        slope = (x - denoised) / sigma
        if sigma_next > 0:
            sigma_mid = sigma.log().lerp(sigma_next.log(), 0.5).exp()
            x_mid = x + slope * (sigma_mid - sigma)
            slope = (x_mid - denoise(x_mid, sigma_mid)) / sigma_mid
        x = x + slope * (sigma_next - sigma)
    return x


def sample_lms(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """Linear multistep, order 4. One denoiser call per step."""
    levels = sigmas.double().tolist()
    slopes: list[Tensor] = []
    for index, (sigma, _) in enumerate(run.each_step(sigmas)):
        denoised = denoise(x, sigma)
        x = run.finish_first_call(x, sigma, denoised)
        slopes = [(x - denoised) / sigma, *slopes[:3]]
        for steps_back, slope in enumerate(slopes):
            x = x + slope * _adams_weight(levels, index, steps_back, len(slopes))
    return x


def _adams_weight(levels: Sequence[float], index: int, steps_back: int, order: int) -> float:
    """Integrate over step `index` the Lagrange polynomial that is 1 `steps_back` noise levels earlier."""
    from numpy.polynomial import Polynomial

    nodes = [levels[index - k] for k in range(order)]
    polynomial = Polynomial([1.0])
    for k, node in enumerate(nodes):
        if k != steps_back:
            polynomial = polynomial * Polynomial([-node, 1.0]) / (nodes[steps_back] - node)
    integral = polynomial.integ(lbnd=nodes[0])
    return float(integral(levels[index + 1]))


def sample_dpmpp_2s_ancestral(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver++(2S) with ancestral noise, eta 1. Two denoiser calls per step, one in the last."""
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        x = run.finish_first_call(x, sigma, denoised)
        up = torch.minimum(sigma_next, (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt())
        down = (sigma_next**2 - up**2).sqrt()
        if down == 0:
            x = x + (x - denoised) / sigma * (down - sigma)
        else:
            t, t_next = -sigma.log(), -down.log()
            h = t_next - t
            sigma_mid = torch.exp(-(t + h / 2))
            x_mid = sigma_mid / sigma * x - torch.expm1(-h / 2) * denoised
            x = torch.exp(-t_next) / sigma * x - torch.expm1(-h) * denoise(x_mid, sigma_mid)
        if sigma_next > 0:
            x = x + randn_like(x, run.random) * up
    return x


class _DPMSolverStep:
    """Steps of DPM-Solver orders 1 to 3 in t = -log sigma that share the denoiser calls at the start."""

    def __init__(self, denoise: Denoise, x: Tensor, t: Tensor) -> None:
        self.denoise, self.x, self.t = denoise, x, t
        self.denoised = denoise(x, torch.exp(-t))
        self.eps = (x - self.denoised) / torch.exp(-t)
        self._eps_by_fraction: dict[float, Tensor] = {}

    def _eps_at(self, x: Tensor, t: Tensor) -> Tensor:
        sigma = torch.exp(-t)
        return (x - self.denoise(x, sigma)) / sigma

    def _eps_ahead(self, r: float, h: Tensor) -> Tensor:
        """The noise estimate after the fraction r of a step h."""
        if r not in self._eps_by_fraction:
            s = self.t + r * h
            x_s = self.x - torch.exp(-s) * torch.expm1(r * h) * self.eps
            self._eps_by_fraction[r] = self._eps_at(x_s, s)
        return self._eps_by_fraction[r]

    def first_order(self, t_next: Tensor) -> Tensor:
        """DPM-Solver-1."""
        return self.x - torch.exp(-t_next) * torch.expm1(t_next - self.t) * self.eps

    def second_order(self, t_next: Tensor, r1: float = 1 / 2) -> Tensor:
        """DPM-Solver-2."""
        h = t_next - self.t
        change = self._eps_ahead(r1, h) - self.eps
        return self.first_order(t_next) - torch.exp(-t_next) / (2 * r1) * torch.expm1(h) * change

    def third_order(self, t_next: Tensor) -> Tensor:
        """DPM-Solver-3."""
        h, r1, r2 = t_next - self.t, 1 / 3, 2 / 3
        change = self._eps_ahead(r1, h) - self.eps
        s = self.t + r2 * h
        x_s = self.x - torch.exp(-s) * torch.expm1(r2 * h) * self.eps
        x_s = x_s - torch.exp(-s) * (r2 / r1) * (torch.expm1(r2 * h) / (r2 * h) - 1) * change
        change = self._eps_at(x_s, s) - self.eps
        return self.first_order(t_next) - torch.exp(-t_next) / r2 * (torch.expm1(h) / h - 1) * change


def _log_bounds(run: SamplerRun) -> tuple[Tensor, Tensor]:
    """The times t = -log sigma at which the schedule starts and ends."""
    bounds = -torch.tensor([run.sigma_max, run.sigma_min]).log()
    return bounds[0], bounds[1]


def sample_dpm_fast(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver with as many denoiser calls as steps, eta 0; ends at sigma_min (Lu et al. 2022, 3.4)."""
    start, end = _log_bounds(run)
    calls = len(sigmas) - 1
    groups = calls // 3 + 1
    orders = [3] * (groups - 2) + [2, 1] if calls % 3 == 0 else [3] * (groups - 1) + [calls % 3]
    times = torch.linspace(float(start), float(end), groups + 1)
    for index, order in enumerate(orders):
        step = _DPMSolverStep(denoise, x, times[index])
        x = (step.first_order, step.second_order, step.third_order)[order - 1](times[index + 1])
        run.reported += order - 1
        run.report(float(torch.exp(-times[index])), step.denoised)
    return x


def sample_dpm_adaptive(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver-12-3 with adaptive steps, eta 0; ends at sigma_min (Lu et al. 2022, appendix C).

    The number of steps has no influence. An integral controller over the error of the whole batch chooses
    the step size.
    """
    t, end = _log_bounds(run)
    tolerance, accept_safety, order = 0.01, 0.81, 3
    h = torch.tensor(0.05)
    previous = x
    while t < end - 1e-5:
        t_next = torch.minimum(end, t + h)
        step = _DPMSolverStep(denoise, x, t)
        low, high = step.second_order(t_next, r1=1 / 3), step.third_order(t_next)
        scale = torch.clamp(tolerance * torch.maximum(low.abs(), previous.abs()), min=tolerance)
        error = float(torch.linalg.norm((low - high) / scale) / x.numel() ** 0.5)
        if math.isnan(error) or not t_next > t:
            raise InputError(
                "k-dpm-adaptive cannot continue: the network's result is not a number. Load the model with "
                "precision fp32 or bf16, lower cfg, or choose another sampler."
            )
        factor = (1 / (error + 1e-8)) ** (1 / order)
        factor = 1 + math.atan(factor - 1)
        if factor >= accept_safety:
            previous, x, t = low, high, t_next
        h = h * factor
        run.report(float(torch.exp(-step.t)), step.denoised)
    return x


SAMPLERS: dict[str, Sampler] = {
    "dpmpp-3m-sde": sample_dpmpp_3m_sde,
    "dpmpp-2m-sde": sample_dpmpp_2m_sde,
    "k-heun": sample_heun,
    "k-lms": sample_lms,
    "k-dpmpp-2s-ancestral": sample_dpmpp_2s_ancestral,
    "k-dpm-2": sample_dpm_2,
    "k-dpm-fast": sample_dpm_fast,
    "k-dpm-adaptive": sample_dpm_adaptive,
    "dpmpp-2m": sample_dpmpp_2m,
    "dpmpp-3m": sample_dpmpp_3m,
    "unipc": sample_unipc,
    "er-sde": sample_er_sde,
    "sa-solver": sample_sa_solver,
}
FURTHER_SAMPLERS = ("dpmpp-2m", "dpmpp-3m", "unipc", "er-sde", "sa-solver")
"""Samplers that the research package does not have."""
CANNOT_INPAINT = ("k-lms", "k-dpm-fast", "k-dpm-adaptive")
"""Samplers without fixed steps, or that use slopes from before latents were put back."""


def check_can_inpaint(sampler: str) -> None:
    """Raise `InputError` for a sampler that cannot keep parts of the sound."""
    if sampler in CANNOT_INPAINT:
        raise InputError(
            f"{sampler} cannot edit a track: its steps vary in size or depend on earlier ones, so it cannot "
            "keep parts of the sound. Choose dpmpp-2m-sde or dpmpp-3m-sde."
        )


def sample_v(
    denoise: VDenoiser,
    noise: Tensor,
    *,
    sampler: str,
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
    """Sample latents (B, C, L) from noise with the v objective.

    Args:
        denoise: The denoiser.
        noise: Standard normal numbers (B, C, L).
        sampler: Name of the sampler.
        steps: Number of steps, at least 1.
        sigma_min: Lowest noise level, above 0.
        sigma_max: Highest noise level; for a variation, the one from which it starts.
        rho: Parameter of the schedule, see `noise_levels`.
        schedule: Name of the schedule.
        sigmas: Noise levels (steps + 1,) in place of `steps`, `rho` and `schedule`.
        custom_sampler: An external sampler in place of `sampler`.
        random: Source of the sampler's random numbers.
        init: Latents to vary (B, C, L).
        inpainting: Latents to keep in part.
        callback: Called once per step.

    Raises:
        InputError: The sampler is unknown or cannot keep latents, or `noise_levels` refuses the schedule.
    """
    if sampler not in SAMPLERS:
        names = ", ".join(SAMPLER_NAMES)
        raise InputError(f"There is no sampler called {sampler!r}. Choose one of {names}.")
    if sigmas is None:
        sigmas = noise_levels(steps, sigma_min, sigma_max, schedule, rho)
    noise = noise * sigmas[0].to(noise.device)
    x = noise if init is None else init + noise
    if inpainting is not None:
        x = _keep_at_start(x, noise, inpainting, sampler, custom_sampler, len(sigmas) - 1)
    run = SamplerRun(
        denoiser=denoise,
        sigmas=sigmas,
        random=random,
        callback=callback,
        inpainting=inpainting,
        sigma_min=sigma_min,
        sigma_max=sigma_max,
    )
    own = SAMPLERS[sampler]
    x = run_external(custom_sampler, run, x) if custom_sampler else own(run.denoise, x, sigmas, run)
    # Restores kept latents without the sampler's rounding.
    return inpainting.hold(x, 0.0) if isinstance(inpainting, StrengthInpainting) else x


def _keep_at_start(
    x: Tensor,
    noise: Tensor,
    inpainting: Inpainting | StrengthInpainting,
    sampler: str,
    custom_sampler: ExternalSampler | None,
    steps: int,
) -> Tensor:
    """Put the noised original into x where it is kept; refuse samplers that cannot keep latents."""
    if custom_sampler is not None:
        check_can_keep(inpainting)
    else:
        check_can_inpaint(sampler)
    if isinstance(inpainting, StrengthInpainting):
        keep = inpainting.held(1.0)
    else:
        keep = inpainting.mask <= 1 / steps
    return torch.where(keep, inpainting.init + noise, x)
