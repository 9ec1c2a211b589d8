"""Requests that are refused, damaged videos, and files that are not videos."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
import videos
from sampled_frames import codes, interrupt, sample
from videos import frame_times, video_bytes

from audiox_ext.errors import InputError, MediaError
from audiox_ext.media.frames import TimeRange
from audiox_ext.media.probing import probe_video


def test_cancelling_leaves_the_file_usable(clip: bytes) -> None:
    memory = io.BytesIO(clip)
    with pytest.raises(KeyboardInterrupt):
        sample(memory, check_cancelled=interrupt)
    assert codes(sample(memory).frames[0]) == [0, 6, 12, 18, 24]


@pytest.mark.parametrize("start", [-1, math.nan, math.inf])
def test_impossible_starts_are_refused(start: float) -> None:
    with pytest.raises(InputError, match="start"):
        TimeRange(start=start)


@pytest.mark.parametrize("duration", [0, -1, math.nan, math.inf])
def test_impossible_durations_are_refused(duration: float) -> None:
    with pytest.raises(InputError, match="duration"):
        TimeRange(duration=duration)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": (0,)}, "rate of 0"),
        ({"rates": (5, -25)}, "rate of -25"),
        ({"rates": (math.nan,)}, "rate of nan"),
        ({"rates": (math.inf,)}, "rate of inf"),
        ({"rates": (0.1,)}, "no frame"),
        ({"seconds": 0}, "0 s"),
        ({"seconds": math.nan}, "nan s"),
        ({"size": 0}, "0 pixels"),
        ({"resize": "stretch"}, "squash, crop"),
        ({"trim": (-1.0, 0.0)}, "trimmed"),
        ({"trim": (0.0, math.nan)}, "trimmed"),
        ({"trim": (0.0, 0.5), "start": 0.5}, "0.5 s long"),
        ({"trim": (4.0, 0.0)}, "3 s long"),
        ({"start": 3.0}, "start is 3 s, but the video is only 3 s long"),
        ({"start": 3000.0}, "3 s long"),
    ],
)
def test_impossible_requests_are_refused(clip: bytes, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sample(clip, **settings)


def test_unreadable_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all, just words " * 50)
    videos.write_sound(tmp_path / "sound.mp4")
    for name, message in (
        ("missing.mp4", "There is no file"),
        ("empty.mp4", "empty"),
        ("text.mp4", "cannot be read"),
        ("sound.mp4", "only audio"),
        ("", "not a regular file"),
    ):
        for look in (sample, probe_video):
            with pytest.raises(MediaError, match=message) as error:
                look(tmp_path / name)
            assert name in str(error.value)
    for data, message in ((b"", "empty"), (b"words " * 99, "cannot be read")):
        with pytest.raises(MediaError, match=f"file in memory.*{message}"):
            sample(data)
    with pytest.raises(MediaError, match="NoneType"):
        sample(None)


def test_an_incomplete_video_is_used_up_to_its_end(tmp_path: Path) -> None:
    video = video_bytes(frame_times(90, 30), container="matroska", time_base=Fraction(1, 1000))
    whole = sample(video, 0, 1)
    first_half = video[: len(video) // 2]
    assert torch.equal(sample(first_half, 0, 0.8).frames[0], whole.frames[0][:4])
    sampled = sample(first_half, 0, 3)
    last = codes(sampled.frames[1])[-1]
    assert 15 < last < 60
    assert sampled.duration == pytest.approx((last + 1) / 30, abs=0.04)
    with pytest.raises(InputError, match="long"):
        sample(first_half, 2.9)


def test_frames_that_cannot_be_decoded_are_skipped_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "video.mov"
    videos.write_video(
        path,
        frame_times(20, 5),
        container="mov",
        codec="png",
        pixel_format="rgb24",
    )
    data, packets = bytearray(path.read_bytes()), videos.packets(path)
    for index in (7, 8):
        offset = data.index(packets[index])
        data[offset : offset + len(packets[index])] = bytes(len(packets[index]))
    sampled = sample(bytes(data), 1, 2)
    assert codes(sampled.frames[0]) == [5, 6, 6, 6, 9, 10, 11, 12, 13, 14]
    sample(bytes(data), 1, 3)
    assert "cannot be decoded" in caplog.text


def test_lost_packets_do_not_shift_the_rest() -> None:
    video = bytearray(video_bytes(frame_times(90, 30), container="mpegts"))
    third = len(video) // 3 // 188 * 188
    video[third : third + 188 * 40] = bytes(188 * 40)
    numbers = codes(sample(bytes(video), 0, 3).frames[0])
    assert numbers[0] == 0
    assert numbers[-1] == 84


def test_a_header_without_any_frame_is_refused(clip: bytes) -> None:
    video = video_bytes(frame_times(30, 30), container="matroska", time_base=Fraction(1, 1000))
    first = video.index(b"\x1f\x43\xb6\x75")  # the first Matroska cluster
    with pytest.raises(MediaError, match=r"decoded|read"):
        sample(video[: first + 8])
    with pytest.raises(MediaError):
        sample(clip[: len(clip) // 2])  # an mp4 whose index, at its end, is missing
