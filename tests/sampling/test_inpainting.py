"""Strength masks: how far each latent of a sound may change."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from golden_cases import assert_close_l2, relative_l2
from torch import Tensor

from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.errors import InputError
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.denoiser import StepInfo, VDenoiser, noise_level, noise_time
from audiox_ext.sampling.inpainting import StrengthInpainting
from audiox_ext.sampling.rectified_flow import sample_euler, sample_few_steps
from audiox_ext.sampling.samplers import CANNOT_INPAINT, sample_v
from audiox_ext.sampling.schedules import noise_levels

SAMPLERS = [name for name in SAMPLER_NAMES if name not in CANNOT_INPAINT]
MULTI_STEP = ("dpmpp-2m-sde", "dpmpp-3m-sde", "dpmpp-2m", "dpmpp-3m", "unipc", "er-sde", "sa-solver")
ODE = ("k-heun", "k-dpm-2")
LOW, HIGH, STEPS = 0.01, 50.0, 30
SHAPE = (2, 3, 400)


def normal(seed: int) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


INIT = normal(9) / 2


def v_velocity(x: Tensor, t: Tensor) -> Tensor:
    """The exact velocity of the v objective for data drawn from N(0, 0.25)."""
    sigma = torch.tan(t * math.pi / 2)[:, None, None]
    noisy = x * (sigma**2 + 1).sqrt()
    denoised = noisy * 0.25 / (0.25 + sigma**2)
    return (noisy / (sigma**2 + 1) - denoised) * (sigma**2 + 1).sqrt() / sigma


def flow_velocity(x: Tensor, t: Tensor) -> Tensor:
    """The exact velocity of rectified flow for the same data."""
    t = t[:, None, None]
    clean = x * (1 - t) * 0.25 / ((1 - t) ** 2 * 0.25 + t**2)
    return (x - clean) / t


def run(name: str, mask: Tensor, init: Tensor = INIT, steps: int = STEPS, **more: Any) -> Tensor:
    """A sampler of the v objective by its name, "euler" or "few"."""
    keep = StrengthInpainting(init=init, mask=mask)
    if name == "euler":
        return sample_euler(flow_velocity, normal(7), steps=steps, inpainting=keep, **more)
    random = RandomNumbers.from_seed(1)
    if name == "few":
        return sample_few_steps(flow_velocity, normal(7), steps=steps, random=random, inpainting=keep, **more)
    return sample_v(
        VDenoiser(v_velocity),
        normal(7),
        sampler=name,
        steps=steps,
        sigma_min=LOW,
        sigma_max=HIGH,
        random=random,
        inpainting=keep,
        **more,
    )


def free_run(name: str) -> Tensor:
    """The same run without a mask."""
    if name == "euler":
        return sample_euler(flow_velocity, normal(7), steps=STEPS)
    random = RandomNumbers.from_seed(1)
    if name == "few":
        return sample_few_steps(flow_velocity, normal(7), steps=STEPS, random=random)
    settings: dict[str, Any] = {"steps": STEPS, "sigma_min": LOW, "sigma_max": HIGH, "random": random}
    return sample_v(VDenoiser(v_velocity), normal(7), sampler=name, **settings)


ALL = [*SAMPLERS, "euler", "few"]


@pytest.mark.parametrize("name", ALL)
def test_0_stays_exactly_and_1_is_a_new_sound(name: str) -> None:
    mask = torch.zeros(400)
    mask[100:300] = 1
    result = run(name, mask)
    assert torch.equal(result[..., mask == 0], INIT[..., mask == 0])
    # This denoiser treats latents independently, so new latents are distributed as without a mask.
    assert_close_l2(result[..., mask == 1], free_run(name)[..., mask == 1], 1e-6)


@pytest.mark.parametrize("name", ALL)
def test_each_batch_item_has_its_own_mask(name: str) -> None:
    mask = torch.zeros(2, 400)
    mask[1] = 1
    result = run(name, mask)
    assert torch.equal(result[0], INIT[0])
    assert_close_l2(result[1], free_run(name)[1], 1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_higher_strength_moves_further_from_the_original(name: str) -> None:
    strengths = (0.0, 0.15, 0.3, 0.5, 0.7, 0.85, 1.0)
    errors = [relative_l2(run(name, torch.full((400,), s)), INIT) for s in strengths]
    assert errors[0] == 0
    # A student's re-noising forgets everything above some strength: there the error stays constant.
    assert all(low < high + (1e-4 if name == "few" else 0) for low, high in pairwise(errors)), errors
    assert errors[1] > 0.05
    assert errors[-1] > 0.9


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("name", ALL)
def test_a_strength_is_a_variation_from_that_noise_level(name: str, strength: float) -> None:
    """Exactly where the sampler draws nothing; elsewhere in spread and distance to the original."""
    result = run(name, torch.full((400,), strength))
    random = RandomNumbers.from_seed(1)
    if name in ("euler", "few"):
        left = math.floor(strength * STEPS + 1e-9)
        shared: dict[str, Any] = {"steps": left, "start": left / STEPS, "init": INIT}
        if name == "euler":
            varied = sample_euler(flow_velocity, normal(7), **shared)
        else:
            varied = sample_few_steps(flow_velocity, normal(7), random=random, **shared)
    else:
        levels = [float(sigma) for sigma in noise_levels(STEPS, LOW, HIGH)[:-1]]
        first = next(i for i, sigma in enumerate(levels) if noise_time(sigma, LOW, HIGH) <= strength)
        varied = sample_v(
            VDenoiser(v_velocity),
            normal(7),
            sampler=name,
            steps=STEPS - first,
            sigma_min=LOW,
            sigma_max=levels[first],
            random=random,
            init=INIT,
        )
    if name in (*ODE, "euler"):
        assert_close_l2(result, varied, 1e-5)
    assert abs(relative_l2(result, INIT) - relative_l2(varied, INIT)) < 0.05
    assert abs(float(result.std()) - float(varied.std())) < 0.02


@pytest.mark.parametrize("name", MULTI_STEP)
def test_a_latent_that_becomes_free_ignores_what_was_held(name: str) -> None:
    """A region that is freed early keeps no trace of an original ten times too loud, even at few steps."""
    loud = INIT * 10
    result = run(name, torch.full((400,), 0.97), init=loud, steps=12)
    assert abs(float(result.std()) - 0.5) < 0.1


@pytest.mark.parametrize("name", ALL)
def test_the_preview_shows_what_is_held(name: str) -> None:
    steps: list[StepInfo] = []
    mask = torch.linspace(0, 1, 400)
    run(name, mask, callback=steps.append)
    for info in steps[: STEPS // 2]:
        assert torch.equal(info.denoised[..., :10], INIT[..., :10])
    same = [int((info.denoised == INIT).all(dim=1)[0].sum()) for info in steps]
    assert same == sorted(same, reverse=True)
    assert same[0] > 300


def test_noise_levels_and_times_are_inverse() -> None:
    for strength in (0.01, 0.25, 0.5, 0.75, 0.999, 1.0):
        assert noise_time(noise_level(strength, 0.3, 500), 0.3, 500) == pytest.approx(strength)
    assert noise_level(1, 0.3, 500) == 500
    assert noise_level(1e-6, 0.3, 500) == pytest.approx(0.3, rel=1e-4)
    assert (noise_time(500, 0.3, 500), noise_time(0.3, 0.3, 500)) == (1, 0)
    halfway = (math.atan(0.3) + math.atan(500)) / 2
    assert noise_level(0.5, 0.3, 500) == pytest.approx(math.tan(halfway))


@pytest.mark.parametrize("strength", [0, -0.1, 1.01, math.nan])
def test_invalid_strengths_are_refused(strength: float) -> None:
    with pytest.raises(InputError, match=f"The denoising strength is {strength}"):
        noise_level(strength, 0.3, 500)


def test_invalid_bounds_are_refused() -> None:
    with pytest.raises(InputError, match=r"sigma_min is 5 and sigma_max 0\.3"):
        noise_level(0.5, 5, 0.3)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            torch.zeros(399),
            r"mask has shape \(399,\)\. For latents of shape \(2, 3, 400\).*\(400,\) or \(2, 400\)",
        ),
        (torch.zeros(1, 400), r"mask has shape \(1, 400\)"),
        (torch.full((400,), 1.5), r"must lie in \[0, 1\], got 1.5 to 1.5"),
        (torch.full((400,), -1.0), r"must lie in \[0, 1\], got -1"),
        (torch.full((400,), math.nan), r"must lie in \[0, 1\], got nan"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StrengthInpainting(init=INIT, mask=mask)


@pytest.mark.parametrize("name", CANNOT_INPAINT)
def test_some_samplers_have_no_strengths(name: str) -> None:
    with pytest.raises(InputError, match="cannot keep parts of the sound"):
        run(name, torch.ones(400))
