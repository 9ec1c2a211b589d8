"""Checks of loaded models: memory, precision, partial loading, cancelling and misuse."""

from __future__ import annotations

import gc
import json
import math
import sys
import weakref
from types import SimpleNamespace
from typing import Any

from in_comfyui import BASE, EXTRACTOR, load, message, pack, run, sample, sound, unplaced, video  # isort: split

import comfy.model_management as mm
import torch


def check_a_dropped_model_is_freed_at_once() -> None:
    handle = load("tiny-base", accept=True)
    sample(handle, steps=1)
    assert len(handle.get_models()) == len(handle.model.parts())
    reference = weakref.ref(handle.model)
    gc.disable()
    try:
        del handle
        assert reference() is None, "a reference cycle holds it"
    finally:
        gc.enable()


def check_a_model_is_a_short_word_in_error_messages() -> None:
    text = str(load("tiny-maf"))
    assert len(text) < 300, f"{len(text)} characters"
    assert "tiny-maf" in text


def check_auto_precision_stays_with_whole_formats() -> None:
    precisions, flagged = pack("nodes.comfy.precision"), mm.unet_dtype
    cases = [
        (torch.float8_e4m3fn, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ]
    try:
        for dtype, expected in cases:
            mm.unet_dtype = lambda *arguments, dtype=dtype: dtype
            chosen = precisions.choose_precision("auto")
            assert chosen.weights == expected, dtype
            assert chosen.compute in (torch.bfloat16, torch.float32)
    finally:
        mm.unet_dtype = flagged
    assert precisions.choose_precision("fp16").weights == torch.float16, "when it is chosen"


def check_precisions_all_run() -> None:
    exact = sample(load("tiny-maf", "fp32"))
    for precision, dtype in (("auto", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        handle = load("tiny-maf", precision)
        assert handle.model.network.preprocess_conv.weight.dtype == dtype, precision
        assert {p.dtype for p in handle.model.pretransform.parameters()} == {torch.float32}
        waveform = sample(handle)
        error = float((waveform - exact).norm() / exact.norm())
        assert error < 0.3, f"{precision}: {error}"


def check_engine_of_the_research_package() -> None:
    settings = {"model": "AudioX-MAF", "precision": "auto", "engine": "audiox", "accept_cc_by_nc": True}
    assert "research package" in message(lambda: run("AudioXLoadModel", **settings))
    arguments_received: dict[str, Any] = {}

    def generate(model: Any, **arguments: Any) -> torch.Tensor:
        arguments_received.update(arguments)
        arguments["callback"]({"i": 0, "sigma": 1.0, "denoised": torch.zeros(1, 8, 320)})
        return torch.rand(arguments["batch_size"], 2, arguments["sample_size"])

    config = json.loads((BASE / "models" / "audiox" / "tiny-maf" / "config.json").read_text())
    package = SimpleNamespace(
        get_pretrained_model=lambda name: (torch.nn.Identity(), config), generate_diffusion_cond=generate
    )
    sys.modules["audiox"] = package
    try:
        handle = run("AudioXLoadModel", **settings)[0]
        assert handle.get_models() == []
        assert sample(handle, batch=2).shape == (2, 2, 16000)
    finally:
        del sys.modules["audiox"]
    assert arguments_received["steps"] == 2
    assert arguments_received["conditioning"][0]["text_prompt"] == "rain"


def check_output_is_plain_audio() -> None:
    waveform = sample(load("tiny-maf"), batch=2)
    assert waveform.shape == (2, 2, 16000)
    assert waveform.dtype == torch.float32
    assert waveform.device.type == "cpu"
    assert waveform.is_contiguous()
    assert not torch.equal(waveform[0], waveform[1])


def check_a_partly_loaded_network_computes_the_same() -> None:
    for name, precision in (("tiny-maf", "fp32"), ("tiny-maf", "bf16"), ("tiny-mmdit", "fp32")):
        handle = load(name, precision)
        whole = sample(handle, steps=1)
        patcher = handle.placement._patchers["network"]
        patcher.detach()
        # What load_models_gpu does when the card has room for a third of the weights.
        patcher.patch_model(lowvram_model_memory=patcher.model_size() // 3)
        assert patcher.model.model_lowvram
        left = [m for m in patcher.model.modules() if getattr(m, "prev_comfy_cast_weights", None) is False]
        assert left or precision == "bf16", "some layers must be cast when they are used"
        with unplaced():
            part = sample(handle, steps=1)
        torch.testing.assert_close(part, whole)
        patcher.detach()


def check_every_weight_of_the_network_can_be_cast() -> None:
    for name in ("tiny-maf", "tiny-mmdit", "tiny-turbo", "tiny-base"):
        network = load(name).model.network
        plain = {
            type(module).__name__
            for module in network.modules()
            if list(module.parameters(recurse=False)) and not hasattr(module, "comfy_cast_weights")
        }
        # These two cast their small weights to the input themselves.
        assert plain <= {"FourierFeatures", "GammaNorm"}, f"{name}: {plain} would stay on the CPU"


def check_a_cancelled_run_leaves_the_model_usable() -> None:
    handle = load("tiny-maf")
    before = sample(handle)
    progress = pack("nodes.comfy.progress").StepProgress
    original = progress.__call__

    def cancel(self: Any, info: Any) -> None:
        mm.interrupt_current_processing(True)
        original(self, info)

    progress.__call__ = cancel
    try:
        sample(handle)
        raise AssertionError("it should have been interrupted")
    except mm.InterruptProcessingException:
        pass
    finally:
        progress.__call__ = original
        mm.interrupt_current_processing(False)
    assert torch.equal(sample(handle), before)


def check_foreign_objects_are_named() -> None:
    for value, kind in (({"a": 1}, "dict"), (torch.nn.Identity(), "Identity"), (None, "NoneType")):
        text = message(lambda value=value: sample(value))
        assert kind in text
        assert "AudioX Model Loader of this pack" in text
    text = message(lambda: sample(load("tiny-maf"), features={"sync": 1}))
    assert "AudioX Feature Extractor of this pack" in text
    assert "dict" in message(lambda: run("AudioXExtractFeatures", model={}, video=video(), **EXTRACTOR))


def check_audio_prompts_of_all_kinds() -> None:
    handle = load("tiny-maf")
    cases = [(1, 44100, 44100), (6, 48000, 48000), (2, 8000, 8000), (2, 192000, 192000)]
    for channels, samples, rate in cases:
        assert sample(handle, audio_prompt=sound(channels, samples, rate), prompt="").isfinite().all()
    text = message(lambda: sample(handle, audio_prompt=None))
    assert text.startswith("audio_prompt is None"), "a video without sound gives None"


def check_bad_audio_prompts_are_explained() -> None:
    handle = load("tiny-maf")
    broken = sound(2, 1000)
    broken["waveform"][0, 0, 3] = float("nan")
    no_batch = sound(1, 100) | {"waveform": torch.zeros(0, 2, 100)}
    values = [broken, sound(2, 0), sound(9, 100), {"waveform": None}, "text", no_batch]
    values += [
        sound(2, 100) | {"sample_rate": rate} for rate in (0, -1, 44100.5, math.nan, math.inf, "44100")
    ]
    for value in values:
        text = message(lambda value=value: sample(handle, audio_prompt=value))
        assert text.startswith("audio_prompt"), text
        assert len(text) > 30
    whole = sound(2, 44100)
    assert torch.equal(
        sample(handle, audio_prompt=whole), sample(handle, audio_prompt=whole | {"sample_rate": 44100.0})
    )
