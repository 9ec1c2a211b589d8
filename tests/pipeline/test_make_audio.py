"""From a request in a user's words to finished audio."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from audio_requests import audio_request
from golden_cases import tone
from torch import Tensor

from audiox_ext.conditioning.video_features import VideoFeatures
from audiox_ext.errors import InputError
from audiox_ext.pipeline.make_audio import finish_audio, make_audio


class Recorder:
    """Stands in for the engine: records its arguments, returns a sound that is too loud."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}

    def __call__(self, model: Any, **arguments: Any) -> Tensor:
        self.arguments = arguments
        return torch.linspace(-2, 2, 2 * 81920).reshape(1, 2, 81920)


def video(with_sync: bool = True) -> VideoFeatures:
    frames = torch.full((50, 3, 224, 224), 7, dtype=torch.uint8)
    return VideoFeatures(
        frames=frames, sync=torch.zeros(1, 240, 32) if with_sync else None, duration=10, fps=25
    )


def test_none_means_the_models_own(golden_model: Any) -> None:
    recorder = Recorder()
    make_audio(golden_model("maf"), audio_request(prompt="rain"), generate=recorder)
    assert not {"steps", "cfg_scale", "sampler_type", "sigma_min", "sigma_max"} & recorder.arguments.keys()
    assert recorder.arguments["conditioning"][0]["text_prompt"] == "rain"
    assert "negative_conditioning" not in recorder.arguments


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("0-4 rain\n4-9 wind\n9-end hail", "The prompt is a timeline of 3 lines."),
        ("0-4: rain", "The prompt is a timeline of 1 line."),
        ("0-4 rain", "The prompt is read as ordinary text, although a line begins with times from 0."),
        ("0-60 mph acceleration of a sports car", ""),
    ],
)
def test_the_log_says_whether_the_prompt_is_a_timeline(
    prompt: str, message: str, golden_model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        make_audio(golden_model("maf"), audio_request(prompt=prompt), generate=Recorder())
    assert message in caplog.text
    assert bool(message) == ("The prompt is" in caplog.text)


def test_the_request_reaches_the_engine(golden_model: Any) -> None:
    recorder = Recorder()
    request = audio_request(
        prompt="rain",
        negative_prompt="wind",
        features=video(),
        audio_prompt=(tone(2, 16000, 440), 16000),
        steps=7,
        cfg=3.5,
        sampler="k-heun",
        sigma_min=0.1,
        sigma_max=80,
        seed=9,
        batch=2,
    )
    make_audio(golden_model("maf"), request, generate=recorder)
    arguments = recorder.arguments
    assert (arguments["steps"], arguments["cfg_scale"], arguments["sampler_type"], arguments["seed"]) == (
        7,
        3.5,
        "k-heun",
        9,
    )
    assert (arguments["sigma_min"], arguments["sigma_max"], arguments["batch_size"]) == (0.1, 80, 2)
    assert arguments["negative_conditioning"] == [{"text_prompt": "wind"}]
    prompt = arguments["conditioning"][0]
    assert prompt["video_prompt"]["video_tensors"].shape == (1, 50, 3, 224, 224)
    assert prompt["audio_prompt"].shape == (2, 16000)  # at the model's 8 kHz


def test_a_student_ignores_a_negative_prompt(golden_model: Any) -> None:
    recorder = Recorder()
    make_audio(golden_model("turbo"), audio_request(prompt="rain", negative_prompt="wind"), generate=recorder)
    assert "negative_conditioning" not in recorder.arguments


@pytest.mark.parametrize(("seconds", "samples"), [(None, 81920), (10.24, 81920), (3.5, 28000), (0.05, 400)])
def test_the_result_has_exactly_the_requested_length(
    seconds: float | None, samples: int, golden_model: Any
) -> None:
    request = audio_request(prompt="rain", duration=seconds)
    assert make_audio(golden_model("maf"), request, generate=Recorder()).shape == (1, 2, samples)


def test_a_remainder_without_latents_is_silence(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("maf")
    longer = dataclasses.replace(model.config, sample_size=82300)  # 160 latents make 81920
    monkeypatch.setattr(model, "config", longer)
    result = make_audio(model, audio_request(prompt="rain", duration=82300 / 8000), generate=Recorder())
    assert result.shape == (1, 2, 82300)
    assert float(result[..., 81920:].abs().max()) == 0
    assert make_audio(model, audio_request(prompt="rain"), generate=Recorder()).shape == (1, 2, 81920)


def test_parts_may_live_on_different_devices(golden_model: Any) -> None:
    class Scattered:
        def use(self, part: str, module: torch.nn.Module, activation_bytes: int) -> torch.device:
            assert activation_bytes > 0
            used.append(part)
            return torch.device("cpu")

    used: list[str] = []
    model = golden_model("base")
    with torch.no_grad():
        tokens = model.encode_conditioning([{"text_prompt": "x"}], Scattered(), torch.Generator())
    assert {value.device.type for value in tokens.values()} == {"cpu"}
    assert used == ["conditioner.video_prompt", "conditioner.text_prompt", "conditioner.audio_prompt"]


def test_the_gain_is_unchanged_unless_it_would_clip() -> None:
    quiet, loud = torch.full((1, 2, 10), 0.25), torch.full((1, 2, 10), -4.0)
    result = finish_audio(torch.cat([quiet, loud]), 10)
    assert torch.equal(result[:1], quiet)
    assert float(result[1].abs().max()) == 1.0


def test_a_result_that_is_not_a_number_is_an_error() -> None:
    with pytest.raises(InputError, match="not a number"):
        finish_audio(torch.tensor([[[0.0, math.nan]]]), 2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "  "}, "nothing to make sound from.*connect one of these"),
        ({"duration": 601}, "duration is 601 s, and at most 600 s are made in one run"),
        ({"duration": -1}, "duration must be above 0 s, or 0"),
        ({"duration": math.nan}, "duration must be above 0 s, or 0"),
        ({"duration": 0.001}, "too short"),
        ({"steps": -2}, "steps must be a whole number from 1 to"),
        ({"cfg": -1}, r"cfg \(cfg_scale\) must be a number from 0 to"),
        ({"cfg": math.inf}, r"cfg \(cfg_scale\) must be a number from 0 to"),
        ({"sigma_min": -0.1}, "sigma_min must be a number above 0"),
        ({"sigma_min": 9, "sigma_max": 3}, "sigma_min must be above 0 and below sigma_max"),
        ({"sampler": "euler"}, "no sampler called 'euler'"),
        ({"seed": -5}, "seed must be a whole number from 0"),
        ({"seed": 2**64}, "seed must be a whole number from 0"),
        ({"batch": 0}, r"batch \(batch_size\) must be a whole number from 1 to"),
        ({"features": video(with_sync=False)}, "Synchformer"),
        ({"audio_prompt": (torch.zeros(2, 0), 44100)}, "."),
        ({"audio_prompt": (torch.full((2, 9), math.nan), 44100)}, "."),
        ({"audio_prompt": (torch.zeros(2, 9), 0)}, "."),
    ],
)
def test_bad_requests_are_explained(fields: dict[str, Any], message: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match=message):
        make_audio(golden_model("maf"), audio_request(**{"prompt": "rain", **fields}), device="cpu")


def test_a_video_or_a_sound_alone_is_enough(golden_model: Any) -> None:
    for fields in ({"features": video()}, {"audio_prompt": (tone(1, 8000, 300), 8000)}):
        make_audio(golden_model("maf"), audio_request(**fields), generate=Recorder())
