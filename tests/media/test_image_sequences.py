"""Frames sampled from a batch of images with a frame rate."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from sampled_frames import RATES, codes, expected_codes, interrupt
from videos import code_picture, frame_times

from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence, SampledFrames, TimeRange, sample_frames


def batch(count: int = 30) -> torch.Tensor:
    pictures = [code_picture(index, 64, 48) for index in range(count)]
    return torch.from_numpy(np.stack(pictures)).float() / 255


def from_images(images: torch.Tensor, fps: float = 10.0, **settings: Any) -> SampledFrames:
    time_range = TimeRange(start=settings.pop("start", 0.0), duration=settings.pop("duration", None))
    return sample_frames(
        ImageSequence(images, fps), **{"rates": RATES, "seconds": 1.0, "time_range": time_range} | settings
    )


@pytest.mark.parametrize("fps", [8, 24000 / 1001, 29.97, 25])
def test_image_batches_are_timed_by_their_rate(fps: float) -> None:
    sampled = from_images(batch(), fps, start=0.2, seconds=2.0)
    times = frame_times(30, Fraction(fps).limit_denominator(1001))
    for per_second, frames in zip(RATES, sampled.frames, strict=True):
        assert codes(frames) == expected_codes(times, 0.2, 2, per_second)
    assert sampled.duration == pytest.approx(30 / fps - 0.2)
    assert sampled.fps == fps


def test_image_batches_follow_trim_time_range_and_end() -> None:
    assert codes(from_images(batch(8), seconds=2.0).frames[0]) == [0, 2, 4, 6, 7, 7, 7, 7, 7, 7]
    sampled = from_images(batch(), trim=(1.0, 0.5), start=0.1, duration=5.0)
    assert codes(sampled.frames[0]) == [11, 13, 14, 14, 14]
    assert sampled.duration == pytest.approx(0.4)


def test_one_image_grey_transparent_and_out_of_range() -> None:
    assert codes(from_images(batch(1)).frames[0]) == [0] * 5
    assert codes(from_images(batch(4)[..., :1]).frames[0])[:2] == [0, 2]
    clear = torch.cat([torch.ones(1, 8, 8, 3), torch.zeros(1, 8, 8, 1)], dim=-1)
    assert from_images(clear).frames[0].max() == 0  # transparent white is black
    out_of_range = torch.stack([torch.full((7, 5, 3), value) for value in (-3.0, 7.0, math.inf)])
    assert from_images(out_of_range).frames[0][:, 0, 0, 0].tolist() == [0, 255, 255, 255, 255]
    assert from_images(torch.rand(2, 8, 8, 3).half()).frames[0].dtype == torch.uint8


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(0, 8, 8, 3), "at least one"),
        (torch.zeros(8, 8, 3), r"\(8, 8, 3\)"),
        (torch.zeros(1, 8, 8, 2), "channels"),
        (torch.zeros(1, 8, 8, 3, dtype=torch.uint8), "uint8"),
        (torch.full((1, 8, 8, 3), math.nan), "NaN"),
    ],
    ids=["none", "3d", "two channels", "integers", "nan"],
)
def test_impossible_images_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_images(images)


@pytest.mark.parametrize("fps", [0, -5, math.nan, math.inf])
def test_impossible_image_rates_are_refused(fps: float) -> None:
    with pytest.raises(InputError, match=f"fps of the images is {fps}"):
        from_images(batch(2), fps)


def test_image_batches_can_be_cancelled() -> None:
    with pytest.raises(KeyboardInterrupt):
        from_images(batch(5), check_cancelled=interrupt)
