"""Edits, tracks and strengths that are refused, and regions that are just allowed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from edited_tracks import track
from torch import Tensor

from audiox_ext.errors import InputError
from audiox_ext.pipeline.editing import AudioEdit, Region, extension
from audiox_ext.pipeline.make_audio import make_audio


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"start": -1, "end": 2}, "starts at -1 s"),
        ({"start": 3, "end": 2}, "from 3 to 2 s is reversed"),
        ({"start": 3, "end": 3}, "from 3 to 3 s is of zero length"),
        ({"start": 3, "end": 3.001}, "too short. Make it at least 0.02 s long"),
        ({"start": 1, "end": 2, "feather": -0.1}, "feather is -0.1 s"),
        ({"start": 1, "end": 2, "strength": 0}, "strength is 0: it must be from 0.001 to 1"),
        ({"start": 1, "end": 2, "strength": 1.5}, "strength is 1.5"),
        ({"start": 1, "end": math.nan}, "The region's end is nan"),
        ({"start": 9, "end": 11}, "from 9 to 11 s is not inside the audio, which is 10.000 s long"),
        ({"start": 20, "end": 21}, "not inside the audio"),
        ({"start": 4, "end": 6}, "from 4 to 6 s and from 5 to 7 s overlap"),
    ],
)
def test_bad_regions_are_explained(region: dict[str, float], message: str) -> None:
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
def test_bad_tracks_are_explained(waveform: Tensor, rate: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AudioEdit(waveform=waveform, rate=rate)


def test_a_track_is_edited_or_extended() -> None:
    edit = AudioEdit(waveform=track(10, 8000), rate=8000, regions=(Region(start=5, end=7),))
    with pytest.raises(InputError, match="Do one after the other"):
        replace(edit, after=2.0)


def test_impossible_edits_are_explained(golden_model: Any) -> None:
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


@pytest.mark.parametrize("strength", [0.0, -1.0, 1.1, math.nan])
def test_strengths_out_of_range_are_explained(strength: float) -> None:
    sound = (track(1, 8000)[0], 8000)
    with pytest.raises(InputError, match=r"init_strength is .*: it must be from 0.001"):
        audio_request(init_audio=sound, init_strength=strength)
