"""Generating with a model: seeds, batches, callbacks, defaults and precision."""

from __future__ import annotations

import random
from typing import Any

import numpy
import pytest
import torch
from golden_cases import assert_close_l2, relative_l2
from torch import Tensor

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.denoiser import StepInfo


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
    """Its mask is drawn before the Brownian path, so that a seed gives the published result."""
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
def test_a_callback_that_raises_ends_the_run_and_the_model_stays_usable(kind: str, golden_model: Any) -> None:
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
        half_velocity = half.network(x, t, half.network.prepare_context(context))
    assert half_velocity.dtype == torch.float32
    assert_close_l2(half_velocity, expected_velocity, 2e-2)
