"""Sampled frames are the ones on screen at the requested times."""

from __future__ import annotations

import itertools
import random
from fractions import Fraction

import pytest
from sampled_frames import RATES, codes, expected_codes, sample
from videos import code_picture, frame_times, stamps, video_bytes

SOURCE_RATES = [Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, 60]
CONTAINERS = {"mp4": Fraction(1, 90000), "matroska": Fraction(1, 1000), "mpegts": Fraction(1, 90000)}


@pytest.mark.parametrize("container", ["mp4", "matroska"])
@pytest.mark.parametrize("rate", SOURCE_RATES, ids=lambda rate: f"{float(rate):.5g}fps")
def test_every_frame_is_the_one_on_screen(rate: Fraction, container: str) -> None:
    video = video_bytes(
        frame_times(round(2.6 * rate), rate), container=container, time_base=CONTAINERS[container]
    )
    times = stamps(video)
    for start, seconds in ((1.0 / 3, 1.0), (1.3, 1.6)):  # the second by seeking, and past the end
        sampled = sample(video, start, seconds)
        for per_second, frames in zip(RATES, sampled.frames, strict=True):
            assert codes(frames) == expected_codes(times, start, seconds, per_second), (
                f"{start} s, {per_second} fps"
            )


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_variable_frame_rate_follows_the_timestamps(container: str) -> None:
    steps = random.Random(0).choices(range(8, 250), k=60)  # milliseconds
    times = [Fraction(ms, 1000) for ms in itertools.accumulate(steps, initial=0)]
    video = video_bytes(times, container=container, time_base=Fraction(1, 1000))
    assert stamps(video) == times
    for start in (0.0, 2.07):
        sampled = sample(video, start, 3)
        for per_second, frames in zip(RATES, sampled.frames, strict=True):
            assert codes(frames) == expected_codes(times, start, 3, per_second)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_which_stores_no_display_times(codec: str) -> None:
    times = frame_times(72, 24)
    video = video_bytes(times, container="avi", codec=codec, time_base=Fraction(1, 24))
    for start in (0.0, 1.25):
        assert codes(sample(video, start, 1.5).frames[1]) == expected_codes(times, start, 1.5, 25)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_late_start_is_reached_by_seeking(container: str) -> None:
    video = video_bytes(frame_times(750, 25), container=container, time_base=CONTAINERS[container], gop=25)
    calls = itertools.count()
    sampled = sample(video, 22.2, check_cancelled=lambda: next(calls))
    assert codes(sampled.frames[1]) == expected_codes(stamps(video), 22.2, 1, 25)
    assert next(calls) <= 4 * 25 + 16, "decoded from far before the start"


def test_both_rates_come_from_one_decoding_pass(clip: bytes) -> None:
    calls = itertools.count()
    sample(clip, seconds=3, check_cancelled=lambda: next(calls))
    assert next(calls) == 90  # each frame once
    calls = itertools.count()
    sample(clip, seconds=1, check_cancelled=lambda: next(calls))
    assert next(calls) == 30  # frame 29 is on screen at 0.96 s, frame 30 would start at 1 s


def test_the_last_frame_is_repeated_past_the_end(clip: bytes) -> None:
    sampled = sample(clip, 2.5, 2)
    assert codes(sampled.frames[0]) == [75, 81, 87, 89, 89, 89, 89, 89, 89, 89]
    assert sampled.duration == pytest.approx(0.5, abs=1e-4)


def test_the_last_frame_of_the_time_range_is_repeated(clip: bytes) -> None:
    sampled = sample(clip, 1.0, 1, duration=0.5)
    assert codes(sampled.frames[0]) == [30, 36, 42, 44, 44]  # 45 starts where the time range ends
    assert sampled.duration == pytest.approx(0.5, abs=1e-9)


@pytest.mark.parametrize(
    ("trim", "start", "codes_at_5fps", "duration"),
    [
        ((1.0, 0.6), 0.0, [30, 36, 42, 47, 47], 0.6),
        ((1.0, 0.6), 0.2, [36, 42, 47, 47, 47], 0.4),
        ((1.0, 0.0), 0.2, [36, 42, 48, 54, 60], 1.8),  # 0: to the end
        ((0.0, 0.0), 0.0, [0, 6, 12, 18, 24], 3.0),
    ],
)
def test_trim_moves_start_and_end(
    clip: bytes, trim: tuple[float, float], start: float, codes_at_5fps: list[int], duration: float
) -> None:
    sampled = sample(clip, start, 1, trim=trim)
    assert codes(sampled.frames[0]) == codes_at_5fps
    assert sampled.duration == pytest.approx(duration, abs=1e-4)


def test_a_single_frame_fills_everything() -> None:
    video = video_bytes([Fraction(0)], picture=lambda _, w, h: code_picture(5, w, h))
    sampled = sample(video, seconds=1)
    assert codes(sampled.frames[1]) == [5] * 25
    assert 0 < sampled.duration < 0.2
