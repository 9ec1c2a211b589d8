"""Every field of a request refuses what it cannot use with a sentence. New fields are covered, too."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.conditioning.video_features import VideoFeatures
from audiox_ext.errors import InputError
from audiox_ext.media.frames import TimeRange
from audiox_ext.media.object_mask import ObjectMask
from audiox_ext.media.pictures import ImageSequence
from audiox_ext.media.soundtrack import Mix, PlacedSound, mix_down
from audiox_ext.pipeline.editing import AudioEdit, Region
from audiox_ext.pipeline.make_audio import make_audio
from audiox_ext.pipeline.request import AudioRequest, check_request
from audiox_ext.pipeline.settings import (
    GenerationSettings,
    apply_preset,
    resolve_overlap,
    resolve_seeds,
    resolve_settings,
)

TRACK = torch.zeros(1, 2, 16000)
VALID: dict[type, dict[str, Any]] = {
    GenerationSettings: {"steps": 1, "duration": 1.0},
    Region: {"start": 0.1, "end": 0.5},
    AudioEdit: {"waveform": TRACK, "rate": 16000, "after": 1.0},
    AudioRequest: {"prompt": "rain"},
    TimeRange: {},
    Mix: {},
    ObjectMask: {"mask": torch.zeros(4, 4)},
    PlacedSound: {"waveform": TRACK[0], "rate": 16000},
    ImageSequence: {"images": torch.zeros(2, 4, 4, 3), "fps": 5.0},
    VideoFeatures: {
        "frames": torch.zeros(5, 3, 224, 224, dtype=torch.uint8),
        "sync": None,
        "duration": 1.0,
        "fps": 25.0,
    },
}
CASES = [(kind, field.name) for kind in VALID for field in dataclasses.fields(kind)]
STRANGE = [
    *(float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 1e-308, 10**12, 10**30, 10**400, -(10**400)),
    *(10**5000, 0, -1, True, False, None, "", "1", "\ud800", "a\0b", b"1", (), [], {}, 1j, object()),
    *(np.float32(1), np.float64("nan"), np.int64(1), np.bool_(True), np.array([1.0]), torch.tensor(1.0)),
    *(torch.tensor([float("nan")]), torch.zeros(0), torch.zeros(1, 2, 3, dtype=torch.complex64)),
    *((1, 2, 3), (TRACK[0], float("nan")), (TRACK[0], 10**400), (None, 16000), ("a", "b"), lambda: None),
]
VALUES = (
    st.sampled_from(STRANGE)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=3)
)


@pytest.fixture(scope="module")
def model() -> Any:
    return get_pretrained_model("audiox-pocket", download=False)[0]


def use(value: Any, model: Any) -> None:
    """Everything that is done with a value before the network runs."""
    if isinstance(value, GenerationSettings):
        settings = resolve_settings(model, apply_preset(model, value))
        resolve_overlap(model, settings.window_overlap)
        resolve_seeds(settings, None)
    elif isinstance(value, AudioRequest):
        check_request(model, value)
    elif isinstance(value, ImageSequence):
        value.check()
    elif isinstance(value, PlacedSound):
        mix_down([value], 2.0)
    elif isinstance(value, TimeRange):
        value.in_source(None)


def check(kind: type, name: str, value: Any, model: Any) -> None:
    """Use a value; any error but an `InputError` with a short sentence fails the test."""
    message = "."
    try:
        use(kind(**{**VALID[kind], name: value}), model)
    except InputError as error:
        message = str(error)
    assert message.endswith((".", "`"))
    assert len(message.encode()) < 1000


@pytest.mark.parametrize(("kind", "name"), CASES)
@hypothesis.settings(
    max_examples=60,
    deadline=2000,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(value=VALUES)
def test_a_field_takes_a_value_or_refuses_it_with_a_sentence(
    model: Any, kind: type, name: str, value: Any
) -> None:
    check(kind, name, value, model)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_strange_values_are_taken_or_refused_with_a_sentence(model: Any, kind: type, name: str) -> None:
    for value in STRANGE:
        check(kind, name, value, model)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 10**12}, r"steps must be a whole number from 1 to 10000, got 1000000000000\."),
        ({"steps": 10**30}, "steps must be"),
        ({"steps": 10**5000}, r"steps must be .*, got an integer of \d+ bits"),
        ({"window_overlap": 1e308}, r"window_overlap must be a number above 0, up to 600, got 1e\+308"),
        ({"cfg": 10**400}, "cfg .*must be a number from 0 to 1000"),
        ({"short_sounds": "false"}, "short_sounds must be True or False, got 'false'"),
        ({"sampler": []}, r"There is no sampler called \[\]"),
        ({"batch": np.int64(2)}, "batch .*must be a whole number from 1 to 1024, got np.int64"),
    ],
)
def test_the_sentence_has_the_value_and_the_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GenerationSettings(**values)


def test_a_prompt_with_half_an_emoji_makes_a_sound(model: Any) -> None:
    request = AudioRequest(prompt="caf\udce9 \ud83d", settings=GenerationSettings(steps=1, duration=0.5))
    assert make_audio(model, request, device="cpu").shape[-1] > 0


@pytest.mark.parametrize("feather", [1e308, 601, -1, float("nan"), "1"])
def test_a_feather_out_of_range_is_refused(feather: Any) -> None:
    with pytest.raises(InputError, match="feather is"):
        Region(start=1.0, end=2.0, feather=feather)
