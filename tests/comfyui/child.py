"""Checks of the nodes inside ComfyUI's own process; test_in_process.py runs this with ComfyUI's interpreter.

    python child.py <ComfyUI checkout> <base directory> <pack folder>

Runs every function called check_*, and writes {name: "" or a traceback} as the last line.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import os
import sys
import time
import traceback
import weakref
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

COMFYUI, BASE, PACK = (Path(argument) for argument in sys.argv[1:4])
os.chdir(COMFYUI)
sys.path.insert(0, str(COMFYUI))
sys.argv = ["main.py", "--cpu", "--base-directory", str(BASE)]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

# What ComfyUI reads pyproject.toml with: a quarter second, with which it charges the first pack.
import comfy.model_management as mm  # noqa: E402
import comfy_config.config_parser  # noqa: E402, F401
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy_api.latest import Input, InputImpl, Types  # noqa: E402

import nodes as comfy_nodes  # noqa: E402

IDS = ["AudioXLoadModel", "AudioXExtractFeatures", "AudioXSample"]
SAMPLER = {
    "prompt": "rain",
    "negative_prompt": "",
    "duration": 1.0,
    "steps": 2,
    "cfg": 2.0,
    "sampler": "default",
    "sigma_min": 0.0,
    "sigma_max": 0.0,
    "seed": 5,
    "batch": 1,
}
EXTRACTOR = {"start": 0.0, "duration": 0.0, "resize": "squash", "fps": 24.0}


def pack(name: str) -> Any:
    """A module of the pack, as ComfyUI has imported it."""
    return sys.modules[f"{str(PACK).replace('.', '_x_')}.{name}"]


def run(node_id: str, **inputs: Any) -> Any:
    """Execute a node as ComfyUI does; returns its outputs."""
    node = comfy_nodes.NODE_CLASS_MAPPINGS[node_id]
    with torch.inference_mode():
        return node.PREPARE_CLASS_CLONE({}).EXECUTE_NORMALIZED(**inputs).result


def load(name: str, precision: str = "auto", accept: bool = False) -> Any:
    """A model through the loader node."""
    settings = {"precision": precision, "engine": "native", "accept_cc_by_nc": accept}
    return run("AudioXLoadModel", model=name, **settings)[0]


def sample(model: Any, **changes: Any) -> torch.Tensor:
    """The waveform of the sampler node."""
    return run("AudioXSample", model=model, **SAMPLER | changes)[0]["waveform"]


def message(call: Any) -> str:
    """What a call says when it fails with one of the pack's own errors."""
    try:
        call()
    except pack("audiox_ext.errors").AudioXError as error:
        return str(error)
    raise AssertionError("it should have failed")


def check_a_import_is_quick_and_light() -> None:
    start = time.process_time()
    assert asyncio.run(comfy_nodes.load_custom_node(str(PACK)))
    took = time.process_time() - start
    assert took < 0.1, f"{took:.3f} s"
    assert all(node_id in comfy_nodes.NODE_CLASS_MAPPINGS for node_id in IDS)
    for node_id in IDS:
        comfy_nodes.NODE_CLASS_MAPPINGS[node_id].GET_NODE_INFO_V1()
    root = str(PACK).replace(".", "_x_")
    engine = {name.removeprefix(root) for name in sys.modules if name.startswith(f"{root}.audiox_ext")}
    light = {".audiox_ext", ".audiox_ext.errors", ".audiox_ext.license", ".audiox_ext.catalog"}
    assert engine <= light, f"imported before a node runs: {sorted(engine - light)}"
    assert "audiox_ext" not in sys.modules
    assert not any(str(PACK) in place for place in sys.path)


def check_switched_off_registers_nothing() -> None:
    extension = pack("nodes.extension").AudioXExtension()
    os.environ["AUDIOX_DISABLE"] = "1"
    try:
        assert asyncio.run(extension.get_node_list()) == []
    finally:
        del os.environ["AUDIOX_DISABLE"]
    assert len(asyncio.run(extension.get_node_list())) == len(IDS)


def check_model_folders_keep_what_others_registered() -> None:
    host = pack("nodes.comfy_host")
    host.register_model_folders()
    extra = str(BASE / "elsewhere")
    folder_paths.add_model_folder_path("audiox", extra)
    folder_paths.add_model_folder_path("mmaudio", extra)
    host.register_model_folders()
    paths, extensions = folder_paths.folder_names_and_paths["audiox"]
    assert paths == [str(BASE / "models" / "audiox"), extra]
    assert extensions == {".safetensors", ".ckpt"}
    folders = host.model_folders()
    assert folders.audiox == (BASE / "models" / "audiox", BASE / "elsewhere")
    assert folders.synchformer == (BASE / "models" / "selva", BASE / "elsewhere", BASE / "models" / "mmaudio")
    assert folders.text_encoders[0] == BASE / "models" / "text_encoders"


def check_sampler_names_are_the_engines() -> None:
    sample(load("tiny-turbo"), steps=1)
    assert pack("nodes.audiox_sampler").SAMPLERS == pack("audiox_ext.sampling").SAMPLER_NAMES


def check_equal_loaders_share_a_model() -> None:
    first = load("tiny-maf")
    assert load("tiny-maf") is first
    assert load("tiny-maf", accept=True) is not first
    weights = BASE / "models" / "audiox" / "tiny-maf" / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert load("tiny-maf") is not first, "the file has changed"


def check_a_dropped_model_is_freed_at_once() -> None:
    handle = load("tiny-base", accept=True)
    sample(handle, steps=1)
    assert len(handle.get_models()) == len(handle.model.parts())
    gone = weakref.ref(handle.model)
    gc.disable()
    try:
        del handle
        assert gone() is None, "something refers to it in a circle"
    finally:
        gc.enable()


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
    asked: dict[str, Any] = {}

    def generate(model: Any, **arguments: Any) -> torch.Tensor:
        asked.update(arguments)
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
    assert asked["steps"] == 2
    assert asked["conditioning"][0]["text_prompt"] == "rain"


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


@contextlib.contextmanager
def unplaced() -> Any:
    """Keep load_models_gpu from completing the loading."""
    original, mm.load_models_gpu = mm.load_models_gpu, lambda *arguments, **settings: None
    try:
        yield
    finally:
        mm.load_models_gpu = original


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
    progress = pack("nodes.comfy_host").StepProgress
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


def sound(channels: int, samples: int, rate: int = 44100) -> dict[str, Any]:
    """An AUDIO of noise."""
    generator = torch.Generator().manual_seed(channels)
    return {"waveform": torch.rand(1, channels, samples, generator=generator) - 0.5, "sample_rate": rate}


def check_audio_prompts_of_all_kinds() -> None:
    handle = load("tiny-maf")
    cases = [(1, 44100, 44100), (6, 48000, 48000), (2, 8000, 8000), (2, 192000, 192000)]
    for channels, samples, rate in cases:
        assert sample(handle, audio_prompt=sound(channels, samples, rate), prompt="").isfinite().all()
    assert sample(handle, audio_prompt=None).isfinite().all(), "a video without sound gives None"


def check_bad_audio_prompts_are_explained() -> None:
    handle = load("tiny-maf")
    broken = sound(2, 1000)
    broken["waveform"][0, 0, 3] = float("nan")
    no_batch = sound(1, 100) | {"waveform": torch.zeros(0, 2, 100)}
    for value in (broken, sound(2, 0), sound(2, 100, 0), {"waveform": None}, "text", no_batch):
        assert len(message(lambda value=value: sample(handle, audio_prompt=value))) > 30


def video() -> Any:
    """The test video as LoadVideo gives it."""
    return InputImpl.VideoFromFile(str(BASE / "input" / "video.mp4"))


def check_features_of_a_video_in_every_form() -> None:
    model = load("tiny-maf")
    of_file, duration, fps = run("AudioXExtractFeatures", video=video(), model=model, **EXTRACTOR)
    assert (round(duration, 2), round(fps, 2)) == (3.0, 24.0)
    assert of_file.frames.shape == (50, 3, 224, 224)
    assert of_file.sync.shape[1] == 240
    content = io.BytesIO((BASE / "input" / "video.mp4").read_bytes())
    of_bytes = run("AudioXExtractFeatures", video=InputImpl.VideoFromFile(content), model=model, **EXTRACTOR)[
        0
    ]
    assert torch.equal(of_bytes.frames, of_file.frames)
    parts = video().get_components()
    components = InputImpl.VideoFromComponents(
        Types.VideoComponents(images=parts.images, frame_rate=Fraction(24), audio=None)
    )
    forms: list[dict[str, Any]] = [
        {"video": components},
        {"images": parts.images},
        {"images": parts.images, "fps": 1.0, "video_info": {"loaded_fps": 24.0, "source_fps": 60.0}},
    ]
    for form in forms:
        features, duration, fps = run("AudioXExtractFeatures", **EXTRACTOR | {"model": model} | form)
        assert (round(duration, 2), round(fps, 2)) == (3.0, 24.0)
        # Decoded twice by different code: the same pictures, up to rounding.
        difference = (features.frames.int() - of_file.frames.int()).abs().float().mean()
        assert difference < 3, float(difference)


def check_trim_and_crop_of_newer_comfyui() -> None:
    class Newer(InputImpl.VideoFromFile):
        """What ComfyUI after 0.3.64 adds to a video."""

        edits = False

        def get_active_trim_window(self) -> tuple[float, float]:
            return 1.0, 1.5

        def has_pending_frame_edits(self) -> bool:
            return self.edits

        def as_trimmed(self, start_time: float, duration: float, strict_duration: bool) -> Any:
            assert not strict_duration
            images = parts.images[24:][round(start_time * 24) :][: round(duration * 24)][..., :100, :]
            components = Types.VideoComponents(images=images, frame_rate=Fraction(24), audio=None)
            return InputImpl.VideoFromComponents(components)

    parts = video().get_components()
    trimmed = Newer(str(BASE / "input" / "video.mp4"))
    whole = run("AudioXExtractFeatures", video=video(), **EXTRACTOR)[0]
    features, duration, _ = run("AudioXExtractFeatures", video=trimmed, **EXTRACTOR)
    assert round(duration, 2) == 1.5
    assert torch.equal(features.frames[0], whole.frames[5])
    trimmed.edits = True
    features, duration, _ = run(
        "AudioXExtractFeatures", video=trimmed, **EXTRACTOR | {"start": 0.5, "duration": 1.0}
    )
    assert round(duration, 2) == 1.0


def check_no_encoding_to_memory_for_other_videos() -> None:
    class Other(Input.Video):
        """A pack's own video, which has no stream."""

        def get_components(self) -> Any:
            return SimpleNamespace(images=torch.rand(24, 20, 30, 3), frame_rate=Fraction(12))

        def save_to(self, *arguments: Any, **settings: Any) -> None:
            raise AssertionError("not asked for")

    assert round(run("AudioXExtractFeatures", video=Other(), **EXTRACTOR)[1], 2) == 2.0


def check_long_videos_count_as_far_as_the_model_looks() -> None:
    images = torch.rand(30, 8, 8, 1)
    duration = run("AudioXExtractFeatures", **EXTRACTOR | {"images": images, "fps": 1.0})[1]
    assert duration == 10.0


def check_features_come_from_the_disk_the_second_time() -> None:
    encoder = pack("nodes.sync_encoder")
    model = load("tiny-maf")
    settings = EXTRACTOR | {"start": 0.25}
    first = run("AudioXExtractFeatures", video=video(), model=model, **settings)[0]
    kept = list((Path(folder_paths.get_user_directory()) / "audiox_cache" / "features").glob("*.safetensors"))
    assert kept
    encoder._last.clear()
    original, encoder._load = encoder._load, None
    try:
        start = time.perf_counter()
        second = run("AudioXExtractFeatures", video=video(), model=model, **settings)[0]
        assert time.perf_counter() - start < 1
    finally:
        encoder._load = original
    assert torch.equal(first.sync, second.sync)
    assert torch.equal(first.frames, second.frames)


def check_synchformer_is_wanted_only_where_it_is_used() -> None:
    for place in (BASE / "models" / "audiox").glob("*/synchformer*"):
        place.rename(place.with_suffix(".hidden") if place.is_file() else place.with_name("hidden"))
    try:
        features = run("AudioXExtractFeatures", video=video(), **EXTRACTOR)[0]
        assert features.sync is None
        text = message(
            lambda: run("AudioXExtractFeatures", video=video(), model=load("tiny-maf"), **EXTRACTOR)
        )
        assert "No Synchformer weights" in text
        assert "tiny-maf" in text
        text = message(lambda: sample(load("tiny-maf"), features=features))
        assert "Synchformer" in text
        assert sample(load("tiny-base"), features=features).isfinite().all()
    finally:
        for place in (BASE / "models" / "audiox").glob("*/*hidden*"):
            place.rename(
                place.with_suffix(".safetensors") if place.is_file() else place.with_name("synchformer")
            )


def main() -> None:
    """Run the checks in the order of the file; the first one loads the pack."""
    results = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            start = time.monotonic()
            try:
                check()
                results[name] = ""
            except BaseException:
                results[name] = traceback.format_exc()
            sys.stderr.write(f"{time.monotonic() - start:6.1f} s {name}\n")
    sys.stdout.write("\n" + json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
