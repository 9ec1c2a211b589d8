"""Properties of the samplers: order, seeds, callbacks, and what is left untouched."""

from __future__ import annotations

import math
import random
from functools import partial
from itertools import pairwise
from typing import Any

import numpy
import pytest
import torch
from golden_cases import assert_close_l2, relative_l2, tone
from torch import Tensor

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.denoiser import BrownianNoise, StepInfo, VDenoiser
from audiox_ext.sampling.inpainting import Inpainting
from audiox_ext.sampling.multistep import er_scale, sample_er_sde, sample_sa_solver
from audiox_ext.sampling.rectified_flow import sample_euler, sample_few_steps
from audiox_ext.sampling.sampler_run import SamplerRun
from audiox_ext.sampling.samplers import CANNOT_INPAINT, SAMPLERS, sample_v
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


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """The exact velocity for data drawn from N(0, 0.25): the ODE has a closed solution."""
    sigma = torch.tan(t * math.pi / 2)[:, None, None]
    noisy = x * (sigma**2 + 1).sqrt()
    denoised = noisy * 0.25 / (0.25 + sigma**2)
    return (noisy / (sigma**2 + 1) - denoised) * (sigma**2 + 1).sqrt() / sigma


def run(name: str, steps: int, seed: int = 0, **more: Any) -> Tensor:
    noise = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(7))
    random = RandomNumbers.from_seed(seed)
    settings = {"sampler": name, "steps": steps, "sigma_min": 0.01, "sigma_max": 50.0, **more}
    return sample_v(VDenoiser(gaussian_velocity), noise, random=random, **settings)


def exact_solution(sigma_end: float) -> Tensor:
    noise = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(7)) * 50
    return noise * math.sqrt((0.25 + sigma_end**2) / (0.25 + 50**2))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_deterministic_samplers_follow_the_known_solution(name: str) -> None:
    end = 0.01 if name in ("k-dpm-fast", "k-dpm-adaptive") else 0.0
    limit = 3e-2 if name == "k-dpm-adaptive" else 5e-3  # its own tolerance is 1e-2 a step
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


def test_sa_solver_renews_the_noise_that_tau_says() -> None:
    """As `test_er_sde_renews_the_noise_that_its_scale_says`; with tau 1 little of the old noise is left."""
    high, low = 3.0, 1.0
    inputs: list[Tensor] = []

    def nothing(x: Tensor, sigma: Tensor) -> Tensor:
        inputs.append(x)
        return torch.zeros_like(x)

    settings: dict[str, Any] = {"callback": None, "inpainting": None, "sigma_min": low, "sigma_max": high}
    for tau in (1.0, 0.5):
        inputs.clear()
        random = RandomNumbers.from_seed(1)
        sigmas = torch.tensor([high, low, 0.0])
        run = SamplerRun(denoiser=nothing, sigmas=sigmas, random=random, **settings)
        sample_sa_solver(run.denoise, torch.full((1, 2, 50_000), high), sigmas, run, tau)
        retained = (low / high) ** (1 + tau**2)
        assert float(inputs[1].mean()) == pytest.approx(high * retained, abs=0.01)
        assert float(inputs[1].std()) == pytest.approx(math.sqrt(low**2 - (high * retained) ** 2), rel=0.01)


def test_er_sde_renews_the_noise_that_its_scale_says() -> None:
    """A step of constant clean latents: the share of the old noise, and new noise for the rest."""
    high, low = 3.0, 1.0
    sigmas = torch.tensor([high, low, 0.0])
    inputs: list[Tensor] = []

    def nothing(x: Tensor, sigma: Tensor) -> Tensor:
        inputs.append(x)
        return torch.zeros_like(x)

    settings: dict[str, Any] = {"callback": None, "inpainting": None, "sigma_min": low, "sigma_max": high}
    x = torch.full((1, 2, 50_000), high)
    run = SamplerRun(denoiser=nothing, sigmas=sigmas, random=RandomNumbers.from_seed(1), **settings)
    sample_er_sde(run.denoise, x, sigmas, run)
    retained = er_scale(low) / er_scale(high)
    assert float(inputs[1].mean()) == pytest.approx(high * retained, abs=0.01)
    assert float(inputs[1].std()) == pytest.approx(math.sqrt(low**2 - (high * retained) ** 2), rel=0.01)
    assert 0 < retained < low / high


@pytest.mark.parametrize(
    ("name", "draws"), [("dpmpp-2m", 0), ("dpmpp-3m", 0), ("unipc", 0), ("er-sde", 8), ("sa-solver", 8)]
)
def test_what_the_further_samplers_draw(name: str, draws: int) -> None:
    """As their docstrings say; the generator stands where that many draws leave it."""
    left, expected = RandomNumbers.from_seed(0), RandomNumbers.from_seed(0)
    noise = torch.randn(1, 3, 40, generator=torch.Generator().manual_seed(7))
    sample_v(
        VDenoiser(gaussian_velocity),
        noise,
        sampler=name,
        steps=9,
        sigma_min=0.3,
        sigma_max=50.0,
        random=left,
    )
    for _ in range(draws):
        expected.normal(noise.shape)
    assert torch.equal(left.normal((4,)), expected.normal((4,)))


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


def test_brownian_noise_does_not_depend_on_the_steps() -> None:
    x = torch.zeros(1, 2, 64)
    sigmas = torch.tensor([8.0, 4.0, 2.0, 0.0])

    def source() -> BrownianNoise:
        return BrownianNoise(x, sigmas, RandomNumbers.from_seed(5))

    whole = source()(x, sigmas[0], sigmas[2]) * 6**0.5
    parts = source()
    halves = parts(x, sigmas[0], sigmas[1]) * 4**0.5 + parts(x, sigmas[1], sigmas[2]) * 2**0.5
    assert_close_l2(halves, whole, 1e-4)
    assert abs(float(whole.std()) / 6**0.5 - 1) < 0.2


@pytest.mark.parametrize("limit", [2**26, 1])
def test_the_noise_is_that_of_torchsdes_tree(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much of the path is kept."""
    import torchsde

    monkeypatch.setattr("audiox_ext.sampling.denoiser.MAX_BROWNIAN_CACHE", limit)
    x, sigmas = torch.zeros(1, 2, 64), noise_levels(60, 0.3, 500)
    (entropy,) = RandomNumbers.from_seed(5).integers(2**63 - 1)
    low, high = float(sigmas[-2]), float(sigmas[0])
    tree = torchsde.BrownianTree(low, x, high, entropy=entropy)
    noise = BrownianNoise(x, sigmas, RandomNumbers.from_seed(5))
    for start, end in pairwise(sigmas[:-1].tolist()):
        within = max(end, round(low, 6)), min(start, round(high, 6))
        expected = -tree(*within) / (start - end) ** 0.5
        assert torch.equal(noise(x, torch.tensor(start), torch.tensor(end)), expected)
    assert not noise(x, sigmas[-2], sigmas[-1]).any()


@pytest.mark.parametrize("name", ["dpmpp-3m-sde", "dpmpp-2m-sde"])
def test_noise_is_drawn_while_a_pass_is_under_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the network has been started, before anything asks for its result."""
    used: list[str] = []
    draw = BrownianNoise.__call__

    def spy(self: BrownianNoise, *levels: Tensor) -> Tensor:
        used.append("noise")
        return draw(self, *levels)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        used.append("pass")
        return gaussian_velocity(x, t)

    monkeypatch.setattr(BrownianNoise, "__call__", spy)
    sample_v(
        VDenoiser(velocity),
        torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0)),
        sampler=name,
        steps=3,
        sigma_min=0.3,
        sigma_max=50.0,
        random=RandomNumbers.from_seed(0),
        callback=lambda info: used.append("report"),
    )
    assert used == ["pass", "noise", "report"] * 3


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 5.0), (5.0, 0.3), (1.0, 1.0), (-1.0, 5.0), (0.3, math.inf), (math.nan, 5)]
)
def test_senseless_bounds_are_refused(low: float, high: float) -> None:
    with pytest.raises(InputError, match="sigma_min must be above 0 and below sigma_max"):
        run("k-heun", 4, sigma_min=low, sigma_max=high)


def test_an_unknown_sampler_is_named_with_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"'euler'.*dpmpp-3m-sde"):
        run("euler", 4)


@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_seeds_and_the_callers_random_state(kind: str, golden_model: Any) -> None:
    model = golden_model(kind)
    before = (torch.random.get_rng_state(), numpy.random.get_state()[1].copy(), random.getstate())
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()

    def make(seed: int) -> Tensor:
        return generate_diffusion_cond(
            model, steps=3, conditioning={"text_prompt": "rain"}, seed=seed, device="cpu", return_latents=True
        )

    first, again, other = make(5), make(5), make(6)
    assert torch.equal(first, again)
    assert relative_l2(first, other) > 0.1
    assert relative_l2(make(-1), make(-1)) > 0.1
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert bool((before[1] == numpy.random.get_state()[1]).all())
    assert before[2] == random.getstate()
    assert (threads, dtype) == (torch.get_num_threads(), torch.get_default_dtype())


def test_a_negative_prompt_draws_its_random_numbers_even_unguided(golden_model: Any) -> None:
    """Its mask is drawn before the Brownian path, so that a seed means what it means as published."""
    arguments = {
        "steps": 3,
        "cfg_scale": 1,
        "conditioning": {},
        "seed": 4,
        "device": "cpu",
        "return_latents": True,
    }
    plain = generate_diffusion_cond(golden_model("maf"), **arguments)
    with_negative = generate_diffusion_cond(
        golden_model("maf"), negative_conditioning={"text_prompt": "x"}, **arguments
    )
    assert relative_l2(with_negative, plain) > 1e-3


def test_the_items_of_a_batch_do_not_touch_each_other(golden_model: Any) -> None:
    model = golden_model("base")
    both = [{"text_prompt": "rain"}, {"text_prompt": "a dog barks"}]
    noise_free = {"steps": 3, "seed": 4, "device": "cpu", "return_latents": True, "sampler_type": "k-heun"}
    pair = generate_diffusion_cond(model, conditioning=both, batch_size=2, **noise_free)
    other = generate_diffusion_cond(model, conditioning=[both[0], both[0]], batch_size=2, **noise_free)
    assert_close_l2(pair[:1], other[:1], 1e-5)
    assert relative_l2(pair[1:], other[1:]) > 1e-4


class StoppedError(Exception):
    """Raised by a callback to end a run."""


@pytest.mark.parametrize("kind", ["maf", "mmdit", "turbo"])
def test_a_callback_that_raises_ends_the_run_and_the_model_goes_on(kind: str, golden_model: Any) -> None:
    model, steps = golden_model(kind), []

    def stop(info: StepInfo) -> None:
        steps.append(info.step)
        if info.step == 2:
            raise StoppedError

    arguments = {
        "steps": 6,
        "conditioning": {"text_prompt": "rain"},
        "seed": 1,
        "device": "cpu",
        "return_latents": True,
    }
    before = generate_diffusion_cond(model, **arguments)
    with pytest.raises(StoppedError):
        generate_diffusion_cond(model, callback=stop, **arguments)
    assert steps == [1, 2]
    assert torch.equal(generate_diffusion_cond(model, **arguments), before)


def test_the_model_decides_its_sampling(golden_model: Any, tiny_folder: Any) -> None:
    turbo = golden_model("turbo")
    assert (turbo.defaults.steps, turbo.defaults.cfg_scale) == (4, 1.0)
    assert (golden_model("maf").defaults.steps, golden_model("maf").defaults.cfg_scale) == (250, 7.0)
    infos: list[StepInfo] = []
    generate_diffusion_cond(
        turbo, conditioning={"text_prompt": "rain"}, seed=1, device="cpu", callback=infos.append
    )
    assert [info.step for info in infos] == [1, 2, 3, 4]


def test_a_student_ignores_guidance(golden_model: Any) -> None:
    turbo = golden_model("turbo")
    arguments = {"conditioning": {"text_prompt": "rain"}, "seed": 1, "device": "cpu", "return_latents": True}
    assert torch.equal(
        generate_diffusion_cond(turbo, cfg_scale=6, **arguments), generate_diffusion_cond(turbo, **arguments)
    )


KEPT = torch.cat([torch.zeros(10), torch.ones(15), torch.zeros(15)])  # new sound from latent 10 to 25


@pytest.mark.parametrize("name", [n for n in SAMPLER_NAMES if n not in CANNOT_INPAINT])
def test_inpainting_keeps_what_lies_outside(name: str) -> None:
    init = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(9)) / 2
    result = run(name, 40, inpainting=Inpainting(init=init, mask=KEPT))
    outside = KEPT == 0
    assert relative_l2(result[..., outside], init[..., outside]) < 0.1
    assert relative_l2(result[..., ~outside], init[..., ~outside]) > 0.5


@pytest.mark.parametrize("few", [False, True])
def test_rectified_flow_inpainting_is_exact_outside(few: bool) -> None:
    noise = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(8))
    init = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(9))

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        return x * 0.3

    keep = Inpainting(init=init, mask=KEPT)
    if few:
        random = RandomNumbers.from_seed(1)
        result = sample_few_steps(velocity, noise, steps=4, random=random, inpainting=keep)
    else:
        result = sample_euler(velocity, noise, steps=4, inpainting=keep)
    outside = KEPT == 0
    assert_close_l2(result[..., outside], init[..., outside], 1e-6)
    assert relative_l2(result[..., ~outside], init[..., ~outside]) > 0.5


def test_euler_follows_a_straight_line_exactly() -> None:
    clean, noise = torch.randn(2, 1, 3, 40).unbind(0)
    result = sample_euler(lambda x, t: noise - clean, noise, steps=3)
    assert_close_l2(result, clean, 1e-5)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"maskstart": 80, "maskend": 20}, "maskstart is 80 %, maskend 20 %"),
        ({"maskstart": -1}, r"maskstart must lie in \[0, 100\], got -1"),
        ({"marination": 2}, "marination must lie in"),
        ({"maskstart": 10, "maskend": 12, "softnessL": 50}, "longer than the masked"),
        ({"start": 3}, "Unknown mask_args: start"),
        ({"maskend": float("nan")}, "maskend must lie in"),
    ],
)
def test_senseless_masks_are_refused(mask: dict[str, float], message: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(
            golden_model("base"),
            steps=2,
            conditioning={"text_prompt": "rain"},
            init_audio=(8000, tone(2, 8000, 440)),
            mask_args=mask,
            device="cpu",
        )


@pytest.mark.parametrize("name", CANNOT_INPAINT)
def test_some_samplers_cannot_inpaint(name: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match="cannot keep parts of the sound"):
        generate_diffusion_cond(
            golden_model("base"),
            steps=2,
            conditioning={"text_prompt": "rain"},
            init_audio=(8000, tone(2, 8000, 440)),
            mask_args={"maskend": 50},
            sampler_type=name,
            device="cpu",
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": -3}, "steps must be a whole number of at least 1, got -3"),
        ({"cfg_scale": math.nan}, r"cfg \(cfg_scale\) must be a number"),
        ({"batch_size": 0}, r"batch \(batch_size\) must be a whole number of at least 1"),
        ({"batch_size": 3, "conditioning": [{}, {}]}, "2 items for a batch of 3"),
        ({"conditioning": None}, "nothing to generate from"),
        ({"sample_rate": 44100}, "makes sound at 8000 Hz, not 44100"),
        ({"sample_size": 100}, "shorter than one latent of 512 samples"),
        ({"sampler_typ": "k-heun"}, "Unknown arguments: sampler_typ"),
        ({"rho": -1}, "rho must be a number above 0"),
        ({"scale_phi": math.nan}, r"guidance_rescale \(scale_phi\) must be from 0"),
        ({"sigma_max": "5"}, "sigma_max must be a number above 0"),
        ({"sample_size": 51200.0}, "sample_size must be a whole number"),
        ({"seed": 2**64}, "seed must be a whole number from 0"),
        ({"seed": -5}, "seed must be a whole number from 0"),
        ({"seed": 1.5}, "seed must be a whole number from 0"),
        ({"device": "gpu"}, "'gpu' is not a device"),
        ({"device": "xpu"}, "not supported"),
        ({"conditioning": ["rain"]}, "conditioning must be a dict or a list of dicts"),
        (
            {"conditioning": {"prompt": "rain"}},
            "Unknown conditioning keys: prompt. This model accepts video_prompt, text_prompt",
        ),
        ({"init_audio": tone(1, 8000, 440)}, r"init_audio must be \(sample rate, waveform\)"),
        ({"init_audio": (8000, tone(1, 8000, 440)), "init_noise_level": 0.1}, "init_noise_level is 0.1"),
        ({"init_audio": (8000, tone(1, 8000, 440)), "init_noise_level": "x"}, "init_noise_level must be"),
        ({"conditioning": {"text_prompt": 3}}, "text_prompt is of type int. It must be a string"),
        ({"conditioning": {"audio_prompt": torch.zeros(5, 10)}}, r"audio_prompt has shape \(5, 10\)"),
        (
            {"conditioning": {"audio_prompt": torch.full((2, 10), math.nan)}},
            "audio_prompt contains NaN",
        ),
        ({"conditioning": {"video_prompt": {"frames": 1}}}, "has no video_tensors"),
        (
            {"conditioning": {"video_prompt": {"video_tensors": torch.zeros(1, 5, 3, 8, 8)}}},
            "video_tensors has shape",
        ),
        ({"conditioning_tensors": {"text_prompt": torch.zeros(1, 3, 9)}}, "conditioning_tensors: "),
        ({"mask_args": {}}, "there is no init_audio"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(
    arguments: dict[str, Any], message: str, golden_model: Any
) -> None:
    wanted = {"steps": 2, "conditioning": {"text_prompt": "rain"}, "device": "cpu", **arguments}
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(golden_model("base"), **wanted)


def test_init_audio_in_the_other_order(golden_model: Any) -> None:
    wave = tone(6, 8000, 440)
    arguments = {"steps": 2, "conditioning": {}, "seed": 1, "device": "cpu", "init_noise_level": 3.0}
    first, second = (
        generate_diffusion_cond(golden_model("base"), init_audio=order, **arguments)
        for order in ((8000, wave), (wave, 8000))
    )
    assert torch.equal(first, second)


def test_a_network_that_gives_nothing_ends_the_adaptive_sampler() -> None:
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


def test_a_mmdit_network_makes_no_less_than_its_own_length(golden_model: Any) -> None:
    with pytest.raises(InputError, match="makes at least 81920 samples"):
        generate_diffusion_cond(golden_model("mmdit"), conditioning={}, sample_size=40960, device="cpu")


def test_a_dit_network_makes_other_lengths(golden_model: Any) -> None:
    wave = generate_diffusion_cond(
        golden_model("base"), steps=2, conditioning={}, sample_size=40960, device="cpu"
    )
    assert wave.shape == (1, 2, 40960)


def test_precomputed_conditioning_gives_the_same(golden_model: Any) -> None:
    from audiox_ext.devices import DevicePlacement

    model = golden_model("base")
    prompt = [{"text_prompt": "rain"}]
    with torch.no_grad():
        tokens = model.encode_conditioning(prompt, DevicePlacement("cpu"), torch.Generator().manual_seed(0))
    masked = {name: (value, None) for name, value in tokens.items()}
    settings = {"steps": 3, "seed": 3, "device": "cpu", "return_latents": True, "sampler_type": "k-heun"}
    plain = generate_diffusion_cond(model, conditioning=prompt, **settings)
    assert torch.equal(generate_diffusion_cond(model, conditioning_tensors=tokens, **settings), plain)
    assert torch.equal(generate_diffusion_cond(model, conditioning_tensors=masked, **settings), plain)


def test_precomputed_conditioning_of_another_length_is_refused(golden_model: Any) -> None:
    names = ("video_prompt", "text_prompt", "audio_prompt")
    short, long = ({name: torch.zeros(1, count, 32) for name in names} for count in (5, 6))
    arguments = {"steps": 1, "device": "cpu", "return_latents": True}
    with pytest.raises(InputError, match="takes 384 tokens in all, got 15"):
        generate_diffusion_cond(golden_model("mmdit"), conditioning_tensors=short, **arguments)
    with pytest.raises(InputError, match="they must have the same number"):
        generate_diffusion_cond(
            golden_model("base"), conditioning_tensors=short, negative_conditioning_tensors=long, **arguments
        )


def test_a_dict_is_a_list_of_one_and_aliases_are_known(golden_model: Any) -> None:
    model = golden_model("maf")
    video, features = torch.full((1, 50, 3, 224, 224), 40.0), torch.randn(1, 240, 32)
    names = (
        {"video_tensors": video, "video_sync_frames": features},
        {"video": video, "sync_features": features},
    )
    settings = {"steps": 1, "seed": 3, "device": "cpu", "return_latents": True}
    first, second = (
        generate_diffusion_cond(model, conditioning={"video_prompt": n}, **settings) for n in names
    )
    third = generate_diffusion_cond(model, conditioning=[{"video_prompt": names[0]}], **settings)
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_a_short_audio_prompt_ends_where_the_prompt_ends() -> None:
    from audiox_ext.conditioning.prompts import parse_audio_prompt

    padded = parse_audio_prompt(torch.ones(1, 4), channels=2, length=10)
    assert padded.tolist() == [[0.0] * 6 + [1.0] * 4] * 2
    assert parse_audio_prompt(torch.arange(12.0), 2, 10)[0].tolist() == list(range(10))


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("kind", ["maf", "mmdit", "turbo"])
def test_half_precision_stays_close(kind: str, precision: Any, golden_model: Any) -> None:
    from golden_cases import golden_path

    half, _ = get_pretrained_model(golden_path(kind), accept_cc_by_nc=True, precision=precision)
    assert half.network.timestep_features.weight.dtype == torch.float32
    x, t = torch.randn(2, 4, 160, generator=torch.Generator().manual_seed(1)), torch.tensor([0.2, 0.9])
    context = torch.randn(2, 384, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = golden_model(kind).network
        expected_velocity = expected(x, t, expected.prepare_context(context))
        got = half.network(x, t, half.network.prepare_context(context))
    assert got.dtype == torch.float32
    assert_close_l2(got, expected_velocity, 2e-2)
