"""The samplers for the v objective, by the names of k-diffusion.

A sampler is a function of a run (denoiser, schedule, random numbers, whom to tell) and the noised latents x,
(B, C, L). Sources: Karras et al. 2022 (arXiv 2206.00364), Lu et al. 2022 (arXiv 2206.00927, 2211.01095).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError
from .denoiser import BrownianNoise, randn_like
from .multistep import dpmpp_2m, dpmpp_3m, er_sde, sa_solver, unipc
from .sampler_run import Denoise, SamplerRun


def _dpmpp_3m_sde(run: SamplerRun, x: Tensor) -> Tensor:
    """DPM-Solver++(3M) SDE, eta 1. One denoiser call a step; Brownian noise."""
    noise = BrownianNoise(x, run.sigmas, run.random)
    earlier: list[tuple[Tensor, Tensor]] = []  # (denoised, h) of the last steps, newest first
    for sigma, sigma_next in run.levels():
        denoised = run.denoise(x, sigma)
        fresh = noise(x, sigma, sigma_next)  # now, while a GPU is at work on the pass
        x = run.after_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        h = sigma.log() - sigma_next.log()
        h_eta = 2 * h
        x = torch.exp(-h_eta) * x - torch.expm1(-h_eta) * denoised
        if earlier:
            phi_2 = torch.expm1(-h_eta) / h_eta + 1
            r0 = earlier[0][1] / h
            d1_0 = (denoised - earlier[0][0]) / r0
            d1_0 = run.if_free(1, d1_0, torch.zeros_like(d1_0))
            if len(earlier) == 2:
                r1 = earlier[1][1] / h
                d1_1 = run.if_free(2, (earlier[0][0] - earlier[1][0]) / r1, d1_0)
                d1 = d1_0 + (d1_0 - d1_1) * r0 / (r0 + r1)
                d2 = (d1_0 - d1_1) / (r0 + r1)
                x = x + phi_2 * d1 - (phi_2 / h_eta - 0.5) * d2
            else:
                x = x + phi_2 * d1_0
        x = x + fresh * sigma_next * (-torch.expm1(-2 * h)).sqrt()
        earlier = [(denoised, h), *earlier[:1]]
    return x


def _dpmpp_2m_sde(run: SamplerRun, x: Tensor) -> Tensor:
    """DPM-Solver++(2M) SDE, midpoint, eta 1. One denoiser call a step; Brownian noise."""
    noise = BrownianNoise(x, run.sigmas, run.random)
    earlier: tuple[Tensor, Tensor] | None = None
    for sigma, sigma_next in run.levels():
        denoised = run.denoise(x, sigma)
        fresh = noise(x, sigma, sigma_next)  # now, while a GPU is at work on the pass
        x = run.after_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        h = sigma.log() - sigma_next.log()
        x = sigma_next / sigma * torch.exp(-h) * x - torch.expm1(-2 * h) * denoised
        if earlier is not None:
            change = run.if_free(1, denoised - earlier[0], torch.zeros_like(denoised))
            x = x - 0.5 * torch.expm1(-2 * h) * (h / earlier[1]) * change
        x = x + fresh * sigma_next * (-torch.expm1(-2 * h)).sqrt()
        earlier = (denoised, h)
    return x


def _heun(run: SamplerRun, x: Tensor) -> Tensor:
    """Heun, second order (Karras et al. 2022, algorithm 1). Two denoiser calls a step, one in the last."""
    for sigma, sigma_next in run.levels():
        denoised = run.denoise(x, sigma)
        x = run.after_first_call(x, sigma, denoised)
        slope, step = (x - denoised) / sigma, sigma_next - sigma
        ahead = x + slope * step
        if sigma_next > 0:
            slope_ahead = (ahead - run.denoise(ahead, sigma_next)) / sigma_next
            ahead = x + (slope + slope_ahead) / 2 * step
        x = ahead
    return x


def _dpm_2(run: SamplerRun, x: Tensor) -> Tensor:
    """DPM-Solver-2 as a midpoint rule in log sigma (Karras et al. 2022). Two denoiser calls a step, one in
    the last.
    """
    for sigma, sigma_next in run.levels():
        denoised = run.denoise(x, sigma)
        x = run.after_first_call(x, sigma, denoised)
        slope = (x - denoised) / sigma
        if sigma_next > 0:
            middle = sigma.log().lerp(sigma_next.log(), 0.5).exp()
            between = x + slope * (middle - sigma)
            slope = (between - run.denoise(between, middle)) / middle
        x = x + slope * (sigma_next - sigma)
    return x


def _lms(run: SamplerRun, x: Tensor) -> Tensor:
    """Linear multistep, order 4. One denoiser call a step."""
    levels = run.sigmas.double().numpy()
    slopes: list[Tensor] = []
    for index, (sigma, _) in enumerate(run.levels()):
        denoised = run.denoise(x, sigma)
        x = run.after_first_call(x, sigma, denoised)
        slopes = [(x - denoised) / sigma, *slopes[:3]]
        for back, slope in enumerate(slopes):
            x = x + slope * _adams_weight(levels, index, back, len(slopes))
    return x


def _adams_weight(levels: object, index: int, back: int, order: int) -> float:
    """Integral over the step of the Lagrange polynomial that is 1 at level index - back, 0 at the other used
    levels.
    """
    from numpy.polynomial import Polynomial

    nodes = [float(levels[index - k]) for k in range(order)]  # type: ignore[index]
    polynomial = Polynomial([1.0])
    for k, node in enumerate(nodes):
        if k != back:
            polynomial = polynomial * Polynomial([-node, 1.0]) / (nodes[back] - node)
    integral = polynomial.integ(lbnd=nodes[0])
    return float(integral(float(levels[index + 1])))  # type: ignore[index]


def _dpmpp_2s_ancestral(run: SamplerRun, x: Tensor) -> Tensor:
    """DPM-Solver++(2S) with ancestral noise, eta 1. Two denoiser calls a step, one in the last."""
    for sigma, sigma_next in run.levels():
        denoised = run.denoise(x, sigma)
        x = run.after_first_call(x, sigma, denoised)
        up = torch.minimum(sigma_next, (sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2).sqrt())
        down = (sigma_next**2 - up**2).sqrt()
        if down == 0:
            x = x + (x - denoised) / sigma * (down - sigma)
        else:
            t, t_next = -sigma.log(), -down.log()
            h = t_next - t
            middle = torch.exp(-(t + h / 2))
            between = middle / sigma * x - torch.expm1(-h / 2) * denoised
            x = torch.exp(-t_next) / sigma * x - torch.expm1(-h) * run.denoise(between, middle)
        if sigma_next > 0:
            x = x + randn_like(x, run.random) * up
    return x


class _Exponential:
    """Steps of DPM-Solver orders 1 to 3 in t = -log sigma, sharing what is evaluated at a step's start."""

    def __init__(self, denoise: Denoise, x: Tensor, t: Tensor) -> None:
        self.denoise, self.x, self.t = denoise, x, t
        self.denoised = denoise(x, torch.exp(-t))
        self.eps = (x - self.denoised) / torch.exp(-t)
        self._thirds: dict[float, Tensor] = {}

    def _eps_at(self, x: Tensor, t: Tensor) -> Tensor:
        sigma = torch.exp(-t)
        return (x - self.denoise(x, sigma)) / sigma

    def _eps_ahead(self, fraction: float, h: Tensor) -> Tensor:
        if fraction not in self._thirds:
            at = self.t + fraction * h
            self._thirds[fraction] = self._eps_at(
                self.x - torch.exp(-at) * torch.expm1(fraction * h) * self.eps, at
            )
        return self._thirds[fraction]

    def first(self, t_next: Tensor) -> Tensor:
        return self.x - torch.exp(-t_next) * torch.expm1(t_next - self.t) * self.eps

    def second(self, t_next: Tensor, fraction: float = 1 / 2) -> Tensor:
        h = t_next - self.t
        bend = self._eps_ahead(fraction, h) - self.eps
        return self.first(t_next) - torch.exp(-t_next) / (2 * fraction) * torch.expm1(h) * bend

    def third(self, t_next: Tensor) -> Tensor:
        h, r1, r2 = t_next - self.t, 1 / 3, 2 / 3
        bend = self._eps_ahead(r1, h) - self.eps
        at = self.t + r2 * h
        ahead = self.x - torch.exp(-at) * torch.expm1(r2 * h) * self.eps
        ahead = ahead - torch.exp(-at) * (r2 / r1) * (torch.expm1(r2 * h) / (r2 * h) - 1) * bend
        bend = self._eps_at(ahead, at) - self.eps
        return self.first(t_next) - torch.exp(-t_next) / r2 * (torch.expm1(h) / h - 1) * bend


def _log_bounds(run: SamplerRun) -> tuple[Tensor, Tensor]:
    bounds = -torch.tensor([run.sigma_max, run.sigma_min]).log()
    return bounds[0], bounds[1]


def _dpm_fast(run: SamplerRun, x: Tensor) -> Tensor:
    """DPM-Solver with a budget of `steps` denoiser calls, eta 0; ends at sigma_min (Lu et al. 2022, section
    3.4).
    """
    start, end = _log_bounds(run)
    calls = run.steps
    groups = calls // 3 + 1
    orders = [3] * (groups - 2) + [2, 1] if calls % 3 == 0 else [3] * (groups - 1) + [calls % 3]
    times = torch.linspace(float(start), float(end), groups + 1)
    for index, order in enumerate(orders):
        step = _Exponential(run.denoise, x, times[index])
        x = (step.first, step.second, step.third)[order - 1](times[index + 1])
        run.done += order - 1
        run.report(float(torch.exp(-times[index])), step.denoised)
    return x


def _dpm_adaptive(run: SamplerRun, x: Tensor) -> Tensor:
    """DPM-Solver-12-3 with adaptive steps, order 3, eta 0; ends at sigma_min (Lu et al. 2022, appendix C).

    `steps` has no influence. The step size follows an integral controller over the error of the whole batch.
    """
    t, end = _log_bounds(run)
    tolerance, accept_safety, order = 0.01, 0.81, 3
    h = torch.tensor(0.05)
    previous = x
    while t < end - 1e-5:
        t_next = torch.minimum(end, t + h)
        step = _Exponential(run.denoise, x, t)
        low, high = step.second(t_next, fraction=1 / 3), step.third(t_next)
        scale = torch.clamp(tolerance * torch.maximum(low.abs(), previous.abs()), min=tolerance)
        error = float(torch.linalg.norm((low - high) / scale) / x.numel() ** 0.5)
        if math.isnan(error) or not t_next > t:
            raise InputError(
                "k-dpm-adaptive cannot go on: the network's result is not a number. Load the model with "
                "precision fp32 or bf16, lower cfg, or choose another sampler."
            )
        factor = (1 / (error + 1e-8)) ** (1 / order)
        factor = 1 + math.atan(factor - 1)
        if factor >= accept_safety:
            previous, x, t = low, high, t_next
        h = h * factor
        run.report(float(torch.exp(-step.t)), step.denoised)
    return x


SAMPLERS: dict[str, Callable[[SamplerRun, Tensor], Tensor]] = {
    "dpmpp-3m-sde": _dpmpp_3m_sde,
    "dpmpp-2m-sde": _dpmpp_2m_sde,
    "k-heun": _heun,
    "k-lms": _lms,
    "k-dpmpp-2s-ancestral": _dpmpp_2s_ancestral,
    "k-dpm-2": _dpm_2,
    "k-dpm-fast": _dpm_fast,
    "k-dpm-adaptive": _dpm_adaptive,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-3m": dpmpp_3m,
    "unipc": unipc,
    "er-sde": er_sde,
    "sa-solver": sa_solver,
}
# Those that the research package does not have.
FURTHER_SAMPLERS = ("dpmpp-2m", "dpmpp-3m", "unipc", "er-sde", "sa-solver")
# Two have no fixed steps, one builds on slopes from before latents were put back.
CANNOT_INPAINT = ("k-lms", "k-dpm-fast", "k-dpm-adaptive")
