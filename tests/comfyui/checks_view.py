"""Checks of the AudioX View node and of the previews while sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths
import torch
from comfy.cli_args import args
from comfy_api.latest import InputImpl
from in_comfyui import load, message, pack, run, sample, sound, video

import nodes as comfy_nodes

VIEW = {"width": 640, "height": 512, "start": 0.0, "duration": 0.0, "fps": 24.0}


def view(audio: Any, **changes: Any) -> Any:
    """Run the node; returns image and sound."""
    return run("AudioXView", audio=audio, **VIEW | changes)


def check_a_sound_is_drawn_and_goes_through() -> None:
    audio = sound(2, 44100)
    audio["waveform"] = audio["waveform"].repeat(3, 1, 1) * torch.tensor([1.0, 0.1, 0.0])[:, None, None]
    image, passed = view(audio)
    assert passed is audio
    assert image.shape == (3, 512, 640, 3)
    assert image.dtype == torch.float32
    assert 0 <= image.min() < image.max() <= 1
    brightness = image.mean(dim=(1, 2, 3))
    assert brightness[0] > brightness[1] > brightness[2]


def check_the_view_shows_its_pictures() -> None:
    node = comfy_nodes.NODE_CLASS_MAPPINGS["AudioXView"]
    assert node.OUTPUT_NODE
    with torch.inference_mode():
        output = node.PREPARE_CLASS_CLONE({}).EXECUTE_NORMALIZED(audio=sound(1, 4410), **VIEW)
    (file,) = output.ui.as_dict()["images"]
    assert file["type"] == "temp"
    assert (Path(folder_paths.get_temp_directory()) / file["subfolder"] / file["filename"]).is_file()


def check_the_view_of_a_part() -> None:
    audio = sound(1, 2 * 44100)
    whole, part = view(audio)[0], view(audio, start=0.5, duration=0.5)[0]
    assert not torch.equal(whole, part)
    text = message(lambda: view(audio, start=3.0))
    assert "start is 3 s" in text
    assert "2 s long" in text


def check_the_strip_comes_from_videos_and_images() -> None:
    audio = sound(2, 3 * 44100)
    plain = view(audio)[0]
    decoded = InputImpl.VideoFromFile.get_components
    InputImpl.VideoFromFile.get_components = None  # whoever calls it fails
    try:
        from_file = view(audio, video=video())[0]
    finally:
        InputImpl.VideoFromFile.get_components = decoded
    assert not torch.equal(plain, from_file)
    components = video().get_components()
    from_images = view(audio, images=components.images, fps=24.0)[0]
    assert (from_file - from_images).abs().mean() < 0.01
    assert not torch.equal(plain, view(audio, images=components.images[:1])[0])
    assert torch.equal(view(audio, start=2.0)[0], view(audio, start=2.0, images=components.images[:24])[0])
    text = message(lambda: view(audio, video=video(), images=components.images))
    assert "Both video and images" in text


def check_a_view_of_no_sound_is_refused() -> None:
    assert "empty" in message(lambda: view({"waveform": torch.zeros(1, 2, 0), "sample_rate": 44100}))
    broken = {"waveform": torch.full((1, 1, 100), torch.nan), "sample_rate": 44100}
    assert "NaN" in message(lambda: view(broken))
    assert "audio" in message(lambda: view("nothing"))


def record_previews(live_preview: bool) -> list[Any]:
    """Run a sampler; returns the previews that the progress bar receives."""
    previews_received: list[Any] = []
    hook = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(
        lambda value, total, preview, node_id=None: previews_received.append(preview)
    )
    try:
        sample(load("tiny-turbo"), steps=2, live_preview=live_preview)
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)
    return previews_received


def check_previews_are_given_if_they_are_wanted() -> None:
    assert record_previews(False) == [None, None]
    previews_received = record_previews(True)
    assert [(kind, image.size, size) for kind, image, size in previews_received] == [
        ("JPEG", (512, 192), args.preview_size)
    ] * 2


def check_a_preview_that_fails_ends_no_run() -> None:
    pictures = pack("audiox_ext.plotting.sound_image")
    original, pictures.draw_latents = pictures.draw_latents, None
    try:
        assert record_previews(True) == [None, None]
    finally:
        pictures.draw_latents = original
