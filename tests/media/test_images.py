"""The command line reads images and masks from files."""

from __future__ import annotations

import argparse
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from videos import code_picture, frame_times, read_code, write_video

from audiox_ext.cli.main import main
from audiox_ext.cli.video import read_video_source
from audiox_ext.conditioning.feature_cache import read_features
from audiox_ext.conditioning.video_features import VideoFeatures
from audiox_ext.errors import InputError, MediaError
from audiox_ext.media import images as images_module
from audiox_ext.media.frames import ImageSequence
from audiox_ext.media.images import read_images, read_masks


def save(path: Path, index: int, size: tuple[int, int] = (64, 48), mode: str = "RGB") -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(code_picture(index, *size)).convert(mode).save(path)
    return path


def run(*arguments: Any) -> int:
    return main([str(argument) for argument in arguments])


def extract(tmp_path: Path, *options: Any) -> VideoFeatures:
    """The features that `extract` writes, without Synchformer's weights."""
    out = tmp_path / "out.safetensors"
    assert run("extract", "--models", tmp_path, *options, "-o", out, "--force") == 0
    return read_features(out)


def codes(frames: torch.Tensor) -> list[int]:
    return [read_code(frame) for frame in frames]


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    for index in (10, 2, 1):
        save(folder / f"picture{index}.png", index)
    (folder / "notes.txt").write_text("no picture")
    save(folder / ".hidden.png", 7)
    pictures = read_images(folder)
    assert pictures.shape == (3, 48, 64, 3)
    assert codes(pictures.mul(255).permute(0, 3, 1, 2)) == [1, 2, 10]


def test_a_slideshow_shows_each_image_for_its_time(tmp_path: Path) -> None:
    for index in range(1, 5):
        save(tmp_path / "pictures" / f"{index}.jpg", index)
    features = extract(tmp_path, "--video", tmp_path / "pictures", "--seconds-per-image", 3)
    assert features.duration == pytest.approx(12)
    assert codes(features.frames) == [index for index in range(1, 5) for _ in range(15)]
    part = extract(
        tmp_path, "--video", tmp_path / "pictures", "--seconds-per-image", 3, "--start", 4, "--duration", 4
    )
    assert part.duration == pytest.approx(4)
    assert codes(part.frames)[:25] == [2] * 10 + [3] * 15


@pytest.mark.slow
@pytest.mark.parametrize("name", ["still.png", "still.jpg", "still.webp"])
def test_a_single_image_is_held(tmp_path: Path, name: str) -> None:
    still = save(tmp_path / name, 9)
    for options, seconds in (((), 10), (("--duration", 25), 25), (("--start", 3, "--duration", 12), 12)):
        features = extract(tmp_path, "--video", still, *options)
        assert features.duration == pytest.approx(seconds)
        assert codes(features.frames) == [9] * (5 * seconds)


def test_images_are_resized_to_one_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path / "all" / "1.png", 3, (1600, 1200))
    save(tmp_path / "all" / "2.png", 5, (400, 300), "L")
    assert not caplog.text
    save(tmp_path / "all" / "3.png", 6, (300, 300))
    pictures = read_images(tmp_path / "all")
    assert pictures.shape == (3, 448, 597, 3)
    assert codes(pictures.mul(255).permute(0, 3, 1, 2)) == [3, 5, 6]
    assert "Image 3 has other proportions" in caplog.text


def test_transparent_and_rotated_images(tmp_path: Path) -> None:
    Image.new("RGBA", (8, 8), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    assert read_images(tmp_path / "clear.png").max() == 0
    turned = Image.new("RGB", (20, 10))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_images(tmp_path / "turned.jpg").shape == (1, 20, 10, 3)


def test_masks_from_an_image_a_folder_and_a_video(tmp_path: Path) -> None:
    half = np.zeros((48, 64), np.uint8)
    half[:, 32:] = 255
    Image.fromarray(half).save(tmp_path / "mask.png")
    write_video(
        tmp_path / "masks.mp4", frame_times(10, 5), picture=lambda i, w, h: np.repeat(half[..., None], 3, 2)
    )
    (tmp_path / "masks").mkdir()
    for index in range(10):
        Image.fromarray(half).save(tmp_path / "masks" / f"{index}.png")
    for name, count in (("mask.png", 1), ("masks", 10), ("masks.mp4", 10)):
        masks = read_masks(tmp_path / name).float() / 255
        assert masks.shape == (count, 48, 64)
        assert masks[:, :, :28].max() < 0.03
        assert masks[:, :, 36:].min() > 0.97, "white is 1, not the video's 235"
    assert read_masks(tmp_path / "mask.png")[0, 0, -1] == 255


@pytest.mark.parametrize("packet_count", [1, 3, 30, 45])
def test_masks_of_a_video_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packet_count: int
) -> None:
    """Bytes at the size of the encoders, however many frames the packets announce."""
    write_video(tmp_path / "masks.mp4", frame_times(30, 5), width=640, height=480)
    monkeypatch.setattr(images_module, "read_packet_times", lambda _: [0.0] * packet_count)
    masks = read_masks(tmp_path / "masks.mp4")
    assert (masks.dtype, masks.shape) == (torch.uint8, (30, 224, 299))
    assert codes(masks[:, None]) == list(range(30))
    assert len(masks.untyped_storage()) <= 45 * 224 * 299


@pytest.mark.parametrize("seconds", [-5.0, math.nan, math.inf])
def test_impossible_seconds_are_named_in_the_error(tmp_path: Path, seconds: float) -> None:
    still = save(tmp_path / "still.png", 9)
    options = {"video": still, "start": 0.0, "duration": None, "seconds_per_image": 0.0, "seconds": seconds}
    with pytest.raises(InputError, match=f"--seconds is {seconds}"):
        read_video_source(argparse.Namespace(command="generate", **options), 10.0)
    # The seconds that `extend` adds are not the length of the whole.
    held = read_video_source(argparse.Namespace(command="extend", **options), 10.0)
    assert isinstance(held, ImageSequence)
    assert len(held.images) / held.fps == pytest.approx(10)


def test_the_mask_of_the_command_line_greys_the_rest(tmp_path: Path) -> None:
    video = tmp_path / "video.mp4"
    write_video(video, frame_times(10, 5), picture=lambda i, w, h: np.full((h, w, 3), 255, np.uint8))
    mask = np.zeros((48, 64), np.uint8)
    mask[:, 32:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for options, left in (((), 128), (("--mask-strength", 0.5), 191), (("--mask-on", "sync"), 255)):
        frame = extract(tmp_path, "--video", video, "--mask", tmp_path / "mask.png", *options).frames[3]
        assert abs(int(frame[0, 100, 50]) - left) <= 1, options
        assert frame[0, 100, 170] == 255


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--video", "{}/pictures"], "Give the seconds that each is shown"),
        (["--video", "{}/empty", "--seconds-per-image", 2], "contains no images"),
        (["--video", "{}/video.mp4", "--seconds-per-image", 2], "is for pictures"),
        (["--video", "{}/video.mp4", "--mask", "{}/nothing.png"], "--mask: there is no file"),
        (["--video", "{}/video.mp4", "--mask", "{}/pictures"], "There are 2 masks, but the video has 10"),
        (["--video", "{}/video.mp4", "--mask", "{}/1.png", "--mask-strength", 2], "mask_strength is 2"),
        (["--video", "{}/broken.png"], "cannot be read as an image"),
    ],
    ids=str,
)
def test_invalid_options_are_explained(
    tmp_path: Path, options: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in (1, 2):
        save(tmp_path / "pictures" / f"{index}.png", index)
    save(tmp_path / "1.png", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"no picture")
    write_video(tmp_path / "video.mp4", frame_times(10, Fraction(5)))
    arguments = [str(option).format(tmp_path) for option in options]
    assert run("extract", "--models", tmp_path, *arguments, "-o", tmp_path / "out.safetensors") == 1
    assert message in capsys.readouterr().err


def test_images_are_not_a_video_to_add_sound_to(tmp_path: Path, capsys: Any) -> None:
    still = save(tmp_path / "still.png", 1)
    assert run("generate", "--model", "x", "--video", still, "-o", tmp_path / "out.mp4") == 1
    assert "no moving pictures" in capsys.readouterr().err
    with pytest.raises(MediaError, match="There is no file"):
        read_images(tmp_path / "missing.png")


def test_a_mask_for_finished_features_is_refused(tmp_path: Path, capsys: Any) -> None:
    mask = save(tmp_path / "mask.png", 1)
    options = ["--features", mask, "--mask", mask, "-o", tmp_path / "out.wav"]
    assert run("generate", "--model", "x", *options) == 1
    assert "give --mask to extract" in capsys.readouterr().err


def test_an_image_gets_its_sound(tiny_folder: Any, tmp_path: Path) -> None:
    still, out = save(tmp_path / "still.png", 5), tmp_path / "out.wav"
    options = ["--video", still, "--mask", still, "--duration", 3, "--steps", 1, "-o", out]
    assert run("generate", "--model", tiny_folder("base"), *options) == 0
    from audiox_ext.media.audio_video import read_audio

    waveform, rate = read_audio(out)
    assert waveform.shape[-1] == 3 * rate
