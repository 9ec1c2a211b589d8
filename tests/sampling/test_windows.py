"""Sound of any length: windows, their contexts, their blend and the decode."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from golden_cases import assert_close_l2, relative_l2
from torch import Tensor
from window_inputs import context_like, latents_like, native

from audiox_ext.devices import DevicePlacement
from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.pipeline.make_audio import make_audio
from audiox_ext.pipeline.synthesis import decode_latents
from audiox_ext.sampling import windows as windows_module
from audiox_ext.sampling.denoiser import StepInfo
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity
from audiox_ext.sampling.windows import WindowedVelocity, plan_windows

KINDS = ("base", "maf", "mmdit", "turbo")
CPU = DevicePlacement("cpu")


@pytest.mark.parametrize("crossfade", ["cosine", "linear"])
@pytest.mark.parametrize("total", [7, 160, 161, 200, 279, 281, 400, 12919])
def test_weights_sum_to_one_everywhere(total: int, crossfade: Any) -> None:
    for overlap in (None, 1, 33, 80):
        plan = plan_windows(total, 160, overlap)
        assert plan.starts[0] == 0
        assert plan.latent_count == total
        assert plan.length == min(total, 160)
        overlaps = [a + plan.length - b for a, b in zip(plan.starts, plan.starts[1:], strict=False)]
        assert all(n >= (overlap or 40) for n in overlaps)
        weights, summed = plan.weights(crossfade), torch.zeros(total)
        for start, weight in zip(plan.starts, weights, strict=True):
            summed[start : start + plan.length] += weight
        assert float((summed - 1).abs().max()) <= 2e-7
        assert float(weights.min()) > 0


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_one_window_equals_the_plain_network_exactly(kind: str, golden_model: Any) -> None:
    model = golden_model(kind)
    x, t, context = latents_like(model, 2, native(model)), torch.full((2,), 0.6), context_like(model, 2, 1)
    plan = plan_windows(native(model), native(model))
    guidance = Guidance(scale=3.0, rescale=0.5)
    windowed = WindowedVelocity(model.network, plan.pieces(), [context], guidance=guidance, placement=CPU)(
        x, t
    )
    assert torch.equal(windowed, GuidedVelocity(model.network, context, None, guidance)(x, t))


@pytest.mark.parametrize("kind", KINDS)
def test_the_native_length_takes_the_plain_path(kind: str, golden_model: Any, monkeypatch: Any) -> None:
    """The same sound, bit for bit, as the guided network alone makes."""
    model = golden_model(kind)
    arguments: dict[str, Any] = {"steps": 3, "seed": 5, "device": "cpu", "conditioning": {"text_prompt": "a"}}
    windowed = generate_diffusion_cond(model, **arguments)
    plain = []

    def alone(
        network: Any, pieces: Any, contexts: Any, negatives: Any, guidance: Guidance, **more: Any
    ) -> Any:
        plain.append(len(contexts))
        return GuidedVelocity(network, contexts[0], negatives, guidance)

    monkeypatch.setattr("audiox_ext.pipeline.synthesis.WindowedVelocity", alone)
    assert torch.equal(generate_diffusion_cond(model, **arguments), windowed)
    assert plain == [1]


@pytest.mark.parametrize("at_once", [1, 2, 3])
@pytest.mark.parametrize("kind", ["maf", "mmdit"])
@torch.no_grad()
def test_two_windows_blend_as_by_hand(kind: str, at_once: int, golden_model: Any) -> None:
    model, batch = golden_model(kind), 2
    n, overlap = native(model), 60
    total = 2 * n - overlap
    x, t, context = (
        latents_like(model, batch, total),
        torch.full((batch,), 0.4),
        context_like(model, batch, 2),
    )
    # In batches like those of the windows: rounding depends on the batch size.
    together = min(at_once, 2)
    guided = GuidedVelocity(model.network, torch.cat([context] * together), guidance=Guidance(scale=4.0))
    parts = torch.cat([x[..., :n], x[..., n - overlap :]]).split(batch * together)
    first, second = torch.cat([guided(part, t.repeat(together)) for part in parts]).split(batch)
    rise = torch.sin((torch.arange(overlap) + 0.5) / overlap * math.pi / 2) ** 2
    middle = first[..., n - overlap :] * (1 - rise) + second[..., :overlap] * rise
    by_hand = torch.cat([first[..., : n - overlap], middle, second[..., overlap:]], dim=-1)
    plan = plan_windows(total, n, overlap)
    assert plan.starts == (0, n - overlap)
    for limit in (2**30, 0):  # prepared contexts cached, then prepared again for each step
        velocity = WindowedVelocity(
            model.network,
            plan.pieces(),
            [context, context],
            guidance=Guidance(scale=4.0),
            placement=CPU,
            window_batch=at_once,
            prepared_limit=limit,
        )
        assert velocity.keeps_prepared == bool(limit)
        for _ in range(2):
            assert_close_l2(velocity(x, t), by_hand, 1e-6)


@torch.no_grad()
def test_each_window_has_its_own_context(golden_model: Any) -> None:
    model = golden_model("maf")
    n = native(model)
    x, t = latents_like(model, 1, 2 * n - 40), torch.full((1,), 0.4)
    contexts, negatives = ([context_like(model, 1, seed + i) for i in range(2)] for seed in (3, 8))
    velocity = WindowedVelocity(
        model.network,
        plan_windows(2 * n - 40, n).pieces(),
        contexts,
        negatives,
        Guidance(scale=2.0),
        placement=CPU,
    )
    v = velocity(x, t)
    for index, where in ((0, slice(0, n - 40)), (1, slice(n, 2 * n - 40))):
        piece = x[..., :n] if index == 0 else x[..., n - 40 :]
        alone = GuidedVelocity(model.network, contexts[index], negatives[index], Guidance(scale=2.0))(
            piece, t
        )
        part = alone[..., : n - 40] if index == 0 else alone[..., 40:]
        assert_close_l2(v[..., where], part, 1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_chunked_decode_equals_whole_decode(kind: str, golden_model: Any) -> None:
    model = golden_model(kind)
    latents = latents_like(model, 2, 2 * native(model) + 7)
    latents = latents[:, : model.config.autoencoder.latent_dim]
    with torch.no_grad():
        whole = model.pretransform.decode(latents)
        chunked = decode_latents(model, latents, CPU)
    assert_close_l2(chunked, whole, 1e-4)
    assert float((chunked - whole).abs().max()) <= 1e-4


@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_equal_seeds_give_equal_long_sounds(kind: str, golden_model: Any) -> None:
    model, steps = golden_model(kind), []
    size = round(2.2 * native(model)) * model.config.autoencoder.downsampling_ratio

    def make(seed: int, **more: Any) -> Tensor:
        return generate_diffusion_cond(
            model,
            steps=2,
            seed=seed,
            sample_size=size,
            conditioning={"text_prompt": "rain"},
            device="cpu",
            callback=lambda info: steps.append((info.step, info.denoised.shape[-1])),
            **more,
        )

    first = make(3)
    assert first.shape == (1, 2, size)
    assert steps == [(1, round(2.2 * native(model))), (2, round(2.2 * native(model)))]
    assert torch.equal(first, make(3))
    assert relative_l2(make(4), first) > 0.1
    assert relative_l2(make(3, window_batch=1), first) < 1e-4  # the batch size changes only the rounding
    assert relative_l2(make(3, window_overlap=5.0), first) > 1e-4


def test_every_sampler_makes_long_sounds(golden_model: Any) -> None:
    from audiox_ext.config import SAMPLER_NAMES

    model = golden_model("maf")
    for name in SAMPLER_NAMES:
        latents = generate_diffusion_cond(
            model,
            steps=2,
            seed=1,
            sample_size=200 * 512,
            conditioning={},
            device="cpu",
            sampler_type=name,
            cfg_scale=1.0,
            return_latents=True,
        )
        assert latents.shape[-1] == 200
        assert bool(torch.isfinite(latents).all())


def test_windows_of_one_context_share_its_preparation(golden_model: Any, monkeypatch: Any) -> None:
    """The base model encodes a missing audio prompt as an empty one, so text alone is one context."""
    model, prepared = golden_model("base"), []
    prepare = model.network.prepare_context

    def spy(context: Tensor, *rest: Any, **more: Any) -> Any:
        prepared.append(len(context))
        return prepare(context, *rest, **more)

    monkeypatch.setattr(model.network, "prepare_context", spy)
    arguments: dict[str, Any] = {"steps": 2, "seed": 1, "device": "cpu", "return_latents": True}
    size = 600 * 512
    generate_diffusion_cond(
        model, conditioning={"text_prompt": "a"}, sample_size=size, window_batch=1, **arguments
    )
    assert prepared == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_overlap": 0}, "window_overlap must be a number above 0, up to 600, got 0"),
        ({"window_overlap": math.nan}, "window_overlap must be a number"),
        (
            {"window_overlap": 6.0, "sample_size": 300 * 512},
            r"window_overlap is 6 s: windows of this model overlap by 0.06 to 5.12 s",
        ),
        ({"window_overlap": 0.01, "sample_size": 300 * 512}, "window_overlap is 0.01 s"),
        ({"window_batch": 0}, "window_batch must be a whole number from 1 to 1024, got 0"),
        ({"window_batch": 1.5}, "window_batch must be a whole number"),
        ({"sample_size": 100 * 512}, "makes at least 81920 samples"),
    ],
)
def test_bad_windows_are_explained(arguments: dict[str, Any], message: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(golden_model("mmdit"), conditioning={}, device="cpu", **arguments)


def test_an_exception_in_the_middle_ends_a_long_run(golden_model: Any) -> None:
    def stop(info: StepInfo) -> None:
        raise KeyboardInterrupt

    request = audio_request(prompt="a", duration=20.0, steps=1)
    with pytest.raises(KeyboardInterrupt):
        make_audio(golden_model("turbo"), request, device="cpu", callback=stop)
    assert make_audio(golden_model("turbo"), request, device="cpu").shape == (1, 2, 160000)


def test_the_default_window_batch_is_documented() -> None:
    from audiox_ext.pipeline.settings import GenerationSettings

    assert f"default {windows_module.DEFAULT_BATCH}" in (GenerationSettings.__doc__ or "")
