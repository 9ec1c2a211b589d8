"""An object mask greys out the background on the right pixels; bad masks are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import videos
from masked_videos import GREY, HEIGHT, WIDTH, FakeSync, extract, square_masks, squares
from torch import Tensor
from videos import frame_times, video_bytes

from audiox_ext.conditioning.feature_cache import FeatureCache
from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence
from audiox_ext.media.object_mask import ObjectMask


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


@pytest.mark.parametrize(("strength", "grey"), [(0.25, 32), (0.5, 64), (0.75, 96), (1.0, GREY)])
def test_strength_is_how_grey_the_outside_becomes(strength: float, grey: int) -> None:
    frames = extract(squares(), ObjectMask(mask=square_masks(50), strength=strength)).frames
    assert frames[3, :, 5, 5].tolist() == [grey] * 3
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
    "settings", [{"strength": 0.0}, {"clip": False, "sync": False}, {"mask": torch.ones(8, 12)}], ids=str
)
def test_a_mask_that_masks_nothing_changes_no_bit(settings: dict[str, Any]) -> None:
    encode = FakeSync()
    plain = extract(squares(), encode_sync=encode)
    pictures = encode.frames
    masked = extract(
        squares(), ObjectMask(**{"mask": torch.zeros(HEIGHT, WIDTH)} | settings), encode_sync=encode
    )
    assert torch.equal(masked.frames, plain.frames)
    assert torch.equal(encode.frames, pictures)


def test_masks_of_another_type_and_size_are_equivalent() -> None:
    mask = torch.zeros(HEIGHT, WIDTH)
    mask[16:48, 24:72] = 1
    expected = extract(squares(), mask).frames
    mask_bytes = (mask * 255).to(torch.uint8)
    for other in (mask.bool(), mask.half(), mask[None], mask.double() * 9 - 4, mask_bytes):
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
