"""Prompts that change with time: their weights, and the sound they make."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from golden_cases import frames, relative_l2, sync
from torch import Tensor

from audiox_ext.devices import DevicePlacement
from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.pipeline.timeline import Timeline, parse_timeline
from audiox_ext.pipeline.window_contexts import window_pieces
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity
from audiox_ext.sampling.windows import WindowedVelocity, plan_windows


def timeline(text: str) -> Timeline:
    parsed = parse_timeline(text)
    assert parsed is not None
    return parsed


def test_a_timeline_is_as_long_as_the_sound() -> None:
    assert timeline("0-4 a\n4-10 b").seconds == 10
    assert timeline("0-4 a\n4-end b").seconds is None
    for seconds in (9.96, 10, 10.04):
        assert timeline("0-4 a\n4-10 b").check(seconds).seconds is None
    with pytest.raises(InputError, match=r"line 2 \('4-10 b'\): the sound is 9.5 s long"):
        timeline("0-4 a\n4-10 b").check(9.5)
    with pytest.raises(InputError, match=r"line 2 .*goes past its end"):
        timeline("0-4 a\n4-end b").check(4)
    early = r"ends at 10 s, but the sound is 12 s long.*`4-end b`.*duration to 10 s"
    with pytest.raises(InputError, match=early):
        timeline("0-4 a\n4-10 b").check(12)
    part = timeline("0-4 a\n4-10 b\n10-end c").from_second(6.0)
    assert [(s.start, s.end, s.prompt) for s in part.spans] == [(0, 4, "b"), (4, None, "c")]
    assert part.check(3.0) == part  # the rest is another run's


def test_the_weights_of_spans() -> None:
    latent = 0.02
    weights = timeline("0-4 a\n4-4.4 b\n4.4-10 c").check(10).weights(500, latent)
    assert float((weights.sum(dim=0) - 1).abs().max()) <= 1e-12
    assert float(weights.min()) >= 0
    assert float(weights[1].max()) == 1
    times = (torch.arange(500) + 0.5) * latent
    # Half of the shorter span, 0.2 s, around each border.
    assert torch.equal(weights[0] > 0, times < 4.1)
    assert torch.equal(weights[1] > 0, (times > 3.9) & (times < 4.5))
    rise = torch.sin(((times - 4) / 0.2 + 0.5).clamp(0, 1).double() * math.pi / 2) ** 2
    assert float((weights[0] - (1 - rise)).abs().max()) < 1e-5
    long = timeline("0-4 a\n4-end b").weights(500, latent)
    assert torch.equal(long[1] > 0, times > 3.75)
    assert torch.equal(long[0] > 0, times < 4.25)


ARGUMENTS: dict[str, Any] = {"steps": 2, "seed": 3, "device": "cpu", "return_latents": True}


def sound_of(model: Any, prompt: Any, **changes: Any) -> Tensor:
    return generate_diffusion_cond(model, conditioning={"text_prompt": prompt}, **ARGUMENTS | changes)


@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_equal_spans_are_one_prompt(kind: str, golden_model: Any) -> None:
    """Also if conditioners draw random numbers, within a window and across several."""
    model, changed = golden_model(kind), "0-5 rain\n5-end rain"
    for size in (None, 500 * 512):
        plain = sound_of(model, "rain", sample_size=size)
        assert relative_l2(sound_of(model, timeline(changed), sample_size=size), plain) < 1e-5
        assert relative_l2(sound_of(model, timeline("0-5 rain\n5-end dog"), sample_size=size), plain) > 1e-3


def test_a_timeline_of_one_span_is_the_prompt_bit_for_bit(golden_model: Any) -> None:
    assert torch.equal(
        sound_of(golden_model("maf"), timeline("0-end rain")), sound_of(golden_model("maf"), "rain")
    )


@torch.no_grad()
def test_spans_blend_as_by_hand(golden_model: Any) -> None:
    model = golden_model("maf")
    n = model.config.latent_count
    generator = torch.Generator().manual_seed(0)
    x, t = torch.randn(1, model.config.network.io_channels, n, generator=generator), torch.full((1,), 0.5)
    first, second = (
        torch.randn(1, 40, model.config.network.cond_token_dim, generator=generator) for _ in range(2)
    )
    weights = timeline("0-4 a\n4-end b").weights(n, 512 / model.sample_rate)
    pieces = plan_windows(n, n).pieces(weights)
    velocity = WindowedVelocity(
        model.network,
        pieces,
        [first, second],
        guidance=Guidance(scale=3.0),
        placement=DevicePlacement("cpu"),
    )
    # In one batch, like the pieces: rounding depends on the batch size.
    both = GuidedVelocity(model.network, torch.cat([first, second]), guidance=Guidance(scale=3.0))
    velocities = both(torch.cat([x, x]), torch.cat([t, t])).split(1)
    by_hand = sum(w.float() * v for w, v in zip(weights, velocities, strict=True))
    assert relative_l2(velocity(x, t), by_hand) < 1e-6


def test_only_audible_spans_cost_a_pass(golden_model: Any) -> None:
    model = golden_model("maf")
    text = timeline("0-4 a\n4-12 b\n12-end c")
    plan = plan_windows(400, model.config.latent_count)
    pieces = window_pieces(model, plan, {"text_prompt": text}, None)
    latent = 512 / model.sample_rate
    for piece in pieces:
        begin, end = piece.start * latent, (piece.start + plan.length) * latent
        span = text.spans[piece.span]
        assert span.start - 0.25 < end
        assert (span.end or math.inf) + 0.25 > begin
    assert len(pieces) < 3 * len(plan.starts)
    coverage = torch.zeros(400)
    for piece in pieces:
        coverage[piece.start : piece.start + plan.length] += piece.weights
    assert float((coverage - 1).abs().max()) < 1e-6


def test_texts_are_encoded_once_per_span_and_videos_once_per_window(
    golden_model: Any, monkeypatch: Any
) -> None:
    model = golden_model("maf")
    model.prompt_cache.clear()  # other tests share the model
    prompts_by_name: dict[str, list[Any]] = {name: [] for name in model.config.conditioners}
    for name, module in model.conditioner.conditioners.items():

        def spy(prompts: Any, *rest: Any, name: str = name, forward: Any = module.forward) -> Tensor:
            prompts_by_name[name].append(prompts)
            return forward(prompts, *rest)

        monkeypatch.setattr(module, "forward", spy)
    size = 400 * 512
    count = len(plan_windows(400, model.config.latent_count).starts)
    video = {"video_tensors": frames(130, 3)[None], "video_sync_frames": sync(2).repeat(1, 3, 1)}
    conditioning = {"text_prompt": timeline("0-9 rain\n9-14 dog\n14-end rain"), "video_prompt": video}
    generate_diffusion_cond(
        model, conditioning=conditioning, sample_size=size, batch_size=2, cfg_scale=1.0, **ARGUMENTS
    )
    assert [prompts[0] for prompts in prompts_by_name["text_prompt"]] == ["rain", "dog"]
    assert len(prompts_by_name["video_prompt"]) == len(prompts_by_name["audio_prompt"]) == count


def test_a_timeline_that_does_not_fit_is_explained(golden_model: Any) -> None:
    model, two = golden_model("maf"), timeline("0-4 a\n4-end b")
    short = timeline("0-4 a\n4-6 b")
    with pytest.raises(InputError, match=r"ends at 6 s, but the sound is 10.24 s long"):
        sound_of(model, short)
    items = [{"text_prompt": two}, {"text_prompt": "rain"}]
    with pytest.raises(InputError, match="applies to all items of a batch"):
        generate_diffusion_cond(model, conditioning=items, batch_size=2, **ARGUMENTS)
    with pytest.raises(InputError, match="A negative prompt holds for the whole sound"):
        sound_of(model, "rain", negative_conditioning={"text_prompt": two})


def test_errors_of_a_timeline_with_a_track_do_not_mention_the_duration() -> None:
    for text in ("0-4 a\n4-20 b", "0-4 a\n4-6 b"):
        with pytest.raises(InputError, match=r"the extended track is 13 s long") as error:
            timeline(text).check(13, of_track=True)
        assert "duration" not in str(error.value)
