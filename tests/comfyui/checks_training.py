"""Checks of the AudioX LoRA Trainer node."""

from __future__ import annotations

import importlib.util
import math
import os
import wave
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.utils
import folder_paths
import torch
from in_comfyui import BASE, load, message, pack, run, sample

LIBRARIES = ("lightning", "tensorboard", "peft")
SETTINGS = {"steps": 3, "rank": 2, "learning_rate": 0.01, "batch_size": 1, "seed": 2**31 - 1, "patience": 0}


def can_train() -> bool:
    return all(importlib.util.find_spec(name) for name in LIBRARIES)


def sounds(name: str) -> str:
    """Write two captioned sounds to a folder in ComfyUI's input folder."""
    folder = BASE / "input" / name
    folder.mkdir(exist_ok=True)
    for number in range(2):
        angles = 2 * math.pi * (300 + 100 * number) * torch.arange(16000) / 16000
        with wave.open(str(folder / f"tone {number}.wav"), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes((10000 * angles.sin()).to(torch.int16).numpy().tobytes())
    return name


def train(model: Any, **inputs: Any) -> Any:
    """Run the node in a thread, as the server does; returns name, losses, sound and report."""
    inputs = {"model": model, "dataset_folder": sounds("tones"), **SETTINGS, **inputs}
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run, "AudioXTrainLora", **inputs).result()


def check_a_lora_is_trained_and_the_model_stays_as_it_is() -> None:
    if not can_train():
        text = message(lambda: train(load("tiny-maf"), name="none"))
        assert "pip install" in text
        return
    model = load("tiny-maf")
    before = sample(model)
    name, losses, sound, report = train(model, name="sub/tones")
    assert Path(name) == Path("sub", "tones.safetensors")
    assert name in folder_paths.get_filename_list("loras")
    lora = pack("audiox_ext.checkpoints.lora_file").read_lora(folder_paths.get_full_path("loras", name))
    assert lora.info.captions == ("tone",)
    assert lora.rank == 2
    assert any(float(layer.up.abs().max()) > 0 for layer in lora.layers.values())
    assert losses.shape == (1, 480, 900, 3)
    assert sound["waveform"].shape[:2] == (1, 2)
    assert not sound["waveform"].is_inference()
    assert "2 clips" in report
    assert "step 3 of 3" in report
    assert torch.equal(sample(model), before)
    variant = run("AudioXLoadLora", model=model, lora_name=name, strength=1.0)[0]
    assert not torch.equal(sample(variant), before)
    assert "already has a LoRA" in message(lambda: train(variant, name="more"))
    assert not any(parameter.requires_grad for parameter in model.model.parameters())


def check_a_cancelled_training_goes_on() -> None:
    if not can_train():
        return
    model, progress = load("tiny-maf"), []
    hook = comfy.utils.PROGRESS_BAR_HOOK

    def cancel(value: int, total: int, preview: Any, node_id: Any = None) -> None:
        progress.append((value, total))
        if value == 2:
            mm.interrupt_current_processing()

    comfy.utils.set_progress_bar_global_hook(cancel)
    try:
        train(model, name="cancelled", steps=4)
        raise AssertionError("it should have been cancelled")
    except mm.InterruptProcessingException:
        pass
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)
    assert (2, 4) in progress
    assert not (folder_paths.get_full_path("loras", "cancelled.safetensors"))
    *_, report = train(model, name="cancelled", steps=4)
    assert "Resuming after step" in report
    name, *_ = train(model, name="whole", steps=4)
    one, other = (Path(folder_paths.get_full_path("loras", n)) for n in ("cancelled.safetensors", name))
    read = pack("audiox_ext.checkpoints.lora_file").read_lora
    for key, layer in read(one).layers.items():
        assert torch.equal(layer.up, read(other).layers[key].up), key
    *_, report = train(model, name="whole", steps=4, resume=False)
    assert "Resuming" not in report
    assert "step 4 of 4" in report


def check_what_cannot_be_trained_is_refused() -> None:
    model = load("tiny-maf")
    for key in ("dataset_folder", "keep_folder"):
        inputs = {key: "../elsewhere"}
        assert "lies or leads outside" in message(lambda inputs=inputs: train(model, name="x", **inputs))
    assert "dataset_folder is empty" in message(lambda: train(model, name="x", dataset_folder=" "))
    for name in ("", "../x", "folder/.."):
        assert "is not a file name inside" in message(lambda name=name: train(model, name=name))
    if can_train():
        assert "There is no folder" in message(lambda: train(model, name="x", dataset_folder="nowhere"))
        assert "was distilled to sample in" in message(lambda: train(load("tiny-turbo"), name="x"))


def check_folders_outside_comfyui_are_not_read() -> None:
    """Neither by path nor through links, and replies are the same whether they exist or not."""
    resolve = pack("nodes.comfy.paths").resolve_input_folder
    check_readable = pack("nodes.comfy.paths").check_readable
    read = pack("audiox_ext.training.audio_folder").read_audio_folder
    outside = BASE.parent / f"{BASE.name} outside"
    (outside / "sub").mkdir(parents=True, exist_ok=True)
    (outside / "secret.txt").write_text("a secret")
    (outside / "sub" / "rain.wav").write_bytes(b"RIFF")
    missing = str(outside).replace("outside", "nowhere")
    replies = [message(lambda text=text: resolve(text, "dataset_folder")) for text in (str(outside), missing)]
    assert replies[0].replace("outside", "nowhere", 1) == replies[1], replies
    assert "AUDIOX_ALLOW_FULL_PATHS=1" in replies[0]
    for text in ("..", "../output", "a/../../output", "/", str(BASE / "input" / ".." / "output")):
        assert "lies or leads outside" in message(lambda text=text: resolve(text, "keep_folder")), text
    assert resolve("~root", "x") == BASE / "input" / "~root"  # users are not looked up
    assert resolve(str(BASE / "models" / "sounds"), "x") == BASE / "models" / "sounds"

    links = BASE / "input" / "links"
    for number, (name, target) in enumerate(
        {
            "rain.txt": outside / "secret.txt",
            "captions.csv": outside / "secret.txt",
            "rain.wav": outside / "sub" / "rain.wav",
            "gone.txt": outside / "missing.txt",
            "sub": outside / "sub",
        }.items()
    ):
        folder = links / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        if name != "rain.wav":
            (folder / "rain.wav").write_bytes(b"RIFF")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
        text = message(lambda folder=folder: read(folder, "", check_readable))
        assert text.startswith(f"{name} lies or leads outside"), (name, text)
    (links / "whole").unlink(missing_ok=True)
    (links / "whole").symlink_to(outside / "sub")
    assert "lies or leads outside" in message(lambda: resolve("links/whole", "dataset_folder"))
    hidden = links / "hidden"
    hidden.mkdir(exist_ok=True)
    (hidden / ".sub").unlink(missing_ok=True)
    (hidden / ".sub").symlink_to(outside / "sub")
    (hidden / "captions.csv").write_text("file,caption\n.sub/rain.wav,rain\n")
    assert ".sub lies or leads outside" in message(lambda: read(hidden, "", check_readable))

    os.environ["AUDIOX_ALLOW_FULL_PATHS"] = "1"
    try:
        assert resolve(str(outside), "x") == outside
        assert read(hidden, "", check_readable).files[0].caption == "rain"
    finally:
        del os.environ["AUDIOX_ALLOW_FULL_PATHS"]
    before = folder_paths.folder_names_and_paths.get("datasets")
    folder_paths.add_model_folder_path("datasets", str(outside))
    try:
        assert resolve(str(outside), "x") == outside
        assert read(hidden, "", check_readable).files[0].caption == "rain"
    finally:
        folder_paths.folder_names_and_paths.pop("datasets")
        if before is not None:
            folder_paths.folder_names_and_paths["datasets"] = before


def check_a_lora_of_another_is_not_replaced() -> None:
    if not can_train():
        return
    foreign = Path(folder_paths.get_folder_paths("loras")[0]) / "foreign.safetensors"
    foreign.write_bytes(b"another program's")
    state = BASE / "output" / "audiox_lora" / "foreign"
    state.mkdir(parents=True, exist_ok=True)
    (state / "last.ckpt").write_bytes(b"a checkpoint")
    assert "exists, and no training in" in message(
        lambda: train(load("tiny-maf"), name="foreign", resume=False)
    )
    assert foreign.read_bytes() == b"another program's"
    assert (state / "last.ckpt").read_bytes() == b"a checkpoint"  # not started over before it was refused
    foreign.unlink()


def check_names_that_no_file_can_have_are_refused() -> None:
    fingerprint = pack("nodes.shared.fingerprints").fingerprint_folder
    for name in ("half \ud83d", "null\0"):
        for key in ("name", "dataset_folder", "keep_folder"):
            inputs = {"name": "fine", key: name}
            text = message(lambda inputs=inputs: train(load("tiny-maf"), **inputs))
            assert text.startswith(f"{key} is {name!r}, but no file name can hold"), text
        assert fingerprint(name) == ()


def check_new_sounds_count_as_a_change() -> None:
    import nodes as comfy_nodes

    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXTrainLora"]
    folder = BASE / "input" / sounds("changing")
    before = node.fingerprint_inputs(dataset_folder="changing")
    assert before == node.fingerprint_inputs(dataset_folder="changing")
    (folder / "tone 0.txt").write_text("a low tone")
    assert before != node.fingerprint_inputs(dataset_folder="changing")
    assert node.fingerprint_inputs(dataset_folder="../..") == ((), ())
