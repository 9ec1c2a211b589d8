"""Good files that bad ones are made from, and everything that the cases import."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any


def import_engine() -> None:
    """Import and load what most cases need, so that each measures only itself."""
    import contextlib
    import importlib

    import torch

    torch.set_num_threads(1)
    import PIL.Image

    import audiox_ext

    with contextlib.suppress(ImportError):
        # A training imports it, and the first import starts fc-list.
        import matplotlib.font_manager  # noqa: F401

    PIL.Image.init()
    for name in audiox_ext.__all__:
        getattr(audiox_ext, name)
    for name in (
        "audiox_ext.checkpoints.conversion",
        "audiox_ext.checkpoints.inspection",
        "audiox_ext.cli.main",
        "audiox_ext.conditioning.feature_cache",
        "audiox_ext.media.images",
        "audiox_ext.media.muxing",
        "audiox_ext.plotting.sound_image",
        "audiox_ext.training.audio_folder",
        "audiox_ext.training.finetune",
        "av",
        "safetensors.torch",
        "scipy.signal",
        "transformers",
        "tokenizers",
    ):
        importlib.import_module(name)
    load_pocket()


@cache
def load_pocket() -> Any:
    """The bundled model."""
    from audiox_ext import get_pretrained_model

    return get_pretrained_model("audiox-pocket", download=False)[0]


def write_samples(folder: Path) -> None:
    """Write good files: a model of random weights, and short sounds, films and pictures."""
    from tools.random_checkpoint import write_tiny_checkpoint

    folder.mkdir(parents=True)
    write_tiny_checkpoint(folder / "model", "base")
    write_tiny_checkpoint(folder / "with_sync", "maf")
    _write_sounds(folder)
    _write_films(folder)
    _write_pictures(folder)
    for suffix in ("wav", "mp4", "png"):
        shutil.copy(folder / f"good.{suffix}", folder / f"secret.{suffix}")
    (folder / "secret.txt").write_text("a secret\n")
    _write_tensors(folder)


def _write_sounds(folder: Path) -> None:
    """Write half a second of sound in every format."""
    import torch

    from audiox_ext.media.audio_video import write_audio

    sound = torch.sin(torch.arange(8000) * 0.1)[None].repeat(2, 1) * 0.3
    for suffix in ("wav", "flac", "ogg", "mp3", "m4a"):
        write_audio(folder / f"good.{suffix}", sound, 16000)


def _write_films(folder: Path) -> None:
    """Write half a second of film in every container."""
    from fractions import Fraction

    import videos

    times = videos.frame_times(12, 24)
    videos.write_video(folder / "good.mp4", times, audio_seconds=0.5)
    videos.write_video(folder / "silent.mp4", times)
    videos.write_sound(folder / "sound.mp4")
    ticks = {"time_base": Fraction(1, 1000)}
    videos.write_video(folder / "good.mkv", times, container="matroska", **ticks)
    videos.write_video(folder / "good.webm", times, container="webm", codec="libvpx", **ticks)
    videos.write_video(folder / "good.ts", times, container="mpegts")
    _write_cover(folder)
    videos.write_video(folder / "good.avi", times, container="avi", codec="mpeg4", time_base=Fraction(1, 24))


def _write_cover(folder: Path) -> None:
    """Write a sound with a picture on its cover, as shops sell them."""
    import io

    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", (32, 24)).save(picture, "PNG")
    content = b"\0image/png\0\3\0" + picture.getvalue()
    frame = b"APIC" + len(content).to_bytes(4, "big") + b"\0\0" + content
    size = bytes(len(frame) >> shift & 127 for shift in (21, 14, 7, 0))
    (folder / "cover.mp3").write_bytes(b"ID3\3\0\0" + size + frame + (folder / "good.mp3").read_bytes())


def _write_pictures(folder: Path) -> None:
    """Write a picture, and an animation, in every format."""
    from PIL import Image

    pictures = [Image.new("RGB", (32, 24), (index * 60, 100, 50)) for index in range(4)]
    for suffix in ("png", "jpg", "webp", "gif", "bmp", "tif"):
        pictures[0].save(folder / f"good.{suffix}")
    for suffix in ("gif", "webp", "png"):
        pictures[0].save(folder / f"moving.{suffix}", save_all=True, append_images=pictures[1:], duration=100)


def _write_tensors(folder: Path) -> None:
    """Write features and a LoRA of the bundled model."""
    import torch
    from safetensors.torch import load_file, save_file

    from audiox_ext.conditioning.feature_cache import write_features
    from audiox_ext.conditioning.video_features import VideoFeatures

    frames = torch.zeros(4, 3, 224, 224, dtype=torch.uint8)[:1].repeat(2, 1, 1, 1)
    write_features(
        folder / "features.safetensors", VideoFeatures(frames=frames, sync=None, duration=1.0, fps=24.0)
    )
    lora = {"x.lora_A.weight": torch.ones(2, 4), "x.lora_B.weight": torch.ones(4, 2)}
    save_file(lora, folder / "lora.safetensors", {"audiox_lora": "1", "captions": '["rain"]'})
    torch.save({"state_dict": load_file(folder / "model" / "model.safetensors")}, folder / "model.ckpt")
    (folder / "captions.csv").write_text('file,caption\nrain.wav,"rain, on a roof"\nrain.wav,drops\n')
    (folder / "captions.jsonl").write_text('{"file": "rain.wav", "caption": ["rain", "drops"]}\n')
