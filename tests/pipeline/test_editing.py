"""Editing a track: what stays, where the model works, what is refused; with a stand-in for the model."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from torch import Tensor

from audiox_ext.conditioning.video_features import VideoFeatures
from audiox_ext.errors import InputError
from audiox_ext.media.waveforms import conform_audio
from audiox_ext.pipeline.edit_track import WindowJob, edit_track, plan_edits
from audiox_ext.pipeline.editing import AudioEdit, Region, extension
from audiox_ext.pipeline.make_audio import make_audio


def track(seconds: float, rate: int, channels: int = 2, seed: int = 0, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, channels, round(seconds * rate), generator=generator)


class Recorder:
    """Makes noise of its own in every window, and keeps the jobs."""

    def __init__(self, variations: int = 1, level: float = 0.1) -> None:
        self.jobs: list[WindowJob] = []
        self.variations, self.level = variations, level

    def __call__(self, job: WindowJob) -> Tensor:
        self.jobs.append(job)
        generator = torch.Generator().manual_seed(100 + len(self.jobs))
        return self.level * torch.randn(self.variations, *job.waveform.shape, generator=generator)


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
    """So every sample comes back to its place: windows, resampling and pasting do not shift it."""
    time = torch.arange(round(30.0 * rate)) / rate
    sound = 0.3 * torch.sin(2 * math.pi * 440 * time).expand(1, 2, -1).contiguous()
    regions = (Region(start=3.3, end=5.0), Region(start=21.7, end=29.0))
    edit = AudioEdit(waveform=sound, rate=rate, regions=regions)
    edited = edit_track(golden_model("maf"), edit, lambda job: job.waveform[None])
    assert float((edited - sound).abs().max()) < 2e-3


def test_a_window_holds_the_regions_and_some_of_what_is_around(golden_model: Any) -> None:
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
    for job, ours in zip(make.jobs, (regions[:2], regions[2:]), strict=True):
        assert job.waveform.shape == (2, native * ratio)
        strengths = job.strengths
        assert len(strengths) == native
        expected = torch.zeros(native)
        for region in ours:
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

    nearly = edited(0.01)
    distances = [distance(edited(strength), nearly) for strength in (0.1, 0.5, 1.0)]
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


def test_the_example_is_the_track_without_what_is_made_anew(golden_model: Any) -> None:
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


@pytest.mark.parametrize("side", ["after", "before"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (22050, 2), (8000, 2)])
@pytest.mark.parametrize("length", [2.0, 30.0])
def test_an_extended_track_stays_itself_and_the_joint_is_inaudible(
    side: str, rate: int, channels: int, length: float, golden_model: Any
) -> None:
    """Whatever the model makes: here noise 14 dB louder than the track."""
    sound, seconds = track(length, rate, channels, seed=3), 4.0
    extended = edit_track(golden_model("maf"), extension(sound, rate, seconds, side), Recorder(level=0.5))
    added = round(seconds * rate)
    assert extended.shape[-1] == sound.shape[-1] + added
    overlap = round(0.1 * rate)
    if side == "before":
        extended, sound = extended.flip(-1), sound.flip(-1)
    joint = sound.shape[-1]
    assert torch.equal(extended[..., : joint - overlap], sound[..., : joint - overlap])
    assert_no_jump(extended[0], joint, rate)
    # And it ends at the level of what was made.
    assert float(extended[0, :, -rate:].square().mean().sqrt()) > 0.15


def assert_no_jump(waveform: Tensor, joint: int, rate: int) -> None:
    """No level jump above 1 dB between windows of 50 ms, no broadband click at the joint."""
    window = round(0.05 * rate)
    starts = range(joint - 4 * window, joint + 4 * window, window)
    levels = [10 * math.log10(float(waveform[:, s : s + window].square().mean())) for s in starts]
    assert max(abs(b - a) for a, b in pairwise(levels)) < 1.0
    # A click would stand out of the highest octave on both sides, millisecond by millisecond.
    spectrum = torch.stft(
        waveform, 64, 32, window=torch.hann_window(64), center=False, return_complex=True
    ).abs()
    highest = spectrum[:, 16:].square().sum(dim=(0, 1))
    first, middle, last = ((joint + n * window) // 32 for n in (-4, 0, 4))
    sides = max(float(highest[first:middle].median()), float(highest[middle:last].median()))
    assert float(highest[first:last].max()) < 8 * sides


def test_a_continuation_is_shown_what_comes_before_it(golden_model: Any) -> None:
    model = golden_model("maf")
    make, sound = Recorder(), track(30, 8000)
    edit_track(model, extension(sound, 8000, 4.0, "after"), make)
    (job,) = make.jobs
    assert torch.equal(job.example, sound[0, :, -80000:])
    # Latents up to the joint are the track's, the one at the joint and those after it are free.
    start = round(job.seconds * 8000)
    joint = math.floor((30 * 8000 - start) / 512)
    assert not job.strengths[:joint].any()
    assert bool((job.strengths[joint:] == 1).all())
    # The encoder does not hear the track end: there is a mirror image.
    there = 30 * 8000 - start
    mirror = job.waveform[:, there : there + 1000]
    assert torch.equal(mirror, job.waveform[:, there - 1000 : there].flip(-1))


def test_a_lead_is_shown_what_comes_after_it(golden_model: Any) -> None:
    make, sound = Recorder(), track(30, 8000)
    edit_track(golden_model("maf"), extension(sound, 8000, 4.0, "before"), make)
    (job,) = make.jobs
    assert job.seconds == 0
    assert torch.equal(job.example, sound[0, :, :80000])
    assert bool((job.strengths[: math.ceil(4 * 8000 / 512)] == 1).all())
    assert not job.strengths[math.ceil(4 * 8000 / 512) :].any()


def test_a_long_continuation_of_a_short_sound(golden_model: Any) -> None:
    make = Recorder()
    extended = edit_track(golden_model("maf"), extension(track(0.5, 8000), 8000, 40.0, "after"), make)
    assert extended.shape == (1, 2, 40.5 * 8000)
    assert bool(torch.isfinite(extended).all())


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


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"start": -1, "end": 2}, "starts at -1 s"),
        ({"start": 3, "end": 2}, "from 3 to 2 s is reversed"),
        ({"start": 3, "end": 3}, "from 3 to 3 s is of zero length"),
        ({"start": 3, "end": 3.001}, "too short: 0.02 s"),
        ({"start": 1, "end": 2, "feather": -0.1}, "feather is -0.1 s"),
        ({"start": 1, "end": 2, "strength": 0}, "strength is 0: it must be from 0.001 to 1"),
        ({"start": 1, "end": 2, "strength": 1.5}, "strength is 1.5"),
        ({"start": 1, "end": math.nan}, "The region's end is nan"),
        ({"start": 9, "end": 11}, "from 9 to 11 s is not inside the audio, which is 10.000 s long"),
        ({"start": 20, "end": 21}, "not inside the audio"),
        ({"start": 4, "end": 6}, "from 4 to 6 s and from 5 to 7 s overlap"),
    ],
)
def test_bad_regions_get_a_sentence(region: dict[str, float], message: str) -> None:
    edit = AudioEdit(waveform=track(10, 8000), rate=8000, regions=(Region(start=5, end=7),))
    with pytest.raises(InputError, match=message):
        edit.with_region(Region(**region))


def test_regions_may_touch_each_other_and_the_ends() -> None:
    edit = AudioEdit(waveform=track(10, 8000), rate=8000)
    for start, end in ((0, 2), (2, 4), (9.5, 10.0004)):
        edit = edit.with_region(Region(start=start, end=end))
    assert len(edit.regions) == 3


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (torch.zeros(2, 100), 8000, "A track is"),
        (torch.zeros(1, 2, 0), 8000, "empty"),
        (torch.zeros(1, 6, 100), 8000, "6 channels"),
        (torch.full((1, 1, 100), math.nan), 8000, "NaN"),
        (torch.zeros(1, 1, 100), 0, "sample rate is 0"),
    ],
)
def test_bad_tracks_get_a_sentence(waveform: Tensor, rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AudioEdit(waveform=waveform, rate=rate)


@pytest.mark.parametrize("seconds", [0, 0.001, -3, math.nan, math.inf])
def test_extending_by_nothing_gets_a_sentence(seconds: float) -> None:
    with pytest.raises(InputError, match=r"adds nothing. Give 0.02 s or more"):
        extension(track(1, 8000), 8000, seconds, "after")


def test_a_track_is_edited_or_extended() -> None:
    edit = AudioEdit(waveform=track(10, 8000), rate=8000, regions=(Region(start=5, end=7),))
    with pytest.raises(InputError, match="Do one after the other"):
        replace(edit, after=2.0)


def test_the_models_rate_does_not_need_to_divide_the_tracks(golden_model: Any) -> None:
    """What the model makes lands at its time: a click made at 3.5 s is at 3.5 s."""
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


@pytest.mark.slow
@pytest.mark.parametrize("side", ["after", "before"])
@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_a_continuation_by_a_real_network(kind: str, side: str, golden_model: Any) -> None:
    sound = track(14, 8000, seed=6)
    request = audio_request(prompt="rain", edit=extension(sound, 8000, 6.0, side), steps=2, seed=1)
    extended = make_audio(golden_model(kind), request, device="cpu")
    assert extended.shape == (1, 2, 160000)
    kept = extended[..., -14 * 8000 :] if side == "before" else extended[..., : 14 * 8000]
    same = kept == sound
    assert bool((same[..., 800:] if side == "before" else same[..., :-800]).all())
    waveform = extended[0] if side == "after" else extended[0].flip(-1)
    assert_no_jump(waveform, 14 * 8000, 8000)


def test_parts_of_the_prompts_go_with_the_window(golden_model: Any) -> None:
    """A timeline, a video and a long audio prompt are those of the edited place."""
    requests: list[dict[str, Any]] = []

    def generate(model: Any, **arguments: Any) -> Tensor:
        requests.append(arguments)
        return arguments["init_audio"][1][None]

    frames = torch.arange(200, dtype=torch.uint8)[:, None, None, None].expand(200, 3, 224, 224)
    features = VideoFeatures(frames=frames, sync=torch.zeros(1, 8 * 124, 32), duration=40, fps=25)
    example = torch.arange(40 * 8000, dtype=torch.float32)[None] / 1e6
    request = audio_request(
        prompt="0-10 rain\n10-29 wind\n29-end hail",
        features=features,
        audio_prompt=(example, 8000),
        edit=AudioEdit(waveform=track(40, 8000), rate=8000, regions=(Region(start=30, end=31),)),
    )
    make_audio(golden_model("maf"), request, generate=generate)
    (arguments,) = requests
    (prompt,) = arguments["conditioning"]
    begin = arguments["conditioning"][0]["audio_prompt"][0, 0] * 1e6 / 8000
    assert [span.prompt for span in prompt["text_prompt"].spans] == ["wind", "hail"]
    assert prompt["text_prompt"].spans[1].start == pytest.approx(29 - float(begin), abs=0.01)
    assert int(prompt["video_prompt"]["video_tensors"][0, 0, 0, 0, 0]) == round(float(begin) * 5)


def test_edits_that_cannot_be_get_a_sentence(golden_model: Any) -> None:
    model = golden_model("maf")
    edit = AudioEdit(waveform=track(10, 8000), rate=8000)
    with pytest.raises(InputError, match="nothing to do to the track"):
        make_audio(model, audio_request(edit=edit), device="cpu")
    edit = edit.with_region(Region(start=1, end=2))
    with pytest.raises(InputError, match="Connect one"):
        make_audio(model, audio_request(edit=edit, init_audio=(track(1, 8000)[0], 8000)), device="cpu")
    with pytest.raises(InputError, match="cannot edit a track"):
        make_audio(model, audio_request(edit=edit, sampler="k-lms", steps=2), device="cpu")
    with pytest.raises(InputError, match="at most 600 s"):
        make_audio(model, audio_request(edit=extension(track(1, 8000), 8000, 601, "after")), device="cpu")


def distance(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_the_strength_of_a_variation_says_how_far_it_goes(kind: str, golden_model: Any) -> None:
    model = golden_model(kind)
    sound = track(10, 8000, seed=8)[0]
    steps = 4 if kind == "turbo" else 8

    def vary(strength: float) -> Tensor:
        request = audio_request(
            prompt="", init_audio=(sound, 8000), init_strength=strength, steps=steps, seed=2
        )
        return make_audio(model, request, device="cpu")[0]

    nearly = vary(0.01)
    assert nearly.shape == sound.shape
    distances = [distance(vary(strength), nearly) for strength in (0.2, 0.6, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] < 0.95 * distances[-1]


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, math.nan])
def test_strengths_out_of_range_get_a_sentence(strength: float) -> None:
    sound = (track(1, 8000)[0], 8000)
    with pytest.raises(InputError, match=r"init_strength is .*: it must be from 0.001"):
        audio_request(init_audio=sound, init_strength=strength)
