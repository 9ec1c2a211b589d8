"""Guidance in only a part of the run."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from golden_cases import assert_close_l2, relative_l2
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity

WANTED: dict[str, Any] = {
    "steps": 8,
    "cfg_scale": 4.0,
    "conditioning": {"text_prompt": "rain"},
    "seed": 3,
    "device": "cpu",
    "return_latents": True,
}


def counted(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many items each pass of the network had."""
    sizes: list[int] = []
    forward = model.network.forward

    def spy(x: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(x))
        return forward(x, *rest)

    monkeypatch.setattr(model.network, "forward", spy)
    return sizes


@pytest.mark.parametrize(
    ("interval", "sizes"),
    [
        ((0.0, 1.0), [2] * 8),
        ((0.25, 0.75), [1, 1, 2, 2, 2, 2, 1, 1]),
        ((0.3, 1.0), [1, 1, 1, 2, 2, 2, 2, 2]),
        ((0.0, 0.125), [2] + [1] * 7),
        ((0.9, 1.0), [1] * 8),  # no step begins there
    ],
)
@pytest.mark.parametrize("kind", ["maf", "mmdit"])
def test_steps_outside_are_made_by_one_pass(
    kind: str, interval: Any, sizes: list[int], golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = golden_model(kind)
    batch_sizes = counted(model, monkeypatch)
    generate_diffusion_cond(model, guidance_start=interval[0], guidance_end=interval[1], **WANTED)
    assert batch_sizes == sizes


def test_the_same_with_rectified_flow(golden_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_model("turbo")
    monkeypatch.setattr(model, "config", dataclasses.replace(model.config, few_step_count=None))
    batch_sizes = counted(model, monkeypatch)
    generate_diffusion_cond(model, guidance_start=0.25, guidance_end=0.5, **WANTED)
    assert batch_sizes == [1, 1, 2, 2, 1, 1, 1, 1]


def test_samplers_of_two_calls_are_decided_by_the_noise(
    golden_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch_sizes = counted(golden_model("maf"), monkeypatch)
    generate_diffusion_cond(
        golden_model("maf"), guidance_start=0.5, guidance_end=1.0, sampler_type="k-heun", **WANTED
    )
    # Step 4 is the first with guidance; step 3 looks ahead to its noise.
    assert batch_sizes == [1, 1] * 3 + [1, 2] + [2, 2] * 3 + [2]


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("kind", ["maf", "mmdit"])
@torch.no_grad()
def test_outside_it_is_the_conditional_prediction(kind: str, negative: bool, golden_model: Any) -> None:
    network = golden_model(kind).network
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 160, generator=generator)
    context, other = torch.randn(2, 2, 384, 32, generator=generator).unbind(0)
    against = other if negative else None
    guided = GuidedVelocity(network, context, against, Guidance(scale=5.0, times=(0.25, 0.75)))
    plain = GuidedVelocity(network, context)
    always = GuidedVelocity(network, context, against, Guidance(scale=5.0))
    for time, expected in ((0.25, plain), (0.5, always), (0.75, always), (0.875, plain)):
        t = torch.full((2,), time)
        assert torch.equal(guided(x, t), expected(x, t)), time


@torch.no_grad()
def test_the_context_of_the_conditional_alone_is_not_rebuilt(golden_model: Any) -> None:
    for kind in ("maf", "mmdit"):
        context = torch.randn(1, 384, 32, generator=torch.Generator().manual_seed(1))
        guidance = Guidance(scale=5.0, times=(0.2, 0.8))
        guided = GuidedVelocity(golden_model(kind).network, context, context + 1, guidance)
        if kind == "maf":
            whole, part = guided.context.keys_values[0][0], guided.conditional.keys_values[0][0]
        else:
            whole, part = guided.context.modulations[0].shift1, guided.conditional.modulations[0].shift1
        assert len(part) == 1
        assert len(whole) == 2
        assert part.data_ptr() == whole.data_ptr()


@torch.no_grad()
def test_merged_tokens_work_too(golden_model: Any) -> None:
    """The negative context has fewer distinct tokens than the other, or more."""
    generator = torch.Generator().manual_seed(1)
    x, t = torch.randn(1, 4, 160, generator=generator), torch.full((1,), 0.5)
    network = golden_model("maf").network
    context, other = torch.randn(2, 1, 384, 32, generator=generator).unbind(0)
    context[:, 100:300] = context[:, 100:101]
    other[:, 50:380] = other[:, 50:51]
    for positive, negative in ((context, other), (other, context)):
        guided = GuidedVelocity(network, positive, negative, Guidance(scale=5.0, times=(0.75, 1.0)))
        assert_close_l2(guided(x, t), GuidedVelocity(network, positive)(x, t), 1e-6)


def test_windows_work_too(golden_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = golden_model("maf")
    batch_sizes = counted(model, monkeypatch)
    arguments = WANTED | {"steps": 4, "sample_size": 400 * 512, "window_batch": 8}
    long = generate_diffusion_cond(model, guidance_start=0.5, guidance_end=1.0, **arguments)
    windows = batch_sizes[0]
    assert windows > 1
    assert batch_sizes == [windows, windows, 2 * windows, 2 * windows]
    assert bool(torch.isfinite(long).all())


def test_the_whole_run_is_the_default_bit_for_bit(golden_model: Any) -> None:
    plain = generate_diffusion_cond(golden_model("maf"), **WANTED)
    whole = generate_diffusion_cond(golden_model("maf"), guidance_start=0, guidance_end=1, **WANTED)
    none = generate_diffusion_cond(golden_model("maf"), guidance_start=0.95, guidance_end=1.0, **WANTED)
    unguided = generate_diffusion_cond(golden_model("maf"), **WANTED | {"cfg_scale": 1.0})
    assert torch.equal(plain, whole)
    assert torch.equal(none, unguided)
    assert relative_l2(none, plain) > 0.01


@pytest.mark.parametrize(
    "interval",
    [
        (0.5, 0.5),
        (0.7, 0.2),
        (-0.1, 1.0),
        (0.0, 1.1),
        (0.0, None),
        (True, 1.0),
        ("a", 1.0),
        (float("nan"), 1.0),
    ],
)
def test_invalid_intervals_are_refused(interval: Any, golden_model: Any) -> None:
    with pytest.raises(InputError, match="both must be from 0 to 1, and the end must come after the start"):
        generate_diffusion_cond(
            golden_model("maf"), guidance_start=interval[0], guidance_end=interval[1], **WANTED
        )
