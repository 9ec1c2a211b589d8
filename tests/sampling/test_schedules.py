"""Which noise levels a run visits."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from golden_cases import relative_l2
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.pipeline.make_audio import init_noise_level, make_audio
from audiox_ext.sampling.denoiser import noise_level, noise_time
from audiox_ext.sampling.schedules import SCHEDULE_NAMES, check_sigmas, levels_below, noise_levels

LOW, HIGH = 0.3, 500.0


@pytest.mark.parametrize("steps", [1, 2, 3, 25, 250, 1000])
@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_it_falls_from_the_largest_to_the_smallest_then_to_zero(name: str, steps: int) -> None:
    sigmas = noise_levels(steps, LOW, HIGH, name)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == torch.float32
    assert float(sigmas[0]) == pytest.approx(HIGH, rel=1e-6)
    if steps > 1:
        assert float(sigmas[-2]) == pytest.approx(LOW, rel=1e-6)
    assert sigmas[-1] == 0
    assert bool((sigmas.diff() < 0).all())


def test_the_default_is_the_published_one() -> None:
    ramp = torch.linspace(1, 0, 250)
    published = torch.exp(ramp * (math.log(HIGH) - math.log(LOW)) + math.log(LOW))
    assert torch.equal(noise_levels(250, LOW, HIGH)[:-1], published)
    assert torch.equal(noise_levels(250, LOW, HIGH, "polyexponential", 1.0)[:-1], published)
    assert torch.equal(noise_levels(250, LOW, HIGH, "exponential", 3.0)[:-1], published)


def test_karras_is_even_in_the_seventh_root() -> None:
    roots = noise_levels(9, LOW, HIGH, "karras")[:-1].double() ** (1 / 7)
    assert roots.diff().tolist() == pytest.approx([(LOW ** (1 / 7) - HIGH ** (1 / 7)) / 8] * 8, rel=1e-5)
    even = noise_levels(9, LOW, HIGH, "karras", 1.0)[:-1]
    assert even.diff().tolist() == pytest.approx([(LOW - HIGH) / 8] * 8, rel=1e-5)


def test_beta_takes_quantiles_over_the_networks_time() -> None:
    """Integrated here: the fraction of the distribution below each time is the fraction of steps left."""
    times = [noise_time(float(sigma), LOW, HIGH) for sigma in noise_levels(11, LOW, HIGH, "beta")[:-1]]
    # With u = v^(1 / 0.6) the density's pole at 0 is gone; the one at 1 is met by symmetry.
    v = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000

    def below_half(time: float) -> float:
        top = time**0.6
        return float(((1 - (v * top) ** (1 / 0.6)) ** -0.4).mean()) * top

    half = below_half(0.5)
    shares = [below_half(t) / 2 / half if t <= 0.5 else 1 - below_half(1 - t) / 2 / half for t in times]
    assert shares == pytest.approx([1 - i / 10 for i in range(11)], abs=2e-4)


def test_align_your_steps_is_the_list_where_steps_and_bounds_are_the_lists() -> None:
    listed = [700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002]
    assert noise_levels(11, 0.002, 700.0, "align-your-steps")[:-1].tolist() == pytest.approx(listed, rel=1e-5)
    doubled = noise_levels(21, 0.002, 700.0, "align-your-steps")
    assert float(doubled[1]) == pytest.approx(math.sqrt(700 * 54.5), rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULE_NAMES)
def test_every_schedule_makes_a_different_sound(name: str, golden_model: Any) -> None:
    def make(**more: Any) -> Tensor:
        return generate_diffusion_cond(
            golden_model("maf"),
            steps=6,
            conditioning={"text_prompt": "rain"},
            seed=2,
            device="cpu",
            return_latents=True,
            sampler_type="dpmpp-2m",
            **more,
        )

    waveform, default = make(schedule=name), make()
    assert bool(torch.isfinite(waveform).all())
    assert (relative_l2(waveform, default) > 1e-3) == (name not in ("polyexponential", "exponential"))


def test_rectified_flow_says_that_it_has_no_schedule(golden_model: Any, caplog: Any) -> None:
    arguments = {"conditioning": {}, "seed": 1, "device": "cpu", "return_latents": True}
    plain = generate_diffusion_cond(golden_model("turbo"), **arguments)
    with caplog.at_level("INFO"):
        karras = generate_diffusion_cond(golden_model("turbo"), schedule="karras", **arguments)
    assert torch.equal(karras, plain)
    assert "schedule karras is not used" in caplog.text


def test_an_unknown_schedule_is_named_with_the_known_ones(golden_model: Any) -> None:
    with pytest.raises(InputError, match=r"'linear'.*polyexponential, karras"):
        noise_levels(4, LOW, HIGH, "linear")
    with pytest.raises(InputError, match=r"'linear'.*polyexponential, karras"):
        generate_diffusion_cond(golden_model("maf"), conditioning={}, schedule="linear")


@pytest.mark.parametrize(
    "levels",
    [[5.0], [[5.0, 1.0]], [1.0, 5.0, 0.0], [5.0, 5.0, 0.0], [5.0, -1.0], [math.inf, 1.0], [0.0, 0.0]],
)
def test_invalid_noise_levels_are_refused(levels: Any) -> None:
    with pytest.raises(InputError, match="sigmas must be"):
        check_sigmas(torch.tensor(levels))


def test_indistinguishable_noise_levels_are_refused() -> None:
    with pytest.raises(InputError, match=r"250 steps of beta from 0\.3001 to 0\.3 are too close together"):
        noise_levels(250, 0.3, 0.3001, "beta")
    with pytest.raises(InputError, match="with rho 1000"):
        noise_levels(50, 0.3, 500.0, rho=1000.0)


def test_the_strength_of_a_variation_applies_to_custom_sigmas(golden_model: Any) -> None:
    model, sound = golden_model("base"), torch.zeros(1, 8000)
    for levels, lowest in (([500.0, 80.0, 5.0, 0.0], 5.0), ([40.0, 1.0], 1.0)):
        bounds = lowest, levels[0]
        for strength in (0.01, 0.5, 1.0):
            request = audio_request(
                init_audio=(sound, 8000), init_strength=strength, custom_sigmas=torch.tensor(levels)
            )
            assert init_noise_level(model, request.settings) == pytest.approx(noise_level(strength, *bounds))
    # The lowest strength is above the last noise level, wherever that is.
    request = audio_request(
        init_audio=(sound, 8000), init_strength=0.01, custom_sigmas=torch.tensor([500.0, 80.0, 5.0, 0.0])
    )
    assert bool(torch.isfinite(make_audio(model, request, device="cpu")).all())


def test_a_part_of_custom_sigmas() -> None:
    sigmas = torch.tensor([10.0, 5.0, 2.0, 1.0, 0.0])
    assert levels_below(sigmas, 10.0) is sigmas
    assert levels_below(sigmas, 50.0) is sigmas
    assert levels_below(sigmas, 3.0).tolist() == [3.0, 2.0, 1.0, 0.0]
    assert levels_below(sigmas, 2.0).tolist() == [2.0, 1.0, 0.0]


def test_custom_sigmas_define_the_run(golden_model: Any) -> None:
    """They give the same result as the schedule they come from, and work with variations."""
    steps: list[tuple[int, int]] = []
    arguments: dict[str, Any] = {"conditioning": {"text_prompt": "rain"}, "seed": 2, "device": "cpu"}
    arguments |= {"return_latents": True, "sampler_type": "dpmpp-3m-sde"}
    model, sigmas = golden_model("maf"), noise_levels(5, LOW, HIGH, "karras")
    by_name = generate_diffusion_cond(model, steps=5, schedule="karras", **arguments)
    by_levels = generate_diffusion_cond(
        model, custom_sigmas=sigmas, callback=lambda info: steps.append((info.step, info.steps)), **arguments
    )
    assert relative_l2(by_levels, by_name) < 1e-4  # the Brownian path ends at the bounds' float32 values
    assert steps == [(i, 5) for i in range(1, 6)]
    init = (8000, torch.rand(2, 16000, generator=torch.Generator().manual_seed(1)))
    near = generate_diffusion_cond(
        model, custom_sigmas=sigmas, init_audio=init, init_noise_level=0.5, **arguments
    )
    far = generate_diffusion_cond(
        model, custom_sigmas=sigmas, init_audio=init, init_noise_level=50, **arguments
    )
    assert relative_l2(near, far) > 0.1


@pytest.mark.parametrize(("start", "is_logged"), [(14.6, True), (400.0, False)])
def test_custom_sigmas_that_begin_far_too_low_are_logged(
    start: float, is_logged: bool, golden_model: Any, caplog: Any
) -> None:
    generate_diffusion_cond(
        golden_model("maf"),
        custom_sigmas=torch.tensor([start, 1.0, 0.0]),
        conditioning={},
        seed=2,
        device="cpu",
        return_latents=True,
    )
    assert ("start at 14.6, and the model expects a start at 500" in caplog.text) == is_logged


@pytest.mark.parametrize("name", ["dpmpp-3m-sde", "dpmpp-2m", "dpmpp-3m", "unipc", "er-sde", "k-heun"])
def test_custom_sigmas_need_not_end_at_zero(name: str, golden_model: Any) -> None:
    latents = generate_diffusion_cond(
        golden_model("maf"),
        custom_sigmas=torch.tensor([80.0, 20.0, 5.0, 1.0]),
        conditioning={},
        seed=2,
        device="cpu",
        return_latents=True,
        sampler_type=name,
    )
    assert bool(torch.isfinite(latents).all())
