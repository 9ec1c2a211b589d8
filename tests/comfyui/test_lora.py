"""Tests of LoRAs in a real ComfyUI server: several in one graph, and unusable ones."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from .comfy_server import ComfyServer, Prompt, RefusedError, get_files

pytestmark = [pytest.mark.server, pytest.mark.slow]

WIND = str(Path("more", "wind.safetensors"))


def lora_node(model: str, name: str, strength: float = 1.0) -> dict[str, object]:
    """The node that adds a LoRA to the output of node `model`."""
    inputs = {"model": [model, 0], "lora_name": name, "strength": strength}
    return {"class_type": "AudioXLoadLora", "inputs": inputs}


def generate(server: ComfyServer, prompt: Prompt) -> dict[str, torch.Tensor]:
    """Run a prompt; returns the waveform that each saving node wrote."""
    from audiox_ext.media.audio_video import read_audio

    entry = server.run(prompt)
    return {
        node: read_audio(io.BytesIO(server.view(output["audio"][0])))[0]
        for node, output in entry["outputs"].items()
    }


def test_each_sampler_hears_its_own_loras(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    """One graph with the model, with one LoRA, with two, and with strength 0; then each alone."""
    whole = example("text_to_audio", "tiny-maf", seed=8)
    whole["10"] = lora_node("1", "rain.safetensors")
    whole["20"] = lora_node("10", WIND, -0.5)
    whole["30"] = lora_node("1", "rain.safetensors", 0.0)
    for model in ("10", "20", "30"):
        sampler, saver = f"{model}2", f"{model}3"
        whole[sampler] = {**whole["2"], "inputs": {**whole["2"]["inputs"], "model": [model, 0]}}
        whole[saver] = {**whole["3"], "inputs": {**whole["3"]["inputs"], "audio": [sampler, 0]}}
    together = generate(server, whole)
    plain, one, two, off = (together[node] for node in ("3", "103", "203", "303"))
    assert torch.equal(plain, off)
    assert min(float((a - b).abs().max()) for a, b in ((plain, one), (one, two), (plain, two))) > 0.01
    for model, expected in (("20", two), ("1", plain), ("10", one)):
        server.post("/free", {"unload_models": True, "free_memory": True})
        alone = example("text_to_audio", "tiny-maf", seed=8)
        alone |= {node: whole[node] for node in ("10", "20")}
        alone["2"]["inputs"]["model"] = [model, 0]
        assert torch.equal(generate(server, alone)["3"], expected)
    assert "memory leak" not in server.log
    assert "lora key not lora_node" not in server.log


def test_what_is_refused_is_said(server: ComfyServer, example: Callable[..., Prompt]) -> None:
    prompt = example("text_to_audio", "tiny-maf")
    prompt["10"] = lora_node("1", "filters.safetensors")
    prompt["2"]["inputs"]["model"] = ["10", 0]
    assert "was trained on tiny-mmdit (mmdit) and does not fit tiny-maf (maf)" in server.fail(prompt)
    prompt["10"] = lora_node("1", "nc.safetensors")
    assert "accept_cc_by_nc" in server.fail(prompt)
    prompt["1"]["inputs"]["accept_cc_by_nc"] = True
    server.run(prompt)
    with pytest.raises(RefusedError, match="strength"):
        server.queue(prompt | {"10": lora_node("1", "rain.safetensors", 4.5)})
    assert "rain.safetensors" in list_loras(server)
    assert get_files(server.run(prompt))


def list_loras(server: ComfyServer) -> list[str]:
    """The choices of the LoRA loader."""
    info = server.get("/object_info/AudioXLoadLora")["AudioXLoadLora"]
    return info["input"]["required"]["lora_name"][1]["options"]
