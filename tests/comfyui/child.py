"""Checks of the nodes inside ComfyUI's own process; test_in_process.py runs this with ComfyUI's interpreter.

    python child.py <ComfyUI checkout> <base directory> <pack folder>

Runs every function called check_* here and in the modules checks_*, and writes {name: "" or a traceback} as
the last line.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import io
import json
import logging
import math
import os
import shutil
import sys
import time
import traceback
import weakref
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# First of all: it makes ComfyUI's modules importable.
from in_comfyui import (
    BASE,
    EXTRACTOR,
    IDS,
    PACK,
    load,
    message,
    pack,
    run,
    sample,
    sound,
    unplaced,
    video,
)  # isort: split

import comfy.model_management as mm
import folder_paths
import torch
from comfy_api.latest import Input, InputImpl, Types

import nodes as comfy_nodes


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
    light = {".audiox_ext", ".audiox_ext.errors", ".audiox_ext.license", ".audiox_ext.checkpoints.catalog"}
    assert engine <= light, f"imported before a node runs: {sorted(engine - light)}"
    assert "audiox_ext" not in sys.modules
    assert not any(str(PACK) in place for place in sys.path)


def check_switched_off_registers_nothing() -> None:
    extension = pack("nodes.extension").AudioXExtension()
    try:
        for value, count in (("1", 0), ("true", 0), ("Yes", 0), ("on", 0), ("0", len(IDS)), ("", len(IDS))):
            os.environ["AUDIOX_DISABLE"] = value
            assert len(asyncio.run(extension.get_node_list())) == count, value
    finally:
        del os.environ["AUDIOX_DISABLE"]
    assert len(asyncio.run(extension.get_node_list())) == len(IDS)


def check_model_folders_keep_what_others_registered() -> None:
    host = pack("nodes.comfy.host")
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
    assert pack("nodes.audiox_sampler").SAMPLERS == pack("audiox_ext.config").SAMPLER_NAMES


def check_equal_loaders_share_a_model() -> None:
    first = load("tiny-maf")
    assert load("tiny-maf") is first
    assert load("tiny-maf", accept=True) is not first
    weights = BASE / "models" / "audiox" / "tiny-maf" / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert load("tiny-maf") is not first, "the file has changed"


def loader_fingerprint(name: str) -> Any:
    """What ComfyUI compares for a loader of this model."""
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXLoadModel"]
    return node.fingerprint_inputs(model=name, precision="auto", engine="native", accept_cc_by_nc=True)


def extractor_fingerprint() -> Any:
    """What ComfyUI compares for an extractor; inputs that are linked are None then."""
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXExtractFeatures"]
    return node.fingerprint_inputs(video=None, model=None, **EXTRACTOR)


def check_only_files_that_are_read_change_a_fingerprint() -> None:
    folder = BASE / "models" / "audiox" / "tiny-maf"
    before = loader_fingerprint("tiny-maf")
    beside = [folder / ".DS_Store", folder / ".cache" / "huggingface" / "model.lock", folder / "notes.txt"]
    for path in beside:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
        assert loader_fingerprint("tiny-maf") == before, path.name
        path.unlink()
    read = [
        "config.json",
        "model.safetensors",
        "text_encoder/model.safetensors",
        "text_encoder/tokenizer.json",
    ]
    for name in read:
        os.utime(folder / name, ns=(2, 2))
        assert loader_fingerprint("tiny-maf") != before, name
        before = loader_fingerprint("tiny-maf")
    assert loader_fingerprint("no such model") == loader_fingerprint("no such model")


def check_a_fetched_model_is_not_loaded_again() -> None:
    models = BASE / "models" / "audiox"
    with hidden_synchformers(), fetching(models / "tiny-maf"):
        stamps = pack("nodes.shared.fingerprints")
        stamps._done_without_synchformer = False
        before = loader_fingerprint("AudioX-MAF"), extractor_fingerprint()
        handle = load("AudioX-MAF", accept=True)
        assert (models / "AudioX-MAF" / "synchformer_state_dict.safetensors").is_file()
        assert (loader_fingerprint("AudioX-MAF"), extractor_fingerprint()) == before
        assert load("AudioX-MAF", accept=True) is handle
        for name in ("model.safetensors", "synchformer_state_dict.safetensors"):
            os.utime(models / "AudioX-MAF" / name, ns=(3, 3))
        assert loader_fingerprint("AudioX-MAF") != before[0]
        assert extractor_fingerprint() != before[1]


def check_features_without_sync_are_made_anew_once_a_fetch_brings_the_weights() -> None:
    with hidden_synchformers(), fetching(BASE / "models" / "audiox" / "tiny-maf"):
        before = extractor_fingerprint()
        assert run("AudioXExtractFeatures", video=video(), **EXTRACTOR)[0].sync is None
        handle = load("AudioX-MAF", accept=True)
        assert extractor_fingerprint() != before
        assert run("AudioXExtractFeatures", video=video(), model=handle, **EXTRACTOR)[0].sync is not None


@contextlib.contextmanager
def fetching(source: Path) -> Any:
    """Make the hub's files those of a local model; what was fetched goes afterwards."""
    import huggingface_hub

    targets: list[str] = []

    def download(repo_id: str, local_dir: str, **settings: Any) -> str:
        shutil.copytree(source, local_dir, dirs_exist_ok=True)
        for path in Path(local_dir).glob("*.hidden"):
            path.rename(path.with_suffix(".safetensors"))
        targets.append(local_dir)
        return local_dir

    def listing(repo_id: str) -> Any:
        names = (path for path in source.rglob("*") if path.is_file() and path.suffix != ".hidden")
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=str(path.relative_to(source))) for path in names]
        )

    originals = huggingface_hub.snapshot_download, huggingface_hub.model_info
    huggingface_hub.snapshot_download, huggingface_hub.model_info = download, listing
    try:
        yield
    finally:
        huggingface_hub.snapshot_download, huggingface_hub.model_info = originals
        for target in targets:
            shutil.rmtree(target)
    assert len(targets) == 1, "fetched once"


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


def check_a_model_is_a_short_word_in_error_messages() -> None:
    text = str(load("tiny-maf"))
    assert len(text) < 300, f"{len(text)} characters"
    assert "tiny-maf" in text


def check_auto_precision_stays_with_whole_formats() -> None:
    host, flagged = pack("nodes.comfy.host"), mm.unet_dtype
    cases = [
        (torch.float8_e4m3fn, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (torch.float64, torch.float32),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ]
    try:
        for dtype, wanted in cases:
            mm.unet_dtype = lambda *arguments, dtype=dtype: dtype
            chosen = host.network_precision("auto")
            assert chosen.weights == wanted, dtype
            assert chosen.compute in (torch.bfloat16, torch.float32)
    finally:
        mm.unet_dtype = flagged
    assert host.network_precision("fp16").weights == torch.float16, "when it is chosen"


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
    progress = pack("nodes.comfy.host").StepProgress
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
    assert sample(handle, audio_prompt=None).isfinite().all(), "a video without sound gives None"


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
    trimmed.as_trimmed = lambda *arguments, **settings: None
    trimmed.get_components = lambda: AssertionError("not asked for")
    text = message(lambda: run("AudioXExtractFeatures", video=trimmed, **EXTRACTOR | {"start": 7.5}))
    assert "7.5 s, which is past the end" in text


def check_a_video_without_a_stream_gives_its_frames() -> None:
    class Streamless(InputImpl.VideoFromFile):
        """A video that has no file to hand out just now."""

        def get_stream_source(self) -> Any:
            return None

    features, duration, _ = run(
        "AudioXExtractFeatures", video=Streamless(str(BASE / "input" / "video.mp4")), **EXTRACTOR
    )
    assert round(duration, 2) == 3.0
    assert features.frames.shape == (50, 3, 224, 224)


def check_no_encoding_to_memory_for_other_videos() -> None:
    class Other(Input.Video):
        """A pack's own video, which has no stream."""

        def get_components(self) -> Any:
            return SimpleNamespace(images=torch.rand(24, 20, 30, 3), frame_rate=Fraction(12))

        def save_to(self, *arguments: Any, **settings: Any) -> None:
            raise AssertionError("not asked for")

    assert round(run("AudioXExtractFeatures", video=Other(), **EXTRACTOR)[1], 2) == 2.0


def check_long_videos_count_in_full() -> None:
    images = torch.rand(30, 8, 8, 1)
    duration = run("AudioXExtractFeatures", **EXTRACTOR | {"images": images, "fps": 1.0})[1]
    assert duration == 30.0


def check_a_single_image_is_held() -> None:
    image = torch.rand(1, 8, 8, 3)
    handle = load("tiny-maf")
    for asked, expected in ((0.0, 10.0), (2.5, 2.5), (60.0, 60.0), (0.01, 0.05)):
        settings = EXTRACTOR | {"images": image, "duration": asked, "start": 1.0}
        features, duration, fps = run("AudioXExtractFeatures", model=handle, **settings)
        assert (round(duration, 6), fps) == (expected, 24.0), asked
        assert bool((features.frames == features.frames[:1]).all())
    assert sample(handle, features=features, duration=duration).shape[-1] == round(0.05 * 16000)


def check_the_shortest_video_can_be_sampled() -> None:
    duration = run("AudioXExtractFeatures", **EXTRACTOR | {"images": torch.rand(2, 8, 8, 3), "fps": 60.0})[1]
    assert duration == 0.05


def check_video_info_that_goes_unused_is_mentioned() -> None:
    logger = logging.getLogger(pack("nodes.shared.video_input").__name__)
    heard: list[str] = []
    logger.addFilter(lambda record: heard.append(record.getMessage()) or True)
    info = {"loaded_fps": 12.0}
    run("AudioXExtractFeatures", images=torch.rand(3, 8, 8, 3), video_info=info, **EXTRACTOR)
    assert not heard
    run("AudioXExtractFeatures", video=video(), video_info=info, **EXTRACTOR)
    message(lambda: run("AudioXExtractFeatures", video_info=info, **EXTRACTOR))
    assert len(heard) == 2
    assert all("video_info is not used" in text for text in heard)


def check_synchformer_lives_no_longer_than_its_model() -> None:
    encoder = pack("nodes.shared.sync_encoder")
    path = BASE / "models" / "audiox" / "tiny-maf" / "synchformer_state_dict.safetensors"
    frames, loads, original = torch.zeros(1, 32, 3, 224, 224), [], encoder._load
    encoder._load = lambda path: loads.append(path) or original(path)
    try:
        with torch.inference_mode():
            encoder.sync_encoder(path, "alone", None)(frames)
            assert len(encoder._in_memory) == 0, "without a model it goes at once"
            handle = load("tiny-maf", precision="bf16")
            for _ in range(2):
                encoder.sync_encoder(path, "owned", handle)(frames)
            encoder.sync_encoder(path, "owned", None)(frames)
        assert len(loads) == 2
        gone = weakref.ref(encoder._held[handle].network)
        del handle
        assert gone() is None
    finally:
        encoder._load = original


def check_features_come_from_the_disk_the_second_time() -> None:
    encoder = pack("nodes.shared.sync_encoder")
    model = load("tiny-maf")
    settings = EXTRACTOR | {"start": 0.25}
    first = run("AudioXExtractFeatures", video=video(), model=model, **settings)[0]
    kept = list((Path(folder_paths.get_user_directory()) / "audiox_cache" / "features").glob("*.safetensors"))
    assert kept
    encoder._held.clear()
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
    with hidden_synchformers():
        without = extractor_fingerprint()
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
    assert extractor_fingerprint() != without, "weights that were added count"


@contextlib.contextmanager
def hidden_synchformers() -> Any:
    """Take Synchformer's weights away for a while, also those of the pack's own model."""
    roots = (BASE / "models" / "audiox", PACK / "audiox_ext" / "models")
    for place in (found for root in roots for found in list(root.glob("*/synchformer*"))):
        place.rename(place.with_suffix(".hidden") if place.is_file() else place.with_name("hidden"))
    try:
        yield
    finally:
        for place in (found for root in roots for found in list(root.glob("*/*hidden*"))):
            place.rename(
                place.with_suffix(".safetensors") if place.is_file() else place.with_name("synchformer")
            )


def main() -> None:
    """Run the checks, in the order of the files; the first one loads the pack."""
    results = {}
    topics = [
        importlib.import_module(path.stem) for path in sorted(Path(__file__).parent.glob("checks_*.py"))
    ]
    for module in (sys.modules[__name__], *topics):
        for name, check in list(vars(module).items()):
            if not name.startswith("check_"):
                continue
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
