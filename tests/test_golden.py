"""The engine against answers computed by an independent implementation, in float32 on the CPU.

Tolerances are those of golden/README.md. One case is ill-conditioned, and its comment says so.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
import torch
from golden_cases import KINDS, assert_close_l2, frames, golden_path, relative_l2, sync, tone
from torch import Tensor

from audiox_ext.checkpoints.config_parser import parse_network_config
from audiox_ext.checkpoints.state_dict import read_tensors, shapes_of
from audiox_ext.conditioning import conditioners as conditioning_module
from audiox_ext.devices import DevicePlacement
from audiox_ext.networks.dit import DiffusionTransformer
from audiox_ext.networks.keys import published_shapes
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity

EXACT = 1e-5
GENERATED = {"generate.k-dpm-adaptive": 5e-3, "generate.inpaint_marinated": 2e-2}
PROMPTS = ("video_prompt", "text_prompt", "audio_prompt")


def cases(kind: str) -> dict[str, Any]:
    return json.loads(golden_path(f"{kind}/cases.json").read_text())["cases"]


def answers(kind: str) -> dict[str, Tensor]:
    return read_tensors(golden_path(f"{kind}/cases.safetensors"))


def prompt(case: dict[str, Any], rate: int) -> dict[str, Any]:
    conditioning: dict[str, Any] = {"text_prompt": case["prompt"]}
    if case["video_seed"] is not None:
        video = frames(50, case["video_seed"])[None].float()
        conditioning["video_prompt"] = {"video_tensors": video, "video_sync_frames": sync(case["sync_seed"])}
    if case["audio_f0"] is not None:
        conditioning["audio_prompt"] = tone(10, rate, case["audio_f0"])
    return conditioning


def all_generations() -> list[tuple[str, str]]:
    return [(kind, name) for kind in KINDS for name in cases(kind) if name.startswith("generate.")]


def encode(model: Any, case: dict[str, Any]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(case["seed"])
    with torch.no_grad():
        return model.encode_conditioning([prompt(case, model.sample_rate)], DevicePlacement("cpu"), generator)


def mel_rounding(model: Any, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> float:
    """How far the mel tokens are from those of a spectrogram in float64: rounding alone.

    The tone's leakage lies at 1e-7 of its peak, where a float32 FFT holds rounding only, and the logarithm
    lifts it. Which rounding depends on the processor's FFT, so no float32 implementation can agree with
    another machine's closer than this.
    """
    plain, exact = encode(model, case)["audio_prompt"], conditioning_module.log_mel

    def in_double(waveforms: Tensor, config: Any) -> Tensor:
        return exact(waveforms.double(), config).float()

    monkeypatch.setattr(conditioning_module, "log_mel", in_double)
    return relative_l2(plain, encode(model, case)["audio_prompt"])


@pytest.mark.parametrize("name", ["cond.full", "cond.text_only"])
@pytest.mark.parametrize("kind", KINDS)
def test_conditioning(kind: str, name: str, golden_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, case, expected = golden_model(kind), cases(kind)[name], answers(kind)
    tokens = encode(model, case)
    limit = EXACT
    if (kind, name) == ("maf", "cond.full"):
        limit += 2 * mel_rounding(model, case, monkeypatch)
    for prompt_name in PROMPTS:
        mel = prompt_name == "audio_prompt"
        assert_close_l2(tokens[prompt_name], expected[f"{name}.{prompt_name}"], limit if mel else EXACT)
    with torch.no_grad():
        context = model.assemble_context(tokens, DevicePlacement("cpu"))
    assert_close_l2(context, expected[f"{name}.cross_attn"], limit)


def test_mel_magnitudes_agree_before_the_logarithm(golden_model: Any) -> None:
    """The ill-conditioned case without its logarithm: the tokens solved for the spectrogram behind them."""
    model, case = golden_model("maf"), cases("maf")["cond.full"]
    layer = model.conditioner.conditioners["audio_prompt"].proj_features
    weight, bias = layer.weight.double(), layer.bias.double()

    def magnitudes(tokens: Tensor) -> Tensor:
        return torch.linalg.lstsq(weight, (tokens[0].double() - bias).T).solution.exp()

    expected = answers("maf")["cond.full.audio_prompt"]
    assert_close_l2(magnitudes(encode(model, case)["audio_prompt"]), magnitudes(expected), EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_network_and_guidance(kind: str, golden_model: Any) -> None:
    network, expected = golden_model(kind).network, answers(kind)
    x, t, context, negative = (expected[f"net.{name}"] for name in ("x", "t", "context", "negative"))
    with torch.no_grad():
        assert_close_l2(GuidedVelocity(network, context)(x, t), expected["net.v"], EXACT)
        guided = GuidedVelocity(network, context, guidance=Guidance(scale=7))
        assert_close_l2(guided(x, t), expected["net.v_cfg7"], EXACT)
        rescaled = GuidedVelocity(network, context, guidance=Guidance(scale=7, rescale=0.7))
        assert_close_l2(rescaled(x, t), expected["net.v_cfg7_phi0.7"], EXACT)
        against = GuidedVelocity(network, context, negative, Guidance(scale=5))
        assert_close_l2(against(x, t), expected["net.v_cfg5_negative"], EXACT)


def test_network_with_the_published_head_geometry() -> None:
    config = parse_network_config(json.loads(golden_path("wide/config.json").read_text()))
    state, expected = (
        read_tensors(golden_path("wide/network.safetensors")),
        answers("wide"),
    )
    network = DiffusionTransformer(config)
    assert shapes_of(state) == published_shapes(network)
    keys = network.state_dict().keys()
    network.load_state_dict({key: value.float() for key, value in state.items() if key in keys})
    with torch.no_grad():
        x, t, context = expected["x"], expected["t"], expected["context"]
        assert_close_l2(GuidedVelocity(network, context)(x, t), expected["v"], EXACT)
        guided = GuidedVelocity(network, context, guidance=Guidance(scale=7))
        assert_close_l2(guided(x, t), expected["v_cfg7"], EXACT)


@pytest.mark.parametrize(("kind", "name"), all_generations())
def test_generation(kind: str, name: str, golden_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, case, known = golden_model(kind), dict(cases(kind)[name]), cases(kind)
    case.pop("sampler", None)
    if name.startswith("generate.rf"):  # the multi-step teacher's sampling with the same weights
        monkeypatch.setattr(model, "config", dataclasses.replace(model.config, few_step_count=None))
    names = case.pop("conditioning")
    conditioning = [
        prompt(known[f"cond.{n}"], model.sample_rate) for n in ([names] if isinstance(names, str) else names)
    ]
    arguments = {**case, "conditioning": conditioning, "batch_size": len(conditioning)}
    if "negative_conditioning" in case:
        arguments["negative_conditioning"] = prompt(
            known[f"cond.{case['negative_conditioning']}"], model.sample_rate
        )
    if "init_audio" in case:
        init = case["init_audio"]
        rate = init["sample_rate"]
        arguments["init_audio"] = (rate, tone(init["seconds"], rate, init["tone_f0"]))
    result = generate_diffusion_cond(model, device="cpu", **arguments)
    assert_close_l2(result, answers(kind)[name], GENERATED.get(name, 5e-4))
