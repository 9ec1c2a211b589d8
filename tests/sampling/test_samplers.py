"""Properties of the samplers: accuracy, order, random draws, callbacks, and bounds."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from gaussian_data import gaussian_velocity, run
from golden_cases import assert_close_l2, relative_l2
from torch import Tensor

from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.errors import InputError
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.denoiser import StepInfo, VDenoiser
from audiox_ext.sampling.multistep import er_scale, sample_er_sde, sample_sa_solver
from audiox_ext.sampling.rectified_flow import sample_euler
from audiox_ext.sampling.sampler_run import SamplerRun
from audiox_ext.sampling.samplers import SAMPLERS, sample_v
from audiox_ext.sampling.schedules import noise_levels

DETERMINISTIC = (
    "k-heun",
    "k-lms",
    "k-dpm-2",
    "k-dpm-fast",
    "k-dpm-adaptive",
    "dpmpp-2m",
    "dpmpp-3m",
    "unipc",
)
CALLS_PER_STEP = {
    "dpmpp-3m-sde": 1,
    "dpmpp-2m-sde": 1,
    "k-lms": 1,
    "dpmpp-2m": 1,
    "dpmpp-3m": 1,
    "unipc": 1,
    "er-sde": 1,
    "sa-solver": 1,
    "k-heun": 2,
    "k-dpm-2": 2,
    "k-dpmpp-2s-ancestral": 2,
}


def exact_solution(sigma_end: float) -> Tensor:
    noise = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(7)) * 50
    return noise * math.sqrt((0.25 + sigma_end**2) / (0.25 + 50**2))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_follow_the_known_solution(name: str) -> None:
    end = 0.01 if name in ("k-dpm-fast", "k-dpm-adaptive") else 0.0
    limit = 3e-2 if name == "k-dpm-adaptive" else 5e-3  # its own tolerance is 1e-2 per step
    assert relative_l2(run(name, 90), exact_solution(end)) < limit


ORDERS = {"k-heun": 2, "k-dpm-2": 2, "k-dpm-fast": 3, "dpmpp-2m": 2, "dpmpp-3m": 3, "unipc": 3}


@pytest.mark.parametrize(("name", "order"), ORDERS.items())
def test_order_of_convergence(name: str, order: int) -> None:
    end = 0.01 if name == "k-dpm-fast" else 0.0
    # The error of the last step to 0, 2e-4 at a sigma_min of 0.01, does not depend on the step count.
    more = {} if name in ("k-heun", "k-dpm-2", "k-dpm-fast") else {"sigma_min": 1e-3}
    coarse, fine = (relative_l2(run(name, steps, **more), exact_solution(end)) for steps in (30, 60))
    if name == "unipc":  # at 30 steps it is past the range where errors of different order stand out
        coarse, fine = (relative_l2(run(name, steps, **more), exact_solution(end)) for steps in (12, 24))
    assert coarse / fine > 2**order * 0.6, f"error fell only {coarse / fine:.1f} times when the steps doubled"


def test_the_er_sde_sampler_without_its_noise_is_an_ode_solver_of_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ode = partial(sample_er_sde, scale=lambda sigma: sigma)
    monkeypatch.setitem(SAMPLERS, "er-sde", ode)
    assert_close_l2(run("er-sde", 9, seed=1), run("er-sde", 9, seed=2), 1e-6)
    coarse, fine = (relative_l2(run("er-sde", n, sigma_min=1e-3), exact_solution(0.0)) for n in (40, 80))
    assert coarse / fine > 2**3 * 0.9


def test_the_sa_solver_without_its_noise_is_an_adams_method_of_its_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SAMPLERS, "sa-solver", partial(sample_sa_solver, tau=0.0))
    assert torch.equal(run("sa-solver", 9, seed=1), run("sa-solver", 9, seed=2))
    coarse, fine = (relative_l2(run("sa-solver", n, sigma_min=1e-3), exact_solution(0.0)) for n in (12, 24))
    assert coarse / fine > 2**3 * 0.9


def test_sa_solver_renews_the_noise_according_to_tau() -> None:
    """Like the test of er-sde; with tau 1 little of the old noise is left."""
    high, low = 3.0, 1.0
    inputs: list[Tensor] = []

    def predict_zero(x: Tensor, sigma: Tensor) -> Tensor:
        inputs.append(x)
        return torch.zeros_like(x)

    settings: dict[str, Any] = {"callback": None, "inpainting": None, "sigma_min": low, "sigma_max": high}
    for tau in (1.0, 0.5):
        inputs.clear()
        random = RandomNumbers.from_seed(1)
        sigmas = torch.tensor([high, low, 0.0])
        run = SamplerRun(denoiser=predict_zero, sigmas=sigmas, random=random, **settings)
        sample_sa_solver(run.denoise, torch.full((1, 2, 50_000), high), sigmas, run, tau)
        old_fraction = (low / high) ** (1 + tau**2)
        assert float(inputs[1].mean()) == pytest.approx(high * old_fraction, abs=0.01)
        assert float(inputs[1].std()) == pytest.approx(
            math.sqrt(low**2 - (high * old_fraction) ** 2), rel=0.01
        )


def test_er_sde_renews_the_noise_according_to_its_scale() -> None:
    """A step of constant clean latents: the fraction of the old noise, and new noise for the rest."""
    high, low = 3.0, 1.0
    sigmas = torch.tensor([high, low, 0.0])
    inputs: list[Tensor] = []

    def predict_zero(x: Tensor, sigma: Tensor) -> Tensor:
        inputs.append(x)
        return torch.zeros_like(x)

    settings: dict[str, Any] = {"callback": None, "inpainting": None, "sigma_min": low, "sigma_max": high}
    x = torch.full((1, 2, 50_000), high)
    run = SamplerRun(denoiser=predict_zero, sigmas=sigmas, random=RandomNumbers.from_seed(1), **settings)
    sample_er_sde(run.denoise, x, sigmas, run)
    old_fraction = er_scale(low) / er_scale(high)
    assert float(inputs[1].mean()) == pytest.approx(high * old_fraction, abs=0.01)
    assert float(inputs[1].std()) == pytest.approx(math.sqrt(low**2 - (high * old_fraction) ** 2), rel=0.01)
    assert 0 < old_fraction < low / high


@pytest.mark.parametrize(
    ("name", "draws"), [("dpmpp-2m", 0), ("dpmpp-3m", 0), ("unipc", 0), ("er-sde", 8), ("sa-solver", 8)]
)
def test_samplers_draw_the_documented_numbers(name: str, draws: int) -> None:
    """As their docstrings say: the generator is in the state after that many draws."""
    numbers, expected = RandomNumbers.from_seed(0), RandomNumbers.from_seed(0)
    noise = torch.randn(1, 3, 40, generator=torch.Generator().manual_seed(7))
    sample_v(
        VDenoiser(gaussian_velocity),
        noise,
        sampler=name,
        steps=9,
        sigma_min=0.3,
        sigma_max=50.0,
        random=numbers,
    )
    for _ in range(draws):
        expected.normal(noise.shape)
    assert torch.equal(numbers.normal((4,)), expected.normal((4,)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in SAMPLER_NAMES if n not in DETERMINISTIC])
def test_stochastic_samplers_give_the_right_spread(name: str) -> None:
    results = torch.cat([run(name, 40, seed=seed) for seed in range(30)])
    assert abs(float(results.std()) - 0.5) < 0.03
    assert relative_l2(run(name, 40, seed=1), run(name, 40, seed=2)) > 0.1


def test_every_name_of_a_sampler_has_its_function() -> None:
    assert tuple(SAMPLERS) == SAMPLER_NAMES


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_callback_counts_steps_and_calls(name: str) -> None:
    infos: list[StepInfo] = []
    calls = []

    def counted(x: Tensor, t: Tensor) -> Tensor:
        calls.append(float(t[0]))
        return gaussian_velocity(x, t)

    noise = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    sample_v(
        VDenoiser(counted),
        noise,
        sampler=name,
        steps=9,
        sigma_min=0.3,
        sigma_max=50.0,
        random=RandomNumbers.from_seed(0),
        callback=infos.append,
    )
    assert [info.step for info in infos] == sorted({info.step for info in infos})
    assert all(info.denoised.shape == noise.shape and info.step <= info.steps for info in infos)
    if name in CALLS_PER_STEP:
        assert len(infos) == 9
        assert len(calls) == 9 * CALLS_PER_STEP[name] - (CALLS_PER_STEP[name] - 1)
    if name == "k-dpm-fast":
        assert len(calls) == 9


@pytest.mark.parametrize("name", SAMPLER_NAMES)
def test_one_step_works(name: str) -> None:
    assert bool(torch.isfinite(run(name, 1)).all())


def test_schedule_falls_from_the_largest_to_the_smallest_then_to_zero() -> None:
    sigmas = noise_levels(8, 0.3, 500)
    assert sigmas.shape == (9,)
    assert float(sigmas[0]) == pytest.approx(500, rel=1e-6)
    assert float(sigmas[-2]) == pytest.approx(0.3, rel=1e-6)
    assert sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())
    assert float(noise_levels(8, 0.3, 500, rho=2)[4]) < float(sigmas[4])


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 5.0), (5.0, 0.3), (1.0, 1.0), (-1.0, 5.0), (0.3, math.inf), (math.nan, 5)]
)
def test_invalid_bounds_are_refused(low: float, high: float) -> None:
    with pytest.raises(InputError, match="sigma_min must be above 0 and below sigma_max"):
        run("k-heun", 4, sigma_min=low, sigma_max=high)


def test_an_unknown_sampler_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'euler'.*dpmpp-3m-sde"):
        run("euler", 4)


def test_euler_follows_a_straight_line_exactly() -> None:
    clean, noise = torch.randn(2, 1, 3, 40).unbind(0)
    result = sample_euler(lambda x, t: noise - clean, noise, steps=3)
    assert_close_l2(result, clean, 1e-5)


def test_a_network_that_returns_nan_ends_the_adaptive_sampler() -> None:
    noise = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="not a number"):
        sample_v(
            VDenoiser(lambda x, t: x * math.nan),
            noise,
            sampler="k-dpm-adaptive",
            steps=4,
            sigma_min=0.3,
            sigma_max=50.0,
            random=RandomNumbers.from_seed(0),
        )
