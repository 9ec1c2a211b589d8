"""The prompt cache encodes equal prompts once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_cases import frames, sync, tone
from torch import Tensor, nn

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.conditioning.prompt_cache import PromptCache
from audiox_ext.devices import DevicePlacement
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.random_numbers import RandomNumbers


class Counted:
    """Count how often the conditioners of a model have run since the last call."""

    def __init__(self, model: Any) -> None:
        self._runs: dict[str, int] = {}
        for name, module in model.conditioner.conditioners.items():
            module.register_forward_hook(lambda *_, name=name: self._count(name))

    def _count(self, name: str) -> None:
        self._runs[name] = self._runs.get(name, 0) + 1

    def __call__(self) -> dict[str, int]:
        runs, self._runs = self._runs, {}
        return runs


@pytest.fixture
def loaded(tiny_folder: Any) -> tuple[Any, Counted]:
    model, _ = get_pretrained_model(tiny_folder("maf"))
    return model, Counted(model)


def prompt(text: str = "rain", seed: int = 1) -> dict[str, Any]:
    """Equal content in new objects, as a node makes them."""
    video = {"video_tensors": frames(50, seed)[None].float(), "video_sync_frames": sync(seed).repeat(1, 1, 2)}
    return {"text_prompt": text, "video_prompt": video, "audio_prompt": tone(10, 16000, 440)}


def make(model: Any, seed: int = 1, **settings: Any) -> Tensor:
    arguments = {"conditioning": prompt(), "steps": 2, "device": "cpu", "seed": seed, **settings}
    return generate_diffusion_cond(model, **arguments)


def test_a_second_run_encodes_only_prompts_that_draw_random_numbers(loaded: Any) -> None:
    model, counted = loaded
    first = make(model)
    assert counted() == {"video_prompt": 1, "text_prompt": 1, "audio_prompt": 1}
    again = make(model)
    assert counted() == {"audio_prompt": 1}
    assert torch.equal(first, again)
    other = make(model, seed=2)
    assert counted() == {"audio_prompt": 1}
    model.prompt_cache.clear()
    assert torch.equal(other, make(model, seed=2))
    assert counted() == {"video_prompt": 1, "text_prompt": 1, "audio_prompt": 1}


def test_different_prompts_are_encoded(loaded: Any) -> None:
    model, counted = loaded
    make(model)
    counted()
    make(model, conditioning=prompt(text="hail"))
    assert counted() == {"text_prompt": 1, "audio_prompt": 1}
    make(model, conditioning=prompt(seed=2))
    assert counted() == {"video_prompt": 1, "audio_prompt": 1}
    without = {key: value for key, value in prompt().items() if key != "video_prompt"}
    make(model, conditioning=without)
    assert counted() == {"video_prompt": 1, "audio_prompt": 1}
    make(model, batch_size=2)  # a batch of one prompt is that prompt
    assert counted() == {"audio_prompt": 1}


@pytest.mark.parametrize("change", ["written", "replaced"])
def test_changed_weights_invalidate_the_cache(change: str, loaded: Any) -> None:
    model, counted = loaded
    make(model)
    counted()
    layer = model.conditioner.conditioners["video_prompt"].proj
    with torch.no_grad():
        if change == "written":
            layer.weight.mul_(2)
        else:
            layer.weight = nn.Parameter(layer.weight * 2)
    make(model)
    assert counted() == {"video_prompt": 1, "audio_prompt": 1}


def test_gradients_and_training_bypass_the_cache(loaded: Any) -> None:
    model, counted = loaded
    conditioner = model.conditioner.conditioners["video_prompt"].requires_grad_(True)
    for _ in range(2):
        with torch.enable_grad():
            tokens = model.encode_windows([[prompt()]], DevicePlacement("cpu"), RandomNumbers.from_seeds([1]))
        assert tokens[0]["video_prompt"].requires_grad
    assert counted()["video_prompt"] == 2
    conditioner.train()
    for _ in range(2):
        make(model)
    assert counted()["video_prompt"] == 2


def test_returned_tokens_can_be_changed(loaded: Any) -> None:
    model, _ = loaded

    def encode() -> Tensor:
        with torch.inference_mode():
            encoded = model.encode_windows(
                [[prompt()]], DevicePlacement("cpu"), RandomNumbers.from_seeds([1])
            )
            return encoded[0]["text_prompt"]

    first = encode()
    before = first.clone()
    with torch.inference_mode():
        first += 1
        encode().mul_(3)
    assert torch.equal(encode(), before)
    # Made in inference mode, used outside of it.
    assert torch.equal(make(model), make(model))


def test_the_least_recently_used_entry_is_dropped_first() -> None:
    cache = PromptCache(limit=3 * 40)
    for number in range(3):
        cache.put(number, torch.full((10,), float(number)))
    assert cache.get(0) is not None  # now younger than 1
    cache.put(3, torch.full((10,), 3.0))
    entries = [cache.get(number) for number in range(4)]
    assert [None if tokens is None else float(tokens[0]) for tokens in entries] == [0.0, None, 2.0, 3.0]
    cache.put(4, torch.zeros(31))  # larger than the whole cache
    assert all(cache.get(number) is None for number in range(5))
