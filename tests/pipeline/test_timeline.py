"""Prompts that change with time: their text form, their weights, and the sound they make."""

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


def spans(text: str) -> list[tuple[float, float | None, str]]:
    return [(span.start, span.end, span.prompt) for span in timeline(text).spans]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0-4 rain on a roof", [(0, 4, "rain on a roof")]),
        (
            "0-4 rain on a roof\n4-9.5 thunder, close\n9.5-end music",
            [(0, 4, "rain on a roof"), (4, 9.5, "thunder, close"), (9.5, None, "music")],
        ),
        (
            "# scene\n\n 0 \u2013 1:30: rain\n1:30 - 1:02:03.5  wind\n",
            [(0, 90, "rain"), (90, 3723.5, "wind")],
        ),
        ("0:00-0:04 a\n0:04-END b: c-d", [(0, 4, "a"), (4, None, "b: c-d")]),
        ("0-4s a\n4s-5s b", [(0, 4, "a"), (4, 5, "b")]),
        ("0.02-4 a\n4.03-6 b\n5.98-7 c", [(0, 4.03, "a"), (4.03, 5.98, "b"), (5.98, 7, "c")]),
        ("0-end 8-bit game music", [(0, None, "8-bit game music")]),
    ],
)
def test_timelines_are_parsed(text: str, expected: Any) -> None:
    assert spans(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rain",
        "80-90 bpm techno",
        "8-bit game music",
        "2-3x faster rain",
        "rain\nthunder at 4-5 in the morning",
        "# 0-4 rain\nwind",
    ],
)
def test_ordinary_prompts_are_not_timelines(text: str) -> None:
    assert parse_timeline(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "0-4 a\nrain",
            r"line 2 \('rain'\): this line does not start with a valid span. Write one line per span",
        ),
        ("0-4 a\n\n4,5-6 b", r"line 3 \('4,5-6 b'\): this line does not start with a valid span"),
        ("0-4 a\n4-1:75 b", "line 2 .*1:75 is not a valid time"),
        ("0-4 a\n9-4 b", "line 2 .*it ends at 4 s but starts at 9 s"),
        ("0-4 a\n4-4 b", "line 2 .*it ends at 4 s but starts at 4 s"),
        ("0-4 a\n4-4.02 b", "line 2 .*it is 0.02 s long"),
        ("0-4\n4-5 b", "line 1 .*the prompt is missing"),
        ("0-4 a\n4.2-5 b", "line 2 .*from 4 to 4.2 s there is no prompt"),
        ("0-4 a\n3.8-5 b", "line 2 .*it starts at 3.8 s, but line 1 ends at 4 s"),
        ("0-4 a\n4-8 b\n2-3 c", "line 3 .*it starts before line 2. Sort the lines by time"),
        ("2-4 a\n4-5 b", "line 1 .*the first span starts at 2 s"),
        (
            "0-inf rain",
            r"line 1 \('0-inf rain'\): this line does not start with a valid span. Write one line per span",
        ),
        ("0-1e400 rain", "line 1 .*: this line does not start with a valid span. Write one line"),
        ("0-4 a\n4-infinity b", "line 2 .*: this line does not start with a valid span. Write one line"),
        (
            f"0-4 a\n4-{'9' * 400} b",
            "line 2 .*: 9{400} is after the latest possible time, 86400 s. Write one line",
        ),
        ("0-86401 a", "line 1 .*: 86401 is after the latest possible time, 86400 s"),
        ("0-25:00:00 a", "line 1 .*: 25:00:00 is after the latest possible time, 86400 s"),
        ("0-end a\n4-5 b", "line 1 .*only the last span may end at `end`, but line 2 follows"),
    ],
)
def test_errors_name_their_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_timeline(text)


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


def test_prompts_of_several_lines_need_not_be_timelines() -> None:
    assert parse_timeline("techno\n120-130 bpm") is None
    assert parse_timeline("a song\n1-2-3 count in\nloud") is None


def test_errors_of_a_timeline_with_a_track_do_not_mention_the_duration() -> None:
    for text in ("0-4 a\n4-20 b", "0-4 a\n4-6 b"):
        with pytest.raises(InputError, match=r"the extended track is 13 s long") as error:
            timeline(text).check(13, of_track=True)
        assert "duration" not in str(error.value)
