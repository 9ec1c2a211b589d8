"""Memory in windows: what a run takes and frees, smaller passes where it runs out, and cancelling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from forked_runs import measure_in_copies
from golden_cases import golden_path, relative_l2, tone
from torch import Tensor
from window_inputs import native

from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.devices import DevicePlacement
from audiox_ext.errors import InputError
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.guidance import Guidance, GuidedVelocity
from audiox_ext.sampling.windows import plan_windows


def limit_memory(model: Any, monkeypatch: Any, max_items: int) -> list[int]:
    """Let the network fail for more than `max_items` items. Returns the list of its batch sizes."""
    sizes: list[int] = []
    forward = model.network.forward

    def limited(x: Tensor, *rest: Any) -> Tensor:
        sizes.append(len(x))
        if len(x) > max_items:
            raise torch.OutOfMemoryError("no memory")
        return forward(x, *rest)

    monkeypatch.setattr(model.network, "forward", limited)
    return sizes


def test_out_of_memory_halves_the_windows_once(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    arguments: dict[str, Any] = {
        "seed": 1,
        "steps": 2,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
        "device": "cpu",
        "return_latents": True,
    }
    plain = generate_diffusion_cond(model, **arguments)
    sizes = limit_memory(model, monkeypatch, max_items=2)
    assert relative_l2(generate_diffusion_cond(model, **arguments), plain) < 1e-4
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}
    limit_memory(model, monkeypatch, max_items=1)
    with pytest.raises(InputError, match=r"Lower the batch or window_batch"):
        generate_diffusion_cond(model, **arguments)


def test_a_single_window_without_memory_gets_a_sentence_too(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    limit_memory(model, monkeypatch, max_items=0)
    with pytest.raises(InputError, match=r"while the sound was made\. Lower the batch, load the model"):
        generate_diffusion_cond(model, steps=1, conditioning={"text_prompt": "a"}, device="cpu")


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("kind", ["base", "maf", "mmdit"])
def test_the_pair_in_two_passes(kind: str, negative: bool, golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model(kind)
    arguments: dict[str, Any] = {
        "seed": 1,
        "steps": 3,
        "cfg_scale": 5,
        "scale_phi": 0.5,
        "conditioning": {"text_prompt": "a"},
        "negative_conditioning": {"text_prompt": "b"} if negative else None,
        "batch_size": 2,
        "device": "cpu",
        "return_latents": True,
    }
    sizes = limit_memory(model, monkeypatch, max_items=4)
    plain = generate_diffusion_cond(model, **arguments)
    assert set(sizes) == {4}
    sizes.clear()
    split = generate_diffusion_cond(model, split_guidance=True, **arguments)
    assert set(sizes) == {2}
    assert relative_l2(split, plain) < 1e-5
    # Running out of memory for the pair gives the same result.
    sizes = limit_memory(model, monkeypatch, max_items=2)
    assert torch.equal(generate_diffusion_cond(model, **arguments), split)
    assert sizes[0] == 4
    assert set(sizes[1:]) == {2}
    limit_memory(model, monkeypatch, max_items=1)
    with pytest.raises(InputError, match=r"made, also with guidance in two passes\. Lower the batch, load"):
        generate_diffusion_cond(model, **arguments)


def test_two_passes_are_one_pass(golden_model: Any) -> None:
    for kind in ("base", "maf", "mmdit"):
        network = golden_model(kind).network
        expected = read_tensors(golden_path(f"{kind}/cases.safetensors"))
        x, t, context, negative = (expected[f"net.{name}"] for name in ("x", "t", "context", "negative"))
        for other in (None, negative):
            with torch.no_grad():
                guidance = Guidance(scale=5, rescale=0.7)
                once = GuidedVelocity(network, context, other, guidance)(x, t)
                twice = GuidedVelocity(network, context, other, replace(guidance, split=True))(x, t)
            assert relative_l2(twice, once) < 1e-6


def test_long_sounds_without_memory_go_on_piece_by_piece_in_two_passes(
    golden_model: Any, monkeypatch: Any
) -> None:
    model = golden_model("maf")
    arguments: dict[str, Any] = {
        "seed": 1,
        "steps": 2,
        "cfg_scale": 3,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
        "device": "cpu",
        "return_latents": True,
    }
    plain = generate_diffusion_cond(model, **arguments)
    sizes = limit_memory(model, monkeypatch, max_items=1)
    assert relative_l2(generate_diffusion_cond(model, **arguments), plain) < 1e-4
    assert sizes[:2] == [8, 4]
    assert set(sizes[2:]) == {1}


class RecordingPlacement(DevicePlacement):
    """Records what is asked of it, and is cancelled at a given check."""

    def __init__(self, cancel_at: int = -1) -> None:
        super().__init__("cpu")
        self.checks, self.freed, self.cancel_at = 0, [], cancel_at

    def check_cancelled(self) -> None:
        self.checks += 1
        if self.checks == self.cancel_at:
            raise RuntimeError("interrupted")

    def free_memory(self, *, models: bool = False) -> None:
        self.freed.append(models)


def test_models_are_let_go_only_when_the_run_ends(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    arguments: dict[str, Any] = {
        "steps": 2,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
    }
    for max_items, freed in ((2, [False]), (1, [False, True])):
        placement = RecordingPlacement()
        monkeypatch.setattr(model, "placement", placement)
        with monkeypatch.context() as patch:
            limit_memory(model, patch, max_items)
            if len(freed) == 1:
                generate_diffusion_cond(model, **arguments)
            else:
                with pytest.raises(InputError):
                    generate_diffusion_cond(model, **arguments)
        assert placement.freed == freed


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (
            "decoder",
            r"while the sound was decoded, also in small pieces\. Lower the batch or the duration, or",
        ),
        ("encoder", r"while the sound to start from was encoded, also .* shorten that sound, or free"),
        ("conditioner", r"while the prompts were encoded\. Lower the batch, or free"),
    ],
)
def test_memory_that_runs_out_beside_the_network_gets_a_sentence(
    golden_model: Any, monkeypatch: Any, part: str, message: str
) -> None:
    model, placement = golden_model("turbo"), RecordingPlacement()
    model.prompt_cache.clear()  # other tests share the model
    monkeypatch.setattr(model, "placement", placement)
    module = model.conditioner.conditioners["video_prompt"]
    if part != "conditioner":
        module = model.pretransform.model[part]
    arguments: dict[str, Any] = {"steps": 1, "conditioning": {"text_prompt": "a"}}
    arguments["init_audio"] = (8000, tone(2.0, 8000, 220.0))
    error = RuntimeError("MPS backend out of memory")

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(module, "forward", fail)
    with pytest.raises(InputError, match=message):
        generate_diffusion_cond(model, **arguments)
    assert placement.freed == ([True] if part == "conditioner" else [False, True])
    placement.freed.clear()
    error = RuntimeError("interrupted")
    with pytest.raises(RuntimeError, match="interrupted"):
        generate_diffusion_cond(model, **arguments)
    assert placement.freed == []


def test_a_long_run_can_be_cancelled_at_every_pass(golden_model: Any, monkeypatch: Any) -> None:
    model = golden_model("turbo")
    arguments: dict[str, Any] = {
        "steps": 2,
        "sample_size": 520 * 512,
        "conditioning": {"text_prompt": "a"},
        "window_batch": 1,
    }
    windows = len(plan_windows(520, native(model)).starts)
    monkeypatch.setattr(model, "placement", RecordingPlacement())
    generate_diffusion_cond(model, **arguments)
    assert model.placement.checks >= 2 * windows
    monkeypatch.setattr(model, "placement", RecordingPlacement(cancel_at=windows - 1))
    with pytest.raises(RuntimeError, match="interrupted"):
        generate_diffusion_cond(model, **arguments)
    assert model.placement.freed == []


# MiB that the making of latents adds to the process at its peak. The latents themselves are 1 kB/s.
MEASURE = """
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.sampling.windows import WindowedVelocity

# What is kept of contexts is bounded; the bound is as small here as the model is.
WindowedVelocity.__init__.__kwdefaults__["prepared_limit"] = 8 * 2**20

def measure(seconds, at_once):
    model, _ = get_pretrained_model(sys.argv[2])
    size = seconds * 16000 // 512 * 512
    before = resident("VmHWM")
    generate_diffusion_cond(model, seed=1, sample_size=size, conditioning={"text_prompt": "a"},
                            device="cpu", return_latents=True, window_batch=at_once)
    return (resident("VmHWM") - before) // 2**20
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_memory_hardly_grows_with_length(tiny_folder: Any) -> None:
    """180 s take within 1.5 times what 30 s take; with all windows at once they would not."""
    sizes = ((30, 2), (180, 2), (180, 100))
    short, long, unbounded = measure_in_copies(MEASURE, sizes, tiny_folder("turbo"), exact=True)
    assert long <= 1.5 * short
    assert unbounded > 1.5 * short
