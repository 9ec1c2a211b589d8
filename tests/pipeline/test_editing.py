"""Editing regions of a track: what stays, where the model works, and how strongly."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from edited_tracks import Recorder, track
from torch import Tensor

from audiox_ext.conditioning.video_features import VideoFeatures
from audiox_ext.media.waveforms import conform_audio
from audiox_ext.pipeline.edit_track import WindowJob, edit_track, plan_edits
from audiox_ext.pipeline.editing import AudioEdit, Region
from audiox_ext.pipeline.make_audio import make_audio


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [44100, 48000, 22050, 8000, 12345])
def test_only_the_regions_change_sample_for_sample(rate: int, channels: int, golden_model: Any) -> None:
    sound = track(25.3, rate, channels)
    regions = (
        Region(start=1.0, end=2.5, feather=0.1),
        Region(start=17.1234, end=19.0, feather=5.0, strength=0.5),
        Region(start=24.0, end=25.3),
    )
    make = Recorder()
    edited = edit_track(golden_model("maf"), AudioEdit(waveform=sound, rate=rate, regions=regions), make)
    assert edited.shape == sound.shape
    inside = torch.zeros(sound.shape[-1], dtype=torch.bool)
    for region in regions:
        inside[math.ceil(region.start * rate - 1e-6) : math.floor(region.end * rate + 1e-6)] = True
    assert torch.equal(edited[..., ~inside], sound[..., ~inside])
    changed = (edited != sound).any(dim=1)[0]
    assert float(changed[inside].float().mean()) > 0.99
    assert bool(torch.isfinite(edited).all())


@pytest.mark.parametrize("rate", [8000, 48000, 22050, 11025])
def test_a_model_that_returns_what_it_hears_changes_nothing(rate: int, golden_model: Any) -> None:
    """No sample shifts: not by windows, resampling or pasting."""
    time = torch.arange(round(30.0 * rate)) / rate
    sound = 0.3 * torch.sin(2 * math.pi * 440 * time).expand(1, 2, -1).contiguous()
    regions = (Region(start=3.3, end=5.0), Region(start=21.7, end=29.0))
    edit = AudioEdit(waveform=sound, rate=rate, regions=regions)
    edited = edit_track(golden_model("maf"), edit, lambda job: job.waveform[None])
    assert float((edited - sound).abs().max()) < 2e-3


def test_a_window_holds_the_regions_and_some_surroundings(golden_model: Any) -> None:
    model = golden_model("maf")
    ratio, native = model.config.autoencoder.downsampling_ratio, model.config.latent_count
    make = Recorder()
    regions = (
        Region(start=20.0, end=21.0, strength=0.4),
        Region(start=23.0, end=24.0, strength=0.4),
        Region(start=40, end=41),
    )
    edit_track(model, AudioEdit(waveform=track(60, 8000), rate=8000, regions=regions), make)
    assert [job.count for job in make.jobs] == [2, 2]
    assert [job.index for job in make.jobs] == [0, 1]
    for job, window_regions in zip(make.jobs, (regions[:2], regions[2:]), strict=True):
        assert job.waveform.shape == (2, native * ratio)
        strengths = job.strengths
        assert len(strengths) == native
        expected = torch.zeros(native)
        for region in window_regions:
            first = (region.start - job.seconds) * 8000 / ratio
            last = (region.end - job.seconds) * 8000 / ratio
            assert first > 0.05 * native
            assert last < 0.95 * native
            expected[math.floor(first + 1e-6) : math.ceil(last - 1e-6)] = region.strength
        assert torch.equal(strengths, expected)


def test_regions_of_different_strengths_are_made_one_by_one(golden_model: Any) -> None:
    regions = (Region(start=2, end=3), Region(start=4, end=5, strength=0.2))
    make = Recorder()
    edit_track(golden_model("turbo"), AudioEdit(waveform=track(10, 8000), rate=8000, regions=regions), make)
    assert [sorted(set(job.strengths.tolist())) for job in make.jobs] == [[0, 1], [0, pytest.approx(0.2)]]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_a_weak_edit_stays_close_and_a_strong_one_does_not(kind: str, golden_model: Any) -> None:
    """Also with four steps, and also below a quarter."""
    model, sound = golden_model(kind), track(10, 8000, seed=9)

    def edited(strength: float) -> Tensor:
        region = Region(start=4, end=6, strength=strength)
        edit = AudioEdit(waveform=sound, rate=8000, regions=(region,))
        steps = 4 if kind == "turbo" else 8
        return make_audio(model, audio_request(edit=edit, steps=steps, seed=2), device="cpu")

    weakest = edited(0.01)
    distances = [distance(edited(strength), weakest) for strength in (0.1, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] > 0.01


def test_a_long_region_gets_a_long_window(golden_model: Any) -> None:
    model = golden_model("maf")
    make = Recorder()
    edit = AudioEdit(waveform=track(60, 8000), rate=8000, regions=(Region(start=10, end=40),))
    edit_track(model, edit, make)
    (job,) = make.jobs
    assert job.waveform.shape[-1] / 8000 == pytest.approx(30 + model.native_seconds / 2, abs=0.2)
    assert job.seconds == pytest.approx(10 - model.native_seconds / 4, abs=0.2)


def test_a_short_track_is_padded_and_its_end_is_free_where_it_is_edited(golden_model: Any) -> None:
    model = golden_model("maf")
    make = Recorder()
    edit = AudioEdit(waveform=track(4, 8000), rate=8000, regions=(Region(start=3, end=4),))
    assert edit_track(model, edit, make).shape == (1, 2, 32000)
    (job,) = make.jobs
    assert len(job.strengths) == model.config.latent_count
    assert float(job.strengths[math.floor(3 * 8000 / 512) :].min()) == 1
    assert not job.waveform[:, 32000:].any()


def test_the_reference_audio_is_the_track_without_the_regions(golden_model: Any) -> None:
    make = Recorder()
    sound = track(30, 8000)
    edit_track(
        golden_model("maf"),
        AudioEdit(waveform=sound, rate=8000, regions=(Region(start=14, end=16),)),
        make,
    )
    (job,) = make.jobs
    first = round(job.seconds * 8000)
    assert job.example is not None
    silent = slice(14 * 8000 - first, 16 * 8000 - first)
    assert not job.example[:, silent].any()
    assert torch.equal(job.example[:, : silent.start], sound[0][:, first : 14 * 8000])


def test_every_item_is_edited_and_every_variation_given(golden_model: Any) -> None:
    sound = track(12, 8000, batch=2)
    edit = AudioEdit(waveform=sound, rate=8000, regions=(Region(start=2, end=3),))
    edited = edit_track(golden_model("maf"), edit, Recorder(variations=3))
    assert edited.shape == (6, 2, 96000)
    for index in range(6):
        assert torch.equal(edited[index, :, :16000], sound[index // 3, :, :16000])
    assert not torch.equal(edited[0], edited[1])


def test_windows_lie_inside_the_track(golden_model: Any) -> None:
    from audiox_ext.pipeline.edit_track import Part

    model = golden_model("maf")
    ratio, native = 512, model.config.latent_count
    for start, end in ((0, 100), (79_000, 80_000), (39_000, 41_000), (479_000, 480_000)):
        (window,) = plan_edits(model, [Part(start=start, end=end)], 480_000, 1.0)
        assert window.start >= 0
        assert window.start + window.length <= -(-480_000 // ratio)
        assert window.start * ratio <= start
        assert end <= (window.start + window.length) * ratio
        assert window.length == native


def test_the_models_rate_does_not_need_to_divide_the_tracks(golden_model: Any) -> None:
    """New sound lands at its time: a click made at 3.5 s is at 3.5 s."""
    model = golden_model("maf")

    def click(job: WindowJob) -> Tensor:
        silence = torch.zeros(1, *job.waveform.shape)
        silence[..., round((3.5 - job.seconds) * model.sample_rate)] = 0.9
        return silence

    edit = AudioEdit(waveform=track(20, 44100) * 0, rate=44100, regions=(Region(start=3, end=4),))
    edited = edit_track(model, edit, click)
    assert int(edited[0, 0].abs().argmax()) == pytest.approx(3.5 * 44100, abs=3)
    assert conform_audio(edited[0], 44100, target_rate=8000).shape[-1] == 160000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_an_edit_by_a_real_network(kind: str, golden_model: Any) -> None:
    """From the request to the track: two regions of a long one, in its own rate."""
    sound = track(25, 22050, seed=5)
    regions = (Region(start=2, end=3), Region(start=20, end=22, strength=0.5))
    request = audio_request(
        prompt="rain",
        edit=AudioEdit(waveform=sound, rate=22050, regions=regions),
        steps=2,
        batch=2,
        seed=3,
    )
    progress: list[tuple[int, int]] = []
    edited = make_audio(
        golden_model(kind),
        request,
        device="cpu",
        callback=lambda info: progress.append((info.step, info.steps)),
    )
    assert edited.shape == (2, 2, sound.shape[-1])
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for item in edited:
        changed = (item != sound[0]).any(dim=0).nonzero()[:, 0] / 22050
        assert bool((((changed >= 2) & (changed < 3)) | ((changed >= 20) & (changed < 22))).all())
        assert len(changed) > 2.9 * 22050
    assert not torch.equal(edited[0], edited[1])
    alone = make_audio(
        golden_model(kind),
        replace(request, settings=replace(request.settings, batch=1, seed=4)),
        device="cpu",
    )
    assert float((alone[0] - edited[1]).abs().max()) < 1e-4


def test_parts_of_the_prompts_go_with_the_window(golden_model: Any) -> None:
    """Timeline, video and a long audio prompt are cut to the edited window."""
    requests: list[dict[str, Any]] = []

    def generate(model: Any, **arguments: Any) -> Tensor:
        requests.append(arguments)
        return arguments["init_audio"][1][None]

    frames = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 3, 224, 224)
    features = VideoFeatures(frames=frames, sync=torch.zeros(1, 8 * 124, 32), duration=40, fps=25)
    reference = torch.arange(40 * 8000, dtype=torch.float32)[None] / 1e6
    request = audio_request(
        prompt="0-10 rain\n10-29 wind\n29-end hail",
        features=features,
        audio_prompt=(reference, 8000),
        edit=AudioEdit(waveform=track(40, 8000), rate=8000, regions=(Region(start=30, end=31),)),
    )
    make_audio(golden_model("maf"), request, generate=generate)
    (arguments,) = requests
    (prompt,) = arguments["conditioning"]
    begin = arguments["conditioning"][0]["audio_prompt"][0, 0] * 1e6 / 8000
    assert [span.prompt for span in prompt["text_prompt"].spans] == ["wind", "hail"]
    assert prompt["text_prompt"].spans[1].start == pytest.approx(29 - float(begin), abs=0.01)
    assert int(prompt["video_prompt"]["video_tensors"][0, 0, 0, 0, 0]) == round(float(begin) * 5)


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_the_strength_of_a_variation_sets_its_distance(kind: str, golden_model: Any) -> None:
    model = golden_model(kind)
    sound = track(10, 8000, seed=8)[0]
    steps = 4 if kind == "turbo" else 8

    def vary(strength: float) -> Tensor:
        request = audio_request(
            prompt="", init_audio=(sound, 8000), init_strength=strength, steps=steps, seed=2
        )
        return make_audio(model, request, device="cpu")[0]

    weakest = vary(0.01)
    assert weakest.shape == sound.shape
    distances = [distance(vary(strength), weakest) for strength in (0.2, 0.6, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < 0.95 * distances[-1]
