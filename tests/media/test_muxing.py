"""A new audio track leaves the video frames unchanged."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import videos
from torch import Tensor
from videos import code_picture, frame_times, packets, read_code, write_video
from waves import amplitude_at, sine, stereo

from audiox_ext.errors import InputError, MediaError
from audiox_ext.media.audio_video import read_audio
from audiox_ext.media.frames import TimeRange, sample_frames
from audiox_ext.media.muxing import replace_audio_track
from audiox_ext.media.probing import probe_video


def replace_track(
    source: Path, out: Path, seconds: float = 1.0, **settings: float | None
) -> tuple[Tensor, int]:
    replace_audio_track(source, stereo(44100, seconds), 44100, out, **settings)
    return read_audio(out)


def read_codes(path: Path, seconds: float) -> list[int]:
    frames = sample_frames(path, rates=(25,), seconds=seconds, time_range=TimeRange()).frames[0]
    return [read_code(frame) for frame in frames]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("container", "suffix"),
    [
        ("mp4", ".mp4"),
        ("mp4", ".mov"),
        ("mp4", ".mkv"),
        ("matroska", ".mp4"),
        ("matroska", ".mkv"),
        ("mpegts", ".mp4"),
    ],
)
def test_video_packets_are_copied_bit_for_bit(container: str, suffix: str, tmp_path: Path) -> None:
    source, out = tmp_path / "in.video", tmp_path / f"out{suffix}"
    write_video(
        source, frame_times(60, 30), container=container, time_base=Fraction(1, 1000), audio_seconds=1
    )
    wave, rate = replace_track(source, out, seconds=3)
    if container != "mpegts":  # whose start codes become lengths
        assert packets(out) == packets(source)
    assert read_codes(out, 2.0) == read_codes(source, 2.0)
    info = probe_video(out)
    assert info.duration == pytest.approx(2.0, abs=2e-3)
    assert wave.shape[1] / rate == pytest.approx(2.0, abs=0.05)  # cut to the video, up to two blocks of AAC
    assert amplitude_at(wave[1], 1000, rate) == pytest.approx(0.25, rel=0.02)
    with av.open(str(out)) as container_out:
        assert [stream.type for stream in container_out.streams] == ["video", "audio"]


def find_onset(wave: Tensor, rate: int) -> float:
    """Seconds until the audio begins."""
    return int((wave.abs().amax(dim=0) > 0.1).nonzero()[0]) / rate


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm"])
def test_audio_and_video_start_together(suffix: str, tmp_path: Path) -> None:
    click = torch.zeros(1, 44100)
    click[:, 22050:] = sine(1000, 44100, 0.5)
    write_video(tmp_path / "in.mp4", frame_times(30, 30))
    replace_audio_track(tmp_path / "in.mp4", click, 44100, tmp_path / f"out{suffix}")
    with av.open(str(tmp_path / f"out{suffix}")) as out:
        begin = min(float(frame.pts * frame.time_base) for frame in out.decode(video=0))
    with av.open(str(tmp_path / f"out{suffix}")) as out:
        first = next(out.decode(audio=0))
    wave, rate = read_audio(tmp_path / f"out{suffix}")
    at = float(first.pts * first.time_base) + find_onset(wave, rate) - begin
    assert at == pytest.approx(0.5, abs=0.004)


def test_short_sound_is_followed_by_silence(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", frame_times(50, 25))
    wave, rate = replace_track(tmp_path / "in.mp4", tmp_path / "out.mp4", seconds=0.5)
    assert wave.shape[1] / rate == pytest.approx(2.0, abs=0.03)
    assert wave[:, round(0.6 * rate) :].abs().max() < 1e-3


@pytest.mark.parametrize("start", [0.0, 0.5, 1.23])
def test_a_part_has_the_right_frames_at_the_right_times(start: float, tmp_path: Path) -> None:
    times = frame_times(75, 30)
    write_video(tmp_path / "in.mp4", times)
    wave, rate = replace_track(
        tmp_path / "in.mp4", tmp_path / "out.mp4", seconds=5, start=start, duration=1.0
    )
    exact = Fraction(start).limit_denominator(1000)
    assert read_codes(tmp_path / "out.mp4", 1.0) == [
        videos.on_screen(times, exact + Fraction(i, 25)) for i in range(25)
    ]
    assert probe_video(tmp_path / "out.mp4").duration == pytest.approx(1.0, abs=0.04)
    assert wave.shape[1] / rate == pytest.approx(1.0, abs=0.03)


def test_a_codec_that_the_container_cannot_hold_is_encoded(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", frame_times(30, 30), width=65 * 2, height=48)
    replace_track(tmp_path / "in.mp4", tmp_path / "out.webm")
    assert read_codes(tmp_path / "out.webm", 0.8) == read_codes(tmp_path / "in.mp4", 0.8)
    assert probe_video(tmp_path / "out.webm").duration == pytest.approx(1.0, abs=0.04)
    write_video(tmp_path / "in.avi", frame_times(30, 30), container="avi", time_base=Fraction(1, 30))
    replace_track(tmp_path / "in.avi", tmp_path / "out.mp4")
    assert read_codes(tmp_path / "out.mp4", 0.8) == read_codes(tmp_path / "in.avi", 0.8)


@pytest.mark.skipif(
    not hasattr(av.VideoStream, "set_display_rotation"), reason="PyAV cannot write a rotation"
)
@pytest.mark.parametrize("duration", [None, 0.5])
def test_phone_clips_stay_upright(duration: float | None, tmp_path: Path) -> None:
    def half_white(_: int, width: int, height: int) -> np.ndarray:
        return (
            np.repeat(np.repeat([[255, 0]], height, 0), width // 2, 1)[..., None]
            .repeat(3, 2)
            .astype(np.uint8)
        )

    write_video(tmp_path / "in.mp4", frame_times(25, 25), picture=half_white, rotation=-90)
    replace_track(tmp_path / "in.mp4", tmp_path / "out.mp4", duration=duration)
    info = probe_video(tmp_path / "out.mp4")
    assert (info.width, info.height) == (48, 64)
    frame = (
        sample_frames(tmp_path / "out.mp4", rates=(5,), seconds=1, time_range=TimeRange())
        .frames[0][0]
        .float()
    )
    assert frame[:, 20, 112].mean() > 200  # the left of the stored picture is the top
    assert frame[:, 200, 112].mean() < 50


def test_a_video_can_be_replaced_in_place(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frame_times(25, 25))
    before = packets(tmp_path / "a.mp4")
    wave, rate = replace_track(tmp_path / "a.mp4", tmp_path / "a.mp4")
    assert packets(tmp_path / "a.mp4") == before
    assert amplitude_at(wave[0], 440, rate) == pytest.approx(0.5, rel=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_start_after_the_end_of_an_incomplete_file_is_refused(tmp_path: Path) -> None:
    write_video(
        tmp_path / "whole.mkv", frame_times(90, 30), container="matroska", time_base=Fraction(1, 1000)
    )
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "in.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"only 0\.\d+ s long"):
        replace_audio_track(tmp_path / "in.mkv", stereo(), 44100, tmp_path / "out.mkv", start=2.5)
    assert not (tmp_path / "out.mkv").exists()


def test_impossible_tracks_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    video = tmp_path / "in.mp4"
    write_video(video, frame_times(25, 25), picture=lambda i, w, h: code_picture(i, w, h))
    for settings, message in (
        ({"start": -1.0}, "start"),
        ({"start": 1.0}, "only 1 s long"),
        ({"duration": 0.0}, "duration"),
    ):
        with pytest.raises(InputError, match=message):
            replace_audio_track(video, stereo(), 44100, tmp_path / "out.mp4", **settings)
    with pytest.raises(InputError, match=r"\.mp4, \.m4v"):
        replace_audio_track(video, stereo(), 44100, tmp_path / "out.avi")
    with pytest.raises(InputError, match="rate is 0"):
        replace_audio_track(video, stereo(), 0, tmp_path / "out.mp4")
    with pytest.raises(MediaError, match="no file"):
        replace_audio_track(tmp_path / "missing.mp4", stereo(), 44100, tmp_path / "out.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
