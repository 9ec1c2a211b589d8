"""Extending a track: the original stays, and the transition is inaudible."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from edited_tracks import Recorder, track
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.pipeline.edit_track import edit_track
from audiox_ext.pipeline.editing import extension
from audiox_ext.pipeline.make_audio import make_audio


@pytest.mark.parametrize("side", ["after", "before"])
@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 1), (22050, 2), (8000, 2)])
@pytest.mark.parametrize("length", [2.0, 30.0])
def test_an_extended_track_is_unchanged_and_the_boundary_is_inaudible(
    side: str, rate: int, channels: int, length: float, golden_model: Any
) -> None:
    """Whatever the model makes: here noise 14 dB louder than the track."""
    sound, seconds = track(length, rate, channels, seed=3), 4.0
    extended = edit_track(golden_model("maf"), extension(sound, rate, seconds, side), Recorder(scale=0.5))
    added = round(seconds * rate)
    assert extended.shape[-1] == sound.shape[-1] + added
    overlap = round(0.1 * rate)
    if side == "before":
        extended, sound = extended.flip(-1), sound.flip(-1)
    seam = sound.shape[-1]
    assert torch.equal(extended[..., : seam - overlap], sound[..., : seam - overlap])
    assert_no_jump(extended[0], seam, rate)
    # And it ends at the loudness of the new sound.
    assert float(extended[0, :, -rate:].square().mean().sqrt()) > 0.15


def assert_no_jump(waveform: Tensor, seam: int, rate: int) -> None:
    """No loudness jump above 1 dB between windows of 50 ms, no broadband click at the seam."""
    window = round(0.05 * rate)
    starts = range(seam - 4 * window, seam + 4 * window, window)
    decibels = [10 * math.log10(float(waveform[:, s : s + window].square().mean())) for s in starts]
    assert max(abs(b - a) for a, b in pairwise(decibels)) < 1.0
    # A click would stand out of the highest octave on both sides, millisecond by millisecond.
    spectrum = torch.stft(
        waveform, 64, 32, window=torch.hann_window(64), center=False, return_complex=True
    ).abs()
    highest = spectrum[:, 16:].square().sum(dim=(0, 1))
    first, middle, last = ((seam + n * window) // 32 for n in (-4, 0, 4))
    sides = max(float(highest[first:middle].median()), float(highest[middle:last].median()))
    assert float(highest[first:last].max()) < 8 * sides


def test_a_continuation_receives_the_sound_before_it(golden_model: Any) -> None:
    model = golden_model("maf")
    make, sound = Recorder(), track(30, 8000)
    edit_track(model, extension(sound, 8000, 4.0, "after"), make)
    (job,) = make.jobs
    assert torch.equal(job.example, sound[0, :, -80000:])
    # Latents up to the seam are the track's, the one at the seam and those after it are free.
    start = round(job.seconds * 8000)
    seam = math.floor((30 * 8000 - start) / 512)
    assert not job.strengths[:seam].any()
    assert bool((job.strengths[seam:] == 1).all())
    # The encoder does not see the track end: it is followed by its mirror image.
    end = 30 * 8000 - start
    mirror = job.waveform[:, end : end + 1000]
    assert torch.equal(mirror, job.waveform[:, end - 1000 : end].flip(-1))


def test_a_lead_in_receives_the_sound_after_it(golden_model: Any) -> None:
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


@pytest.mark.parametrize("seconds", [0, 0.001, -3, math.nan, math.inf])
def test_extending_by_nothing_is_explained(seconds: float) -> None:
    with pytest.raises(InputError, match=r"adds nothing. Give 0.02 s or more"):
        extension(track(1, 8000), 8000, seconds, "after")


@pytest.mark.slow
@pytest.mark.parametrize("side", ["after", "before"])
@pytest.mark.parametrize("kind", ["maf", "turbo"])
def test_a_continuation_by_a_real_network(kind: str, side: str, golden_model: Any) -> None:
    sound = track(14, 8000, seed=6)
    request = audio_request(prompt="rain", edit=extension(sound, 8000, 6.0, side), steps=2, seed=1)
    extended = make_audio(golden_model(kind), request, device="cpu")
    assert extended.shape == (1, 2, 160000)
    original = extended[..., -14 * 8000 :] if side == "before" else extended[..., : 14 * 8000]
    same = original == sound
    assert bool((same[..., 800:] if side == "before" else same[..., :-800]).all())
    waveform = extended[0] if side == "after" else extended[0].flip(-1)
    assert_no_jump(waveform, 14 * 8000, 8000)
