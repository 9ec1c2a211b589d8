"""Named settings of the sampler."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from audio_requests import audio_request
from golden_cases import relative_l2

from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.errors import InputError
from audiox_ext.pipeline.make_audio import make_audio
from audiox_ext.pipeline.settings import PRESETS, GenerationSettings, apply_preset
from audiox_ext.sampling.schedules import SCHEDULE_NAMES


def engine_arguments(model: Any, **fields: Any) -> dict[str, Any]:
    """The arguments that the engine receives for a request."""
    seen: dict[str, Any] = {}

    def record(model: Any, **arguments: Any) -> torch.Tensor:
        seen.update(arguments)
        return torch.zeros(1, 2, 81920)

    make_audio(model, audio_request(prompt="rain", **fields), generate=record)
    return seen


def test_their_names_exist() -> None:
    for preset in PRESETS.values():
        assert preset.sampler in SAMPLER_NAMES
        assert preset.schedule in SCHEDULE_NAMES


def test_a_preset_fills_unset_values(golden_model: Any) -> None:
    filled = engine_arguments(golden_model("maf"), preset="balanced")
    assert (filled["steps"], filled["sampler_type"], filled["schedule"]) == (
        50,
        "dpmpp-2m",
        "polyexponential",
    )
    own = engine_arguments(golden_model("maf"), preset="balanced", steps=7, schedule="karras")
    assert (own["steps"], own["sampler_type"], own["schedule"]) == (7, "dpmpp-2m", "karras")
    assert "steps" not in engine_arguments(golden_model("maf"))


def test_a_custom_sampler_and_schedule_stay(golden_model: Any) -> None:
    sigmas, sampler = torch.tensor([5.0, 1.0, 0.0]), lambda denoise, x, sigmas, extra: x
    arguments = engine_arguments(
        golden_model("maf"), preset="fast", custom_sigmas=sigmas, custom_sampler=sampler
    )
    assert arguments["custom_sigmas"] is sigmas
    assert arguments["custom_sampler"] is sampler
    assert not {"steps", "schedule", "sampler_type"} & arguments.keys()


def test_published_is_the_models_default(golden_model: Any) -> None:
    model = golden_model("maf")
    settings = apply_preset(model, GenerationSettings(preset="published"))
    defaults = model.defaults
    assert (settings.steps, settings.sampler) == (defaults.steps, defaults.sampler_type)
    short = {"prompt": "rain", "steps": 3, "seed": 4}
    published = make_audio(model, audio_request(preset="published", **short), device="cpu")
    assert torch.equal(published, make_audio(model, audio_request(**short), device="cpu"))
    fast = make_audio(model, audio_request(preset="fast", **short), device="cpu")
    assert relative_l2(fast, published) > 1e-3


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_student_ignores_presets_and_says_so(name: str, golden_model: Any, caplog: Any) -> None:
    with caplog.at_level("INFO"):
        assert (
            not {"steps", "sampler_type", "schedule"}
            & engine_arguments(golden_model("turbo"), preset=name).keys()
        )
    assert f"preset {name} changes nothing" in caplog.text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"preset": "fastest"}, r"no preset called 'fastest'.*published, balanced, fast"),
        ({"schedule": "linear"}, r"no schedule called 'linear'.*karras"),
        ({"guidance_start": 0.8, "guidance_end": 0.2}, "guidance_start is 0.8 and guidance_end 0.2"),
        ({"guidance_rescale": 1.2}, r"guidance_rescale \(scale_phi\) must be from 0 \(off\) to 1, got 1.2"),
        ({"reuse_threshold": -1.0}, "reuse_threshold must be from 0"),
        ({"reuse_threshold": float("nan")}, "reuse_threshold must be from 0"),
        ({"custom_sigmas": torch.tensor([1.0, 2.0])}, "decrease at every step"),
    ],
)
def test_bad_requests_are_explained(fields: dict[str, Any], message: str, golden_model: Any) -> None:
    with pytest.raises(InputError, match=message):
        engine_arguments(golden_model("maf"), **fields)


def test_other_settings_reach_the_engine(golden_model: Any) -> None:
    arguments = engine_arguments(
        golden_model("maf"), guidance_start=0.1, guidance_end=0.9, guidance_rescale=0.7, reuse_threshold=0.05
    )
    assert (arguments["guidance_start"], arguments["guidance_end"]) == (0.1, 0.9)
    assert (arguments["scale_phi"], arguments["reuse_threshold"]) == (0.7, 0.05)
    plain = engine_arguments(golden_model("maf"))
    assert not {"guidance_start", "guidance_end", "scale_phi"} & plain.keys()
    assert not {"reuse_threshold", "schedule", "custom_sigmas"} & plain.keys()
