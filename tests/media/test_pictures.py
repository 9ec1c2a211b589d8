"""Animated pictures are videos with times of their own, and transparent pixels are black in every file."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image
from sampled_frames import codes, expected_codes, sample
from videos import code_picture, frame_times, write_video

from audiox_ext.cli.main import main
from audiox_ext.conditioning.feature_cache import read_features
from audiox_ext.errors import InputError, MediaError
from audiox_ext.media import pictures as pictures_module
from audiox_ext.media.frames import ImageSequence, TimeRange, sample_frames
from audiox_ext.media.images import is_image_path, read_images, read_masks
from audiox_ext.media.pictures import check_film, open_animation
from audiox_ext.media.probing import decode_frame_times, probe_video, read_packet_times
from audiox_ext.plotting.film_strip import sample_film_strip

MILLISECONDS = [100, 50, 300, 40, 250, 200]
TIMES = [Fraction(sum(MILLISECONDS[:index]), 1000) for index in range(len(MILLISECONDS))]
SECONDS = sum(MILLISECONDS) / 1000
FORMATS = ("webp", "gif", "png")


def write_animation(path: Any, milliseconds: list[int] = MILLISECONDS, **settings: Any) -> Any:
    """An animation whose frames show their number."""
    frames = [Image.fromarray(code_picture(index, 64, 48)) for index in range(len(milliseconds))]
    settings |= {"save_all": True, "append_images": frames[1:], "duration": milliseconds}
    frames[0].save(path, **settings | ({"lossless": True} if "webp" in str(path) else {}))
    return path


@pytest.fixture(params=FORMATS)
def animation(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An animation with frames of different lengths."""
    return write_animation(tmp_path / f"moving.{request.param}")


def test_every_frame_of_an_animation_is_shown_at_its_own_time(animation: Path) -> None:
    for source in (animation, str(animation), io.BytesIO(animation.read_bytes())):
        for start in (0.0, 0.12):
            sampled = sample(source, start=start, seconds=1.0)
            for rate, frames in zip((5, 25), sampled.frames, strict=True):
                assert codes(frames) == expected_codes(TIMES, start, 1.0, rate)
            assert sampled.duration == pytest.approx(SECONDS - start)
            assert sampled.fps == pytest.approx(6 / SECONDS)


def test_an_animation_is_a_video_to_everything_that_reads_videos(animation: Path) -> None:
    assert not is_image_path(animation)
    info = probe_video(animation)
    assert (info.width, info.height, info.has_audio) == (64, 48, False)
    assert info.duration == pytest.approx(SECONDS)
    assert read_packet_times(animation) == pytest.approx([float(time) for time in TIMES])
    assert decode_frame_times(animation) == read_packet_times(animation)
    masks = read_masks(animation)
    assert masks.shape == (6, 48, 64)
    assert codes(masks[:, None]) == list(range(6))
    strip = sample_film_strip(animation, time_range=TimeRange(), seconds=60.0, count=6, height=48)
    assert [frame.time for frame in strip] == [0.0]


def test_a_part_of_an_animation(animation: Path) -> None:
    sampled = sample(animation, trim=(0.1, 0.6), start=0.05, duration=5.0)
    assert sampled.duration == pytest.approx(0.55)
    assert codes(sampled.frames[1])[:17] == [2] * 8 + [3] + [4] * 8
    with pytest.raises(InputError, match=r"start is 3 s, but the video is only 0\.94 s long"):
        sample(animation, start=3.0)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_frame_without_a_time_is_shown_as_in_browsers(tmp_path: Path, suffix: str) -> None:
    path = write_animation(tmp_path / f"moving.{suffix}", [0, 200, 10, 30])
    assert read_packet_times(path) == pytest.approx([0, 0.1, 0.3, 0.4])
    assert probe_video(path).duration == pytest.approx(0.43)


def test_the_default_image_of_an_apng_is_not_part_of_it(tmp_path: Path) -> None:
    path = write_animation(tmp_path / "moving.png", [100, 200, 300], default_image=True)
    assert read_packet_times(path) == pytest.approx([0, 0.1])
    assert codes(sample(path).frames[1])[:5] == [1, 1, 1, 2, 2]


@pytest.mark.parametrize("suffix", [*FORMATS, "tif"])
def test_a_single_picture_is_an_image_whatever_its_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"still.{suffix}"
    Image.fromarray(code_picture(5, 64, 48)).save(path)
    assert is_image_path(path)
    assert open_animation(path) is None
    assert codes(read_images(path).mul(255).permute(0, 3, 1, 2)) == [5]
    pages = [Image.fromarray(code_picture(index, 64, 48)) for index in (1, 2)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    assert is_image_path(tmp_path / "pages.tif"), "pages have no times"


def test_an_animation_in_a_folder_is_its_first_frame(
    animation: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert codes(read_images(animation.parent).mul(255).permute(0, 3, 1, 2)) == [0]
    assert f"{animation} has several pictures. Only the first is used." in caplog.text


def test_memory_holds_one_frame_of_an_animation(animation: Path) -> None:
    opened = open_animation(animation)
    assert opened is not None
    decoded: list[int] = []
    frames = opened.read_frames(lambda: decoded.append(1))
    next(frames)
    assert len(decoded) == 1
    decoded.clear()
    sample(animation, seconds=0.2, rates=(5,), check_cancelled=lambda: decoded.append(1))
    assert len(decoded) == 2, "up to the first frame after 0 s"
    with pytest.raises(KeyboardInterrupt):
        sample(animation, check_cancelled=lambda: (_ for _ in ()).throw(KeyboardInterrupt))


def test_times_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, reads = write_animation(tmp_path / "moving.webp"), []
    original = pictures_module._read_times
    monkeypatch.setattr(pictures_module, "_read_times", lambda source: reads.append(1) or original(source))
    for _ in range(3):
        probe_video(path)
    assert len(reads) == 1
    write_animation(path, [100, 100])
    assert probe_video(path).duration == pytest.approx(0.2), "the file has changed"


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_a_damaged_animation_is_used_up_to_the_damage(tmp_path: Path, suffix: str) -> None:
    path = write_animation(tmp_path / f"moving.{suffix}", [100] * 40)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    times = read_packet_times(path)
    assert 5 < len(times) < 35
    assert codes(sample(path).frames[1])[:4] == [0, 0, 0, 1]


@pytest.mark.parametrize("content", [b"GIF89a", b"RIFF\0\0\0\0WEBPVP8X", b"\x89PNG\r\n\x1a\n", b""])
def test_what_cannot_be_read_is_no_animation(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.webp"
    path.write_bytes(content)
    assert open_animation(path) is None
    assert open_animation(tmp_path / "missing.gif") is None
    assert open_animation(tmp_path) is None
    assert open_animation(io.BytesIO(content)) is None
    assert open_animation(3) is None
    with pytest.raises(MediaError, match="cannot be read as an image"):
        read_images(path)


def write_transparent(path: Path) -> Path:
    """A picture that is half white and half transparent, where it hides white: still, animated or a film."""
    pixels = np.full((48, 64, 4), 255, np.uint8)
    pixels[:, 32:, 3] = 0
    if path.suffix == ".mov":
        with av.open(str(path), "w") as output:
            stream = output.add_stream("png" if "png" in path.stem else "qtrle", rate=10)
            stream.width, stream.height = 64, 48
            stream.pix_fmt = "rgba" if "png" in path.stem else "argb"
            for _ in range(10):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgba")))
            output.mux(stream.encode(None))
        return path
    second = Image.fromarray((pixels * [1, 1, 0.5, 1]).astype(np.uint8))
    settings = {"save_all": True, "append_images": [second], "duration": 200, "disposal": 2}
    Image.fromarray(pixels).save(
        path, **settings if "moving" in path.stem else {}, **{"lossless": True, "exact": True}
    )
    return path


@pytest.mark.parametrize(
    "name",
    ["still.png", "still.webp", "still.gif", "moving.png", "moving.webp", "moving.gif", "rle.mov", "png.mov"],
)
def test_transparent_pixels_are_black_in_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = write_transparent(tmp_path / name)
    source = ImageSequence(read_images(path), 1.0) if is_image_path(path) else path
    frame = sample_frames(source, rates=(5,), seconds=0.2, time_range=TimeRange()).frames[0][0]
    assert frame[:, 100, 50].min() >= 254
    assert frame[:, 100, 170].max() <= 1
    if not is_image_path(path):
        assert read_masks(path)[0, 24, 48] <= 1, "and background of a mask"
        assert read_masks(path)[0, 24, 16] >= 254


def test_the_command_line_follows_an_animation(animation: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.safetensors"
    mask = ["--mask", animation, "--mask-strength", 0]
    options = ["--models", tmp_path, "--video", animation, *mask, "-o", out]
    assert main([str(word) for word in ("extract", *options)]) == 0
    features = read_features(out)
    assert features.duration == pytest.approx(SECONDS)
    assert codes(features.frames)[:5] == expected_codes(TIMES, 0, 1.0, 5)
    assert main([str(word) for word in ("extract", *options, "--force", "--seconds-per-image", 2)]) == 1
    assert "is a video" in capsys.readouterr().err


def test_sound_on_an_animated_webp_is_refused_before_the_work(tmp_path: Path, capsys: Any) -> None:
    for suffix in FORMATS:
        path = write_animation(tmp_path / f"moving.{suffix}")
        if suffix != "webp":
            check_film(path)
    assert main(["generate", "--model", "x", "--video", str(path.with_suffix(".webp")), "-o", "out.mp4"]) == 1
    assert "is an animated WebP, which FFmpeg cannot read" in capsys.readouterr().err
    write_video(
        tmp_path / "film.avi", frame_times(3, 5), container="avi", codec="mpeg4", time_base=Fraction(1, 5)
    )
    check_film(tmp_path / "film.avi")
    assert torch.equal(sample(tmp_path / "film.avi").frames[0], sample(str(tmp_path / "film.avi")).frames[0])
