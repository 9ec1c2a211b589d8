"""Samplers from outside the engine, and the engine's handling of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from golden_cases import assert_close_l2, relative_l2, tone
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.pipeline.make_audio import make_audio
from audiox_ext.sampling.external import SamplerExtra

WANTED: dict[str, Any] = {
    "steps": 6,
    "cfg_scale": 3.0,
    "conditioning": {"text_prompt": "rain"},
    "seed": 3,
    "device": "cpu",
    "return_latents": True,
}


def heun(denoise: Any, x: Tensor, sigmas: Tensor, extra: SamplerExtra) -> Tensor:
    """The algorithm of k-heun, written for denoisers that take one sigma per batch item."""
    every = torch.ones(x.shape[0])
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma * every)
        extra.report(float(sigma), denoised)
        slope, step = (x - denoised) / sigma, sigma_next - sigma
        ahead = x + slope * step
        if sigma_next > 0:
            slope_ahead = (ahead - denoise(ahead, sigma_next * every)) / sigma_next
            ahead = x + (slope + slope_ahead) / 2 * step
        x = ahead
    return x


def ancestral(denoise: Any, x: Tensor, sigmas: Tensor, extra: SamplerExtra) -> Tensor:
    """Replace the latents at each step by new noise from the given seed."""
    generator = torch.Generator().manual_seed(extra.seed)
    for sigma, sigma_next in pairwise(sigmas):
        denoised = denoise(x, sigma)
        extra.report(float(sigma), denoised)
        x = denoised + torch.randn(x.shape, generator=generator) * sigma_next
    return x


def make(model: Any, **more: Any) -> Tensor:
    return generate_diffusion_cond(model, **WANTED | more)


def test_the_same_algorithm_gives_the_same_sound(golden_model: Any) -> None:
    model = golden_model("maf")
    steps: list[tuple[int, int]] = []
    result = make(model, custom_sampler=heun, callback=lambda info: steps.append((info.step, info.steps)))
    assert_close_l2(result, make(model, sampler_type="k-heun"), 1e-6)
    assert steps == [(i, 6) for i in range(1, 7)]


def test_its_noise_follows_from_the_seed(golden_model: Any) -> None:
    model = golden_model("maf")
    assert torch.equal(make(model, custom_sampler=ancestral), make(model, custom_sampler=ancestral))
    other_seed = make(model, custom_sampler=ancestral, seed=4)
    assert relative_l2(make(model, custom_sampler=ancestral), other_seed) > 0.1
    seeds: list[int] = []

    def peek(denoise: Any, x: Tensor, sigmas: Tensor, extra: SamplerExtra) -> Tensor:
        seeds.append(extra.seed)
        return x

    make(model, custom_sampler=peek)
    make(model, custom_sampler=peek, seed=4)
    assert len(set(seeds)) == 2
    assert 3 not in seeds, "else it would draw the initial noise once more"


def test_items_with_their_own_seeds(golden_model: Any) -> None:
    model = golden_model("maf")
    batch = make(model, custom_sampler=heun, batch_size=2, seeds=[3, 9])
    assert_close_l2(batch[1:], make(model, custom_sampler=heun, seed=9), 1e-5)


@pytest.mark.parametrize("sampler", [heun, ancestral])
def test_it_keeps_latents_and_varies_sounds(sampler: Any, golden_model: Any) -> None:
    model = golden_model("maf")
    init = {"init_audio": (8000, tone(11, 8000, 440))}
    mask = torch.zeros(model.config.latent_count)
    mask[40:90] = 1
    inpainted = make(model, custom_sampler=sampler, latent_mask=mask, **init)
    original = make(model, custom_sampler=sampler, latent_mask=torch.zeros_like(mask), **init)
    assert torch.equal(inpainted[..., mask == 0], original[..., mask == 0])
    assert relative_l2(inpainted[..., mask == 1], original[..., mask == 1]) > 0.1
    # Half the strength is a mask of two values as well.
    half = make(model, custom_sampler=sampler, latent_mask=mask / 2, **init)
    assert torch.equal(half[..., mask == 0], original[..., mask == 0])
    near, far = (
        make(model, custom_sampler=sampler, init_noise_level=level, **init) for level in (0.5, 300.0)
    )
    assert relative_l2(near, original) < relative_l2(far, original)


def test_what_it_cannot_keep_is_refused(golden_model: Any) -> None:
    model = golden_model("maf")
    init = {"init_audio": (8000, tone(2, 8000, 440))}
    with pytest.raises(InputError, match="mask_args work only with this engine's own samplers"):
        make(model, custom_sampler=heun, mask_args={"maskend": 50}, **init)
    ramp = torch.linspace(0, 1, model.config.latent_count)
    with pytest.raises(InputError, match="changes all masked latents with one strength"):
        make(model, custom_sampler=heun, latent_mask=ramp, **init)


def test_windows_and_guidance_work_too(golden_model: Any) -> None:
    model, more = golden_model("maf"), {"sample_size": 400 * 512, "guidance_start": 0.5}
    external = make(model, custom_sampler=heun, **more)
    assert_close_l2(external, make(model, sampler_type="k-heun", **more), 1e-5)


def test_an_exception_in_the_callback_ends_it(golden_model: Any) -> None:
    class StoppedError(Exception):
        pass

    def stop(info: Any) -> None:
        if info.step == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        make(golden_model("maf"), custom_sampler=heun, callback=stop)


@pytest.mark.parametrize("outside", [{"custom_sampler": heun}, {"custom_sigmas": torch.tensor([1.0, 0.0])}])
def test_rectified_flow_refuses_it(outside: dict[str, Any], golden_model: Any) -> None:
    with pytest.raises(InputError, match="takes its own steps"):
        make(golden_model("turbo"), **outside)
    with pytest.raises(InputError, match="takes its own steps"):
        make_audio(golden_model("turbo"), audio_request(prompt="rain", **outside), device="cpu")


def test_a_sampler_with_a_wrong_result_is_named(golden_model: Any) -> None:
    with pytest.raises(InputError, match="custom_sampler returned NoneType"):
        make(golden_model("maf"), custom_sampler=lambda *arguments: None)
