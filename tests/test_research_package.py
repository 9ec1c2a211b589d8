"""The adapter to the research package, against a stand-in with its two functions."""

from __future__ import annotations

import copy
import json
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from audio_requests import audio_request

from audiox_ext.errors import AudioXError, InputError, LicenseError
from audiox_ext.pipeline.editing import extension
from audiox_ext.pipeline.make_audio import make_audio
from audiox_ext.research_package import upstream_generate, upstream_get_pretrained_model

CONFIG = json.loads((Path(__file__).parent / "configs" / "AudioX-MAF.json").read_text())


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A module called audiox that records its arguments."""
    received: dict[str, Any] = {}

    def get_pretrained_model(name: str) -> tuple[torch.nn.Module, dict[str, Any]]:
        received["name"] = name
        return torch.nn.Identity(), CONFIG

    def generate_diffusion_cond(model: Any, **arguments: Any) -> torch.Tensor:
        received.update(arguments)
        if "callback" in arguments:
            arguments["callback"]({"i": 0, "sigma": torch.tensor(3.0), "denoised": torch.zeros(1, 2, 3)})
        return torch.zeros(arguments["batch_size"], 2, arguments["sample_size"])

    module = types.ModuleType("audiox")
    module.get_pretrained_model = get_pretrained_model
    generation = types.ModuleType("audiox.inference.generation")
    generation.generate_diffusion_cond = generate_diffusion_cond
    monkeypatch.setitem(sys.modules, "audiox", module)
    monkeypatch.setitem(sys.modules, "audiox.inference", types.ModuleType("audiox.inference"))
    monkeypatch.setitem(sys.modules, "audiox.inference.generation", generation)
    return received


def test_a_request_reaches_the_package_complete(package: dict[str, Any]) -> None:
    model, config = upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)
    assert (package["name"], config) == ("HKUSTAudio/AudioX-MAF", CONFIG)
    steps: list[int] = []
    request = audio_request(prompt="rain", duration=2, batch=2, seed=5)
    wave = make_audio(
        model, request, generate=upstream_generate, callback=lambda info: steps.append(info.step)
    )
    assert wave.shape == (2, 2, 88200)
    assert steps == [1, 251]  # of 250 each
    assert (package["steps"], package["cfg_scale"], package["seed"]) == (250, 7.0, 6)
    (prompt,) = package["conditioning"]
    assert prompt["video_prompt"]["video_tensors"].shape == (1, 50, 3, 224, 224)
    assert prompt["video_prompt"]["video_sync_frames"].shape == (1, 240, 768)
    assert prompt["audio_prompt"].shape == (1, 2, 441000)


def test_progress_counts_through_all_variations(package: dict[str, Any]) -> None:
    model, _ = upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)
    steps: list[tuple[int, int]] = []
    waves = upstream_generate(
        model,
        conditioning=[{"text_prompt": "rain"}],
        seeds=[5, 6, 7],
        steps=10,
        callback=lambda info: steps.append((info.step, info.steps)),
    )
    assert len(waves) == 3
    assert steps == [(1, 30), (11, 30), (21, 30)]


def test_the_licence_gate_is_the_same(package: dict[str, Any]) -> None:
    with pytest.raises(LicenseError):
        upstream_get_pretrained_model("AudioX-MAF")
    assert package == {}


def test_without_the_package_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audiox", None)
    with pytest.raises(InputError, match="needs the AudioX research package"):
        upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)


def test_the_other_package_of_that_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "audiox", types.ModuleType("audiox"))
    with pytest.raises(InputError, match="something else"):
        upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)


def test_its_errors_are_reported_in_its_own_words(
    package: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise RuntimeError("numpy 1.23 is needed")

    monkeypatch.setattr(sys.modules["audiox"], "get_pretrained_model", broken)
    with pytest.raises(AudioXError, match=r"failed to load .*numpy 1\.23 is needed"):
        upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)


def test_a_local_folder_is_for_the_native_engine(package: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="the hub, which has no 'my-model'"):
        upstream_get_pretrained_model("my-model", accept_cc_by_nc=True)


@pytest.mark.parametrize("name", ["AudioX-Turbo", "HKUSTAudio/AudioX-Turbo", "hkustaudio/audiox-turbo"])
def test_the_student_is_refused_before_anything_is_loaded(name: str, package: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=rf"cannot load {name}: .* Choose the engine native, or another model"
    ):
        upstream_get_pretrained_model(name)
    assert package == {}


def test_a_negative_prompt_is_refused_before_the_package_runs(package: dict[str, Any]) -> None:
    model, _ = upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)
    package.clear()
    request = audio_request(prompt="rain", negative_prompt="wind")
    with pytest.raises(InputError, match="cannot use a negative prompt, because the research package fails"):
        make_audio(model, request, generate=upstream_generate)
    for name in ("negative_conditioning", "negative_conditioning_tensors"):
        with pytest.raises(InputError, match="cannot use a negative prompt"):
            upstream_generate(model, conditioning=[{"text_prompt": "rain"}], **{name: [{}]})
    assert package == {}
    upstream_generate(model, conditioning=[{"text_prompt": "rain"}], negative_conditioning=None)
    assert "negative_conditioning" not in package


def test_missing_inputs_have_the_sizes_of_the_configuration(
    package: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = copy.deepcopy(CONFIG)
    video = next(c for c in config["model"]["conditioning"]["configs"] if c["id"] == "video_prompt")
    video["config"] |= {"sync_dim": 96, "video_fps": 8, "clip_config": {"image_size": 64, "patch_size": 32}}
    config["sample_rate"] = 16000
    monkeypatch.setattr(
        sys.modules["audiox"], "get_pretrained_model", lambda name: (torch.nn.Identity(), config)
    )
    model, _ = upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)
    upstream_generate(model, conditioning=[{"text_prompt": "rain"}])
    (prompt,) = package["conditioning"]
    assert prompt["video_prompt"]["video_tensors"].shape == (1, 80, 3, 64, 64)
    assert prompt["video_prompt"]["video_sync_frames"].shape == (1, 240, 96)
    assert prompt["audio_prompt"].shape == (1, 2, 160000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "0-1 rain\n1-end wind"}, "cannot follow a timeline"),
        (
            {"audio_prompt": (torch.zeros(2, 100), 8000), "audio_prompt_masking": False},
            "cannot use a whole audio",
        ),
        ({"edit": extension(torch.full((1, 2, 9000), 0.1), 8000, 1.0, "after")}, "cannot edit a track"),
        ({"prompt": "rain", "duration": 20.0}, "at most 11.00 s"),
        ({"prompt": "rain", "schedule": "karras"}, "cannot use the schedule karras"),
        ({"prompt": "rain", "guidance_end": 0.5}, "cannot guide only part of the steps"),
        ({"prompt": "rain", "reuse_threshold": 0.1}, "cannot reuse blocks of the network"),
        ({"prompt": "rain", "custom_sigmas": torch.tensor([1.0, 0.0])}, "cannot use a sampler or sigmas"),
        ({"prompt": "rain", "custom_sampler": print}, "cannot use a sampler or sigmas"),
        ({"prompt": "rain", "preset": "fast"}, "cannot use the sampler dpmpp-2m"),
    ],
)
def test_what_the_package_cannot_do_is_refused(
    changes: dict[str, Any], message: str, package: dict[str, Any]
) -> None:
    model, _ = upstream_get_pretrained_model("AudioX-MAF", accept_cc_by_nc=True)
    with pytest.raises(InputError, match=message):
        make_audio(model, audio_request(**changes), generate=upstream_generate)
