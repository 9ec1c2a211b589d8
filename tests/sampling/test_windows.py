"""Sound of any length: windows, their contexts, their blend and the decode."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from golden_cases import assert_close_l2, frames, golden_path, relative_l2, sync, tone
from torch import Tensor

from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.conditioning.video_features import VideoFeatures, extract_video_features, seconds_to_cover
from audiox_ext.devices import DevicePlacement
from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence, TimeRange
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.pipeline.make_audio import make_audio
from audiox_ext.pipeline.synthesis import decode_latents
from audiox_ext.pipeline.window_prompts import cut_to_window
from audiox_ext.sampling import windows as windows_module
from audiox_ext.sampling.denoiser import StepInfo
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity
from audiox_ext.sampling.windows import WindowedVelocity, plan_windows

KINDS = ("base", "maf", "mmdit", "turbo")
CPU = DevicePlacement("cpu")


def native(model: Any) -> int:
    return model.config.latent_count


def context_like(model: Any, batch: int, seed: int) -> Tensor:
    tokens = 384 if model.config.network.type == "mmdit" else 40
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, model.config.network.cond_token_dim, generator=generator)


def latents_like(model: Any, batch: int, length: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, model.config.network.io_channels, length, generator=generator)


@pytest.mark.parametrize("crossfade", ["cosine", "linear"])
@pytest.mark.parametrize("total", [7, 160, 161, 200, 279, 281, 400, 12919])
def test_weights_sum_to_one_everywhere(total: int, crossfade: Any) -> None:
    for overlap in (None, 1, 33, 80):
        plan = plan_windows(total, 160, overlap)
        assert plan.starts[0] == 0
        assert plan.latent_count == total
        assert plan.length == min(total, 160)
        shared = [a + plan.length - b for a, b in zip(plan.starts, plan.starts[1:], strict=False)]
        assert all(n >= (overlap or 40) for n in shared)
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
    n, shared = native(model), 60
    total = 2 * n - shared
    x, t, context = (
        latents_like(model, batch, total),
        torch.full((batch,), 0.4),
        context_like(model, batch, 2),
    )
    # In batches like those of the windows: a product rounds otherwise in a batch of another size.
    together = min(at_once, 2)
    guided = GuidedVelocity(model.network, torch.cat([context] * together), guidance=Guidance(scale=4.0))
    parts = torch.cat([x[..., :n], x[..., n - shared :]]).split(batch * together)
    first, second = torch.cat([guided(part, t.repeat(together)) for part in parts]).split(batch)
    rise = torch.sin((torch.arange(shared) + 0.5) / shared * math.pi / 2) ** 2
    middle = first[..., n - shared :] * (1 - rise) + second[..., :shared] * rise
    by_hand = torch.cat([first[..., : n - shared], middle, second[..., shared:]], dim=-1)
    plan = plan_windows(total, n, shared)
    assert plan.starts == (0, n - shared)
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
    contexts, against = ([context_like(model, 1, seed + i) for i in range(2)] for seed in (3, 8))
    velocity = WindowedVelocity(
        model.network,
        plan_windows(2 * n - 40, n).pieces(),
        contexts,
        against,
        Guidance(scale=2.0),
        placement=CPU,
    )
    v = velocity(x, t)
    for index, where in ((0, slice(0, n - 40)), (1, slice(n, 2 * n - 40))):
        piece = x[..., :n] if index == 0 else x[..., n - 40 :]
        alone = GuidedVelocity(model.network, contexts[index], against[index], Guidance(scale=2.0))(piece, t)
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


def test_a_window_gets_the_video_and_sound_of_its_span(golden_model: Any) -> None:
    config = golden_model("maf").config
    numbers = torch.arange(300, dtype=torch.uint8).reshape(1, 300, 1, 1, 1).expand(1, 300, 3, 2, 2)
    segments = torch.arange(187.0).repeat_interleave(8).reshape(1, -1, 1).expand(1, -1, 32)
    sound = torch.arange(60.0 * 8000).expand(2, -1)
    item = {
        "text_prompt": "a",
        "video_prompt": {"video_tensors": numbers, "video_sync_frames": segments},
        "audio_prompt": sound,
    }
    cut = cut_to_window(item, config, 0.0)
    assert torch.equal(cut["video_prompt"]["video_tensors"], numbers[:, :50])
    assert torch.equal(cut["video_prompt"]["video_sync_frames"], segments[:, :240])
    for start in (7.37, 23.1, 48.9):
        cut = cut_to_window(item, config, start)
        video, timing = cut["video_prompt"]["video_tensors"], cut["video_prompt"]["video_sync_frames"]
        assert abs(float(video[0, 0, 0, 0, 0]) / 5 - start) <= 0.1 + 1e-6
        assert abs(float(timing[0, 0, 0]) * 0.32 - start) <= 0.16 + 1e-6
        assert (video.shape[1], timing.shape[1]) == (50, 240)
        assert float(cut["audio_prompt"][0, 0]) == round(start * 8000)
        assert cut["text_prompt"] is item["text_prompt"]
    late = cut_to_window(item, config, 58.0)
    assert late["video_prompt"]["video_tensors"][0, :, 0, 0, 0].tolist() == list(range(290 % 256, 300 % 256))
    assert torch.equal(late["video_prompt"]["video_sync_frames"][0, -1], segments[0, -1])
    assert torch.equal(late["audio_prompt"], sound[:, -80000:])
    # A video that has ended stands still; a short sound is an example for every window.
    short = {"video_prompt": {"video_tensors": numbers[:, :50]}, "audio_prompt": sound[:, :9000]}
    cut = cut_to_window(short, config, 30.0)
    assert cut["video_prompt"]["video_tensors"][0, :, 0, 0, 0].tolist() == [49]
    assert cut["audio_prompt"] is short["audio_prompt"]


def test_the_conditioners_see_each_windows_span(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("maf")
    prompts_by_name: dict[str, list[Any]] = {name: [] for name in model.config.conditioners}
    model.prompt_cache.clear()
    for name, module in model.conditioner.conditioners.items():

        def spy(prompts: Any, *rest: Any, name: str = name, forward: Any = module.forward) -> Tensor:
            prompts_by_name[name].append(prompts)
            return forward(prompts, *rest)

        monkeypatch.setattr(module, "forward", spy)
    pictures = frames(50, 3).repeat(3, 1, 1, 1)
    pictures = pictures[:130]  # 26 s
    features = VideoFeatures(frames=pictures, sync=sync(2).repeat(1, 3, 1), duration=26, fps=25)
    request = audio_request(prompt="rain", features=features, duration=26.0, steps=1, cfg=1.0, batch=2)
    result = make_audio(model, request, device="cpu")
    assert result.shape == (2, 2, 26 * 8000)
    starts = plan_windows(-(-26 * 8000 // 512), native(model)).starts
    assert len(prompts_by_name["text_prompt"]) == 1
    assert len(prompts_by_name["audio_prompt"]) == len(starts) == len(prompts_by_name["video_prompt"])
    for start, prompts in zip(starts, prompts_by_name["video_prompt"], strict=True):
        first = round(start * 512 / 8000 * 5)
        assert len(prompts) == 1  # equal items are encoded once
        assert torch.equal(prompts[0]["video_tensors"][0], pictures[first : first + 50])


@pytest.mark.parametrize(("kind", "times"), [("base", 1), ("maf", 3)])
def test_a_picture_is_encoded_once_for_a_minute(
    golden_model: Any, monkeypatch: Any, kind: str, times: int
) -> None:
    """Models with sync features encode the video again per window, while features last: here for two more."""
    model, encoded_prompts = golden_model(kind), []
    module = model.conditioner.conditioners["video_prompt"]
    forward = module.forward

    def spy(prompts: Any, *rest: Any) -> Tensor:
        encoded_prompts.append(prompts[0])
        return forward(prompts, *rest)

    monkeypatch.setattr(module, "forward", spy)
    features = VideoFeatures(frames=frames(50, 1)[:1], sync=sync(1), duration=0.04, fps=25)
    request = audio_request(prompt="0-30 wind\n30-end rain", features=features, duration=60.0, steps=1, cfg=1)
    make_audio(model, request, device="cpu")
    assert len(plan_windows(-(-60 * 8000 // 512), native(model)).starts) > 3
    assert len(encoded_prompts) == times


def test_what_is_not_cut_stays_the_same_object(golden_model: Any) -> None:
    config, cuts = golden_model("maf").config, {}
    item = {"video_prompt": {"video_tensors": frames(50, 1)[None], "video_sync_frames": sync(1)}}
    whole, *others = [
        cut_to_window(item, config, start, cuts)["video_prompt"] for start in (0.0, 5.0, 30.0, 40.0)
    ]
    assert whole is item["video_prompt"]
    assert others[0] is not others[1]
    assert others[1] is others[2]  # both are past the last frame


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
    assert relative_l2(make(3, window_batch=1), first) < 1e-4  # how many at once changes rounding only
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


def out_of_memory(model: Any, monkeypatch: Any, most: int) -> list[int]:
    """Lets the network fail for more than `most` items. Returns a list that records how many it was given."""
    sizes: list[int] = []
    forward = model.network.forward

    def limited(x: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(x))
        if len(x) > most:
            raise torch.OutOfMemoryError("no memory")
        return forward(x, *rest)

    monkeypatch.setattr(model.network, "forward", limited)
    return sizes


def test_out_of_memory_halves_the_windows_once(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    arguments: dict[str, Any] = {
        "seed": 1,
        "steps": 2,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
        "device": "cpu",
        "return_latents": True,
    }
    plain = generate_diffusion_cond(model, **arguments)
    sizes = out_of_memory(model, monkeypatch, most=2)
    assert relative_l2(generate_diffusion_cond(model, **arguments), plain) < 1e-4
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}
    out_of_memory(model, monkeypatch, most=1)
    with pytest.raises(InputError, match=r"Lower the batch or window_batch"):
        generate_diffusion_cond(model, **arguments)


def test_a_single_window_without_memory_gets_a_sentence_too(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    out_of_memory(model, monkeypatch, most=0)
    with pytest.raises(InputError, match=r"while the sound was made\. Lower the batch, load the model"):
        generate_diffusion_cond(model, steps=1, conditioning={"text_prompt": "a"}, device="cpu")


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("kind", ["base", "maf", "mmdit"])
def test_the_pair_in_two_passes(kind: str, negative: bool, golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model(kind)
    arguments: dict[str, Any] = {
        "seed": 1,
        "steps": 3,
        "cfg_scale": 5,
        "scale_phi": 0.5,
        "conditioning": {"text_prompt": "a"},
        "negative_conditioning": {"text_prompt": "b"} if negative else None,
        "batch_size": 2,
        "device": "cpu",
        "return_latents": True,
    }
    sizes = out_of_memory(model, monkeypatch, most=4)
    plain = generate_diffusion_cond(model, **arguments)
    assert set(sizes) == {4}
    sizes.clear()
    split = generate_diffusion_cond(model, split_guidance=True, **arguments)
    assert set(sizes) == {2}
    assert relative_l2(split, plain) < 1e-5
    # Running out of memory for the pair gives the same result.
    sizes = out_of_memory(model, monkeypatch, most=2)
    assert torch.equal(generate_diffusion_cond(model, **arguments), split)
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}
    out_of_memory(model, monkeypatch, most=1)
    with pytest.raises(InputError, match=r"made, also with guidance in two passes\. Lower the batch, load"):
        generate_diffusion_cond(model, **arguments)


def test_two_passes_are_one_pass(golden_model: Any) -> None:
    for kind in ("base", "maf", "mmdit"):
        network = golden_model(kind).network
        expected = read_tensors(golden_path(f"{kind}/cases.safetensors"))
        x, t, context, negative = (expected[f"net.{name}"] for name in ("x", "t", "context", "negative"))
        for other in (None, negative):
            with torch.no_grad():
                guidance = Guidance(scale=5, rescale=0.7)
                once = GuidedVelocity(network, context, other, guidance)(x, t)
                twice = GuidedVelocity(network, context, other, replace(guidance, split=True))(x, t)
            assert relative_l2(twice, once) < 1e-6


def test_long_sounds_without_memory_go_on_piece_by_piece_in_two_passes(
    golden_model: Any, monkeypatch: Any
) -> None:
    model = golden_model("maf")
    arguments: dict[str, Any] = {
        "seed": 1,
        "steps": 2,
        "cfg_scale": 3,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
        "device": "cpu",
        "return_latents": True,
    }
    plain = generate_diffusion_cond(model, **arguments)
    sizes = out_of_memory(model, monkeypatch, most=1)
    assert relative_l2(generate_diffusion_cond(model, **arguments), plain) < 1e-4
    assert sizes[:2] == [8, 4]
    assert set(sizes[2:]) == {1}


class Watched(DevicePlacement):
    """Records what is asked of it, and is cancelled at a given check."""

    def __init__(self, cancel_at: int = -1) -> None:
        super().__init__("cpu")
        self.checks, self.freed, self.cancel_at = 0, [], cancel_at

    def check_cancelled(self) -> None:
        self.checks += 1
        if self.checks == self.cancel_at:
            raise RuntimeError("interrupted")

    def free_memory(self, *, models: bool = False) -> None:
        self.freed.append(models)


def test_models_are_let_go_only_when_the_run_ends(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    arguments: dict[str, Any] = {
        "steps": 2,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
    }
    for most, freed in ((2, [False]), (1, [False, True])):
        watched = Watched()
        monkeypatch.setattr(model, "placement", watched)
        with monkeypatch.context() as patch:
            out_of_memory(model, patch, most)
            if len(freed) == 1:
                generate_diffusion_cond(model, **arguments)
            else:
                with pytest.raises(InputError):
                    generate_diffusion_cond(model, **arguments)
        assert watched.freed == freed


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "decoder",
            r"while the sound was decoded, also in small pieces\. Lower the batch or the duration, or",
        ),
        ("encoder", r"while the sound to start from was encoded, also .* shorten that sound, or free"),
        ("conditioner", r"while the prompts were encoded\. Lower the batch, or free"),
    ],
)
def test_memory_that_runs_out_beside_the_network_gets_a_sentence(
    golden_model: Any, monkeypatch: Any, part: str, message: str
) -> None:
    model, watched = golden_model("turbo"), Watched()
    model.prompt_cache.clear()  # other tests share the model
    monkeypatch.setattr(model, "placement", watched)
    module = model.conditioner.conditioners["video_prompt"]
    if part != "conditioner":
        module = model.pretransform.model[part]
    arguments: dict[str, Any] = {"steps": 1, "conditioning": {"text_prompt": "a"}}
    arguments["init_audio"] = (8000, tone(2.0, 8000, 220.0))
    error = RuntimeError("MPS backend out of memory")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(module, "forward", fail)
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(model, **arguments)
    assert watched.freed == ([True] if part == "conditioner" else [False, True])
    watched.freed.clear()
    error = RuntimeError("interrupted")
    with pytest.raises(RuntimeError, match="interrupted"):
        generate_diffusion_cond(model, **arguments)
    assert watched.freed == []


def test_a_long_run_can_be_cancelled_at_every_pass(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    arguments: dict[str, Any] = {
        "steps": 2,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
        "window_batch": 1,
    }
    windows = len(plan_windows(520, native(model)).starts)
    monkeypatch.setattr(model, "placement", Watched())
    generate_diffusion_cond(model, **arguments)
    assert model.placement.checks >= 2 * windows
    monkeypatch.setattr(model, "placement", Watched(cancel_at=windows - 1))
    with pytest.raises(RuntimeError, match="interrupted"):
        generate_diffusion_cond(model, **arguments)
    assert model.placement.freed == []


def test_windows_of_one_context_share_what_is_made_of_it(golden_model: Any, monkeypatch: Any) -> None:
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
        ({"window_overlap": 0}, "window_overlap must be a number of seconds above 0, got 0"),
        ({"window_overlap": math.nan}, "window_overlap must be a number"),
        (
            {"window_overlap": 6.0, "sample_size": 300 * 512},
            r"window_overlap is 6 s: windows of this model overlap by 0.06 to 5.12 s",
        ),
        ({"window_overlap": 0.01, "sample_size": 300 * 512}, "window_overlap is 0.01 s"),
        ({"window_batch": 0}, "window_batch must be a whole number of at least 1, got 0"),
        ({"window_batch": 1.5}, "window_batch must be a whole number"),
        ({"sample_size": 100 * 512}, "makes at least 81920 samples"),
    ],
)
def test_bad_windows_get_a_sentence(arguments: dict[str, Any], message: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(golden_model("mmdit"), conditioning={}, device="cpu", **arguments)


def test_a_single_frame_serves_a_minute(golden_model: Any) -> None:
    """The picture is held, and the sound lasts as long as asked."""
    model = golden_model("turbo")
    features = VideoFeatures(frames=frames(50, 1)[:1], sync=sync(1), duration=0.04, fps=25)
    sound = make_audio(
        model, audio_request(prompt="wind", features=features, duration=60.0, steps=1), device="cpu"
    )
    assert sound.shape == (1, 2, 480000)


def test_an_exception_in_the_middle_ends_a_long_run(golden_model: Any) -> None:
    def stop(info: StepInfo) -> None:
        raise KeyboardInterrupt

    request = audio_request(prompt="a", duration=20.0, steps=1)
    with pytest.raises(KeyboardInterrupt):
        make_audio(golden_model("turbo"), request, device="cpu", callback=stop)
    assert make_audio(golden_model("turbo"), request, device="cpu").shape == (1, 2, 160000)


def test_a_long_video_gets_features_for_all_of_it() -> None:
    """Sync features in pieces are those of the whole; the first 10 s are those of a 10 s video."""
    calls: list[int] = []

    def encode(pixels: Tensor) -> Tensor:  # tells a segment by its first frame, as Synchformer does
        calls.append(pixels.shape[1])
        first = pixels[0, :, 0, 0, 0].unfold(0, 16, 8)[:, 0]
        return first.repeat_interleave(8).reshape(1, -1, 1)

    pictures = torch.linspace(0, 1, 260).reshape(-1, 1, 1, 1).expand(-1, 4, 4, 1)
    clip = ImageSequence(pictures, 10)  # 26 s, past whose end the last picture is held
    long = extract_video_features(clip, encode_sync=encode, seconds=30)
    assert (long.frames.shape[0], long.duration) == (150, 26)
    assert max(calls) == 250
    whole = extract_video_features(clip, encode_sync=None, video_fps=25, seconds=30)
    assert long.sync is not None
    expected = encode(whole.frames[None].float() / 255 * 2 - 1)
    assert_close_l2(long.sync, expected, 1e-6)
    short = extract_video_features(clip, encode_sync=encode, seconds=10)
    assert short.sync is not None
    assert torch.equal(long.sync[:, :240], short.sync)
    assert torch.equal(long.frames[:50], short.frames)


def test_the_length_that_is_looked_at() -> None:
    clip = ImageSequence(torch.zeros(1000, 2, 2, 3), 10)  # 100 s
    assert seconds_to_cover(clip, at_least=10) == 100
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=70)) == 30
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=70, duration=12)) == 12
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=97)) == 10
    assert seconds_to_cover(clip, at_least=10, time_range=TimeRange(start=2), trim=(10.0, 40.0)) == 38
    assert seconds_to_cover(ImageSequence(torch.zeros(9000, 1, 1, 3), 10), at_least=10) == 600


def test_a_long_audio_prompt_is_heard_to_its_end(golden_model: Any) -> None:
    asked: dict[str, Any] = {}

    def generate(model: Any, **arguments: Any) -> Tensor:
        asked.update(arguments)
        return torch.zeros(1, 2, arguments["sample_size"])

    request = audio_request(audio_prompt=(tone(30, 16000, 300), 16000), duration=25.0, window_batch=2)
    assert make_audio(golden_model("maf"), request, generate=generate).shape == (1, 2, 200000)
    assert asked["conditioning"][0]["audio_prompt"].shape[-1] >= 200000
    assert (asked["window_batch"], asked["sample_size"]) == (2, 391 * 512)
    assert "window_overlap" not in asked


MEASURE = """
import pathlib, re, sys
import torch
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.windows import WindowedVelocity
torch.set_num_threads(1)
# What is kept of contexts is bounded; the bound is as small here as the model is.
WindowedVelocity.__init__.__kwdefaults__["prepared_limit"] = 8 * 2**20
model, _ = get_pretrained_model(sys.argv[1])
size = int(sys.argv[2]) * 16000 // 512 * 512
# Not getrusage: that peak is inherited from the process that starts this one.
status = pathlib.Path("/proc/self/status")
used = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) // 1024
before = used()
generate_diffusion_cond(model, seed=1, sample_size=size, conditioning={"text_prompt": "a"},
                                device="cpu", return_latents=True, window_batch=int(sys.argv[3]))
print(before, used())
"""


def memory_of_a_run(folder: Path, seconds: int, at_once: int) -> int:
    """MiB that the making of latents adds to the process at its peak. The latents themselves are 1 kB/s."""
    printed = subprocess.run(
        [sys.executable, "-c", MEASURE, str(folder), str(seconds), str(at_once)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    before, after = map(int, printed)
    return after - before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_hardly_grows_with_length(tiny_folder: Any) -> None:
    """180 s take within 1.5 times what 30 s take; with all windows at once they would not."""
    folder = tiny_folder("turbo")
    short, long, unbounded = (memory_of_a_run(folder, *sizes) for sizes in ((30, 2), (180, 2), (180, 100)))
    assert long <= 1.5 * short
    assert unbounded > 1.5 * short


def test_the_default_window_batch_is_said_where_it_is_chosen() -> None:
    from audiox_ext.pipeline.settings import GenerationSettings

    assert f"default {windows_module.DEFAULT_BATCH}" in (GenerationSettings.__doc__ or "")
