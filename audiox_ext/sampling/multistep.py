"""Multistep samplers for the v objective: one denoiser call per step, and earlier steps for a higher order.

With lambda = -log sigma the latents obey dx / dlambda = D - x, where D is the estimate of the clean latents.
A step integrates the polynomial through the last values of D exactly, or corrects a prediction with it.
Sources: Lu et al. 2022 (arXiv 2211.01095), Zhao et al. 2023 (arXiv 2302.04867), Xue et al. 2023 (arXiv
2309.05019), Cui et al. 2023 (arXiv 2309.06169).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .denoiser import randn_like
from .sampler_run import Denoise, SamplerRun

Point = tuple[Tensor, float]
"""(estimate of the clean latents, its lambda or sigma)."""


def sample_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver++(2M), second order. Draws no random numbers."""
    earlier: Point | None = None  # with lambda
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        x = run.finish_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        at = -math.log(sigma)
        h = -math.log(sigma_next) - at
        x = math.exp(-h) * x - math.expm1(-h) * denoised
        if earlier is not None:
            change = run.choose_if_free(1, denoised - earlier[0], torch.zeros_like(denoised))
            x = x - math.expm1(-h) * h / (2 * (at - earlier[1])) * change
        earlier = denoised, at
    return x


def sample_dpmpp_3m(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """DPM-Solver++(3M), third order. Draws no random numbers.

    The second derivative is that of the parabola through the last three points, which gives the full order
    three. The SDE sampler of the same name uses half of it (as published).
    """
    known: list[Point] = []  # with lambda, newest first
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        x = run.finish_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        at = -math.log(sigma)
        known = [(denoised, at), *known[:2]]
        h = -math.log(sigma_next) - at
        # Integrals of e^(s - h) times 1, s and s^2 / 2 over the step.
        first = -math.expm1(-h)
        second = h - first
        third = h * h / 2 - second
        x = math.exp(-h) * x + first * denoised
        for weight, derivative in zip((second, third), _derivatives(run, known), strict=False):
            x = x + weight * derivative
    return x


def _derivatives(run: SamplerRun, known: Sequence[Point]) -> list[Tensor]:
    """Return the first and second derivative at the newest point of the parabola through three points.

    The points are ordered newest first. Two points give only the slope of their line, one gives neither.
    """
    if len(known) == 1:
        return []
    (now, at), (before, at_before), *rest = known
    slope = run.choose_if_free(1, (now - before) / (at - at_before), torch.zeros_like(now))
    if not rest:
        return [slope]
    ((long_before, at_long_before),) = rest
    slope_before = run.choose_if_free(2, (before - long_before) / (at_before - at_long_before), slope)
    bend = (slope - slope_before) / (at - at_long_before)
    return [slope + bend * (at - at_before), 2 * bend]


def sample_unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun) -> Tensor:
    """UniPC of order 3 with B(h) = e^h - 1, on clean latents. Draws no random numbers.

    Each step is predicted from earlier ones. The next denoiser call then corrects it, at no further cost. The
    order rises from 1 in the first steps and falls to 1 in the last ones.
    """
    known: list[Point] = []  # with lambda, newest first
    start, order = x, 1  # of the last step
    for index, (sigma, sigma_next) in enumerate(run.each_step(sigmas)):
        denoised = denoise(x, sigma)
        at = -math.log(sigma)
        if known:
            x = _unified_step(run, start, known[:order], at, [(denoised, at)])
        x = run.finish_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        known = [(denoised, at), *known[:2]]
        start, order = x, min(3, index + 1, run.step_count - index)
        x = _unified_step(run, start, known[:order], -math.log(sigma_next), [])
    return x


def sample_sa_solver(
    denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun, tau: float = 1.0
) -> Tensor:
    """SA-Solver: an Adams predictor and corrector for the SDE whose noise is scaled by tau.

    Tau 1 is the reverse SDE, 0 the ODE. The predictor has order 3, the corrector 4; both orders rise from 1
    in the first steps and fall in the last ones. Draws normal numbers of x's shape after every step but the
    last.
    """
    known: list[Point] = []  # with lambda, newest first
    start, noise, order = x, torch.zeros_like(x), 1  # of the last step
    rate = 1 + tau**2
    for index, (sigma, sigma_next) in enumerate(run.each_step(sigmas)):
        denoised = denoise(x, sigma)
        at = -math.log(sigma)
        if known:
            x = _unified_step(run, start, known[:order], at, [(denoised, at)], rate, exact=True) + noise
        x = run.finish_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        known = [(denoised, at), *known[:2]]
        start, order, at_next = x, min(3, index + 1, run.step_count - index), -math.log(sigma_next)
        fresh = float(sigma_next) * (-math.expm1(-2 * tau**2 * (at_next - at))) ** 0.5
        noise = fresh * randn_like(x, run.random)
        x = _unified_step(run, start, known[:order], at_next, [], rate, exact=True) + noise
    return x


def _unified_step(
    run: SamplerRun,
    x: Tensor,
    known: Sequence[Point],
    at_next: float,
    reached: list[Point],
    rate: float = 1.0,
    exact: bool = False,
) -> Tensor:
    """Integrate dx / dlambda = rate * (D - x) from the newest known point to lambda = at_next.

    reached: the estimate at the end of the step, which corrects a prediction; empty for a prediction. exact:
    see `_unified_weights`.
    """
    (newest, at), *before = known
    h = at_next - at
    ratios: list[float] = []
    slopes: list[Tensor] = []
    # Differences to the newest point, each divided by the fraction of the step at which its point lies.
    for steps_back, (denoised, position) in enumerate([*reached, *before], start=1):
        ratio = (position - at) / h
        fallback = slopes[-1] if slopes else torch.zeros_like(newest)
        slopes.append(run.choose_if_free(steps_back, (denoised - newest) / ratio, fallback))
        ratios.append(ratio)
    x = math.exp(-rate * h) * x - math.expm1(-rate * h) * newest
    for weight, slope in zip(_unified_weights(rate * h, ratios, exact), slopes, strict=True):
        x = x - math.expm1(-rate * h) * weight * slope
    return x


def _unified_weights(h: float, ratios: Sequence[float], exact: bool) -> list[float]:
    """Return the weights of the slopes that make the step exact for polynomials.

    A single slope has the weight 1/2, which UniPC chooses for its B(h), unless `exact` is set.
    """
    if len(ratios) == 1 and not exact:
        return [0.5]
    import numpy

    integrals: list[float] = []
    term, factorial = -math.expm1(-h) / h - 1, 1
    for power in range(len(ratios)):
        integrals.append(term * factorial / math.expm1(-h))
        factorial *= power + 2
        term = -term / h - 1 / factorial
    powers = numpy.power.outer(numpy.array(ratios), numpy.arange(len(ratios))).T
    return [float(weight) for weight in numpy.linalg.solve(powers, numpy.array(integrals))]


def er_scale(sigma: float) -> float:
    """The noise scale of ER-SDE: sigma would give the ODE, sigma^2 the reverse SDE."""
    return sigma * (math.exp(sigma**0.3) + 10)


def sample_er_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, run: SamplerRun, scale: Callable[[float], float] = er_scale
) -> Tensor:
    """ER-SDE-Solver-3. Draws normal numbers of x's shape after every step but the last.

    Derivatives by sigma are those of the parabola through the last three points; the paper uses lines.
    """
    known: list[Point] = []  # with sigma, newest first
    for sigma, sigma_next in run.each_step(sigmas):
        denoised = denoise(x, sigma)
        x = run.finish_first_call(x, sigma, denoised)
        if sigma_next == 0:
            return denoised
        high, low = float(sigma), float(sigma_next)
        known = [(denoised, high), *known[:2]]
        ratio = scale(low) / scale(high)
        x = ratio * x + (1 - ratio) * denoised
        for power, derivative in enumerate(_derivatives(run, known), start=1):
            weight = (low - high) ** power / power + scale(low) * _over_scale(scale, low, high, power - 1)
            x = x + weight * derivative
        fresh = max(0.0, low**2 - (high * ratio) ** 2) ** 0.5
        x = x + fresh * randn_like(x, run.random)
    return x


def _over_scale(scale: Callable[[float], float], low: float, high: float, power: int) -> float:
    """Integrate (s - high)^power / scale(s) over s from low to high."""
    from numpy.polynomial.legendre import leggauss

    nodes, weights = leggauss(24)
    # In log s, in which the scale hardly changes.
    middle, half = math.log(low * high) / 2, math.log(high / low) / 2
    points = [math.exp(middle + half * float(node)) for node in nodes]
    values = [(s - high) ** power * s / scale(s) for s in points]
    return half * sum(float(weight) * value for weight, value in zip(weights, values, strict=True))
