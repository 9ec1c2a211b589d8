"""Audio survives reading, writing and resampling; a new audio track leaves the video frames unchanged."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
import videos
from torch import Tensor
from videos import code_picture, frame_times, packets, read_code, write_video

from audiox_ext.errors import InputError, MediaError
from audiox_ext.media.audio_video import read_audio, write_audio
from audiox_ext.media.frames import TimeRange, sample_frames
from audiox_ext.media.muxing import replace_audio_track
from audiox_ext.media.probing import probe_video
from audiox_ext.media.waveforms import conform_audio


def sine(frequency: float, rate: int, seconds: float = 1.0, level: float = 0.5) -> Tensor:
    """(1, S)"""
    turns = frequency / rate * torch.arange(round(seconds * rate), dtype=torch.float64)
    return (level * torch.sin(2 * math.pi * turns))[None].float()


def stereo(rate: int = 44100, seconds: float = 1.0) -> Tensor:
    """440 Hz at -6 dB on the left, 1 kHz at -12 dB on the right."""
    return torch.cat([sine(440, rate, seconds), sine(1000, rate, seconds, 0.25)])


def level_at(wave: Tensor, frequency: float, rate: int) -> float:
    """Amplitude of one frequency in the middle half of (S,)."""
    quarter = len(wave) // 4
    middle = wave[quarter : 3 * quarter].double()
    window = torch.hann_window(len(middle), periodic=False, dtype=torch.float64)
    turning = torch.exp(-2j * math.pi * frequency * torch.arange(len(middle), dtype=torch.float64) / rate)
    return 2 * abs((middle * window * turning).sum().item()) / window.sum().item()


def decibels(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-12))


# --- reading and writing


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_lossless_files_keep_24_bits_of_every_channel(suffix: str, channels: int, tmp_path: Path) -> None:
    wave = torch.rand(channels, 30011, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_audio(tmp_path / f"a{suffix}", wave, 44100)
    back, rate = read_audio(tmp_path / f"a{suffix}")
    assert (rate, back.dtype, back.shape) == (44100, torch.float32, wave.shape)
    assert (back - wave).abs().max() <= 2**-24 + 2**-25  # half a step of 24 bits, and float32 itself


@pytest.mark.parametrize("suffix", [".mp3", ".ogg", ".opus", ".m4a"])
@pytest.mark.parametrize("rate", [8000, 44100, 48000, 192000])
def test_lossy_files_keep_amplitudes_and_channels(suffix: str, rate: int, tmp_path: Path) -> None:
    write_audio(tmp_path / f"a{suffix}", stereo(rate), rate)
    back, new_rate = read_audio(str(tmp_path / f"a{suffix}"))
    assert len(back) == 2
    assert back.shape[1] / new_rate == pytest.approx(1.0, abs=0.06)  # codecs pad to whole blocks
    limit = 0.3 if rate > 8000 else 0.6  # decibels; the low rates of MP3 have few bits
    assert decibels(level_at(back[0], 440, new_rate) / 0.5) == pytest.approx(0, abs=limit)
    assert decibels(level_at(back[1], 1000, new_rate) / 0.25) == pytest.approx(0, abs=limit)
    assert decibels(level_at(back[1], 440, new_rate) / 0.5) < -40  # channels are not mixed


def test_mono_stays_mono(tmp_path: Path) -> None:
    for suffix in (".wav", ".flac", ".mp3", ".opus", ".m4a"):
        write_audio(tmp_path / f"a{suffix}", sine(440, 48000), 48000)
        assert len(read_audio(tmp_path / f"a{suffix}")[0]) == 1


def test_any_rate_goes_into_a_wave_file(tmp_path: Path) -> None:
    for rate in (8000, 11111, 96000, 192000):
        write_audio(tmp_path / "a.wav", sine(440, rate, 0.1), rate)
        assert read_audio(tmp_path / "a.wav")[1] == rate


@pytest.mark.parametrize(
    ("codec", "dtype", "full"),
    [
        ("pcm_u8", "u8", 128),
        ("pcm_s16le", "s16", 2**15),
        ("pcm_s32le", "s32", 2**31),
        ("pcm_f32le", "flt", 1),
    ],
)
def test_every_sample_format_is_read_to_scale(codec: str, dtype: str, full: float) -> None:
    file, wave = io.BytesIO(), np.array([[-1.0, -0.5, 0.0, 0.25, 0.5, 0.75] * 100])
    kind = {"u8": np.uint8, "s16": np.int16, "s32": np.int32, "flt": np.float32}[dtype]
    with av.open(file, "w", format="wav") as output:
        stream = output.add_stream(codec, rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (wave * full + (128 if dtype == "u8" else 0)).astype(kind), dtype, "mono"
        )
        frame.sample_rate = 16000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    back, rate = read_audio(file)
    assert rate == 16000
    assert np.array_equal(back.numpy(), wave.astype(np.float32))


def test_the_sound_of_a_video_is_read(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frame_times(25, 25), audio_seconds=1.0)
    wave, rate = read_audio(tmp_path / "a.mp4")
    assert rate == 44100
    assert wave.shape[1] / rate == pytest.approx(1.0, abs=0.03)
    assert level_at(wave[0], 440, rate) == pytest.approx(0.5, rel=0.02)


def test_loud_waveforms_are_clipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_audio(tmp_path / "a.wav", torch.tensor([[0.5, 1.5, -3.0]]), 44100)
    assert read_audio(tmp_path / "a.wav")[0].tolist() == [[0.5, pytest.approx(1, abs=1e-6), -1.0]]
    assert "3.000" in caplog.text


def test_unreadable_audio_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("words " * 99)
    write_video(tmp_path / "silent.mp4", frame_times(5, 25))
    for name, message in (
        ("missing.wav", "no file"),
        ("empty.wav", "empty"),
        ("text.wav", "cannot be read"),
        ("silent.mp4", "no audio"),
    ):
        with pytest.raises(MediaError, match=message):
            read_audio(tmp_path / name)


def test_an_incomplete_file_is_read_up_to_its_end(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.flac", stereo(), 44100)
    data = (tmp_path / "a.flac").read_bytes()
    wave, _ = read_audio(io.BytesIO(data[: len(data) // 2]))
    assert 10000 < wave.shape[1] < 40000


BAD_WAVES = [
    (torch.zeros(2, 0), 44100, "empty"),
    (torch.zeros(100), 44100, r"\(100,\)"),
    (torch.zeros(2, 2, 100), 44100, r"\(2, 2, 100\)"),
    (torch.tensor([[0.0, math.nan]]), 44100, "1 samples that are NaN"),
    (torch.tensor([[0.0, math.inf]]), 44100, "infinite"),
    (torch.zeros(2, 100, dtype=torch.int16), 44100, "int16"),
    (torch.zeros(2, 100), 0, "rate is 0"),
    (torch.zeros(2, 100), -8000, "rate is -8000"),
    (torch.zeros(2, 100), math.nan, "rate is nan"),
    (torch.zeros(9, 100), 44100, "9"),
]


@pytest.mark.parametrize(("wave", "rate", "message"), BAD_WAVES)
def test_impossible_waveforms_are_refused(wave: Tensor, rate: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        conform_audio(wave, rate, target_rate=44100)
    with pytest.raises(InputError, match=message):
        write_audio(tmp_path / "a.wav", wave, rate)
    assert not list(tmp_path.iterdir())


def test_impossible_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.aiff.*\.wav, \.flac"):
        write_audio(tmp_path / "a.aiff", stereo(), 44100)
    with pytest.raises(InputError, match="6"):
        write_audio(tmp_path / "a.mp3", torch.zeros(6, 100), 44100)
    with pytest.raises(MediaError, match="no folder"):
        write_audio(tmp_path / "missing" / "a.wav", stereo(), 44100)
    with pytest.raises(InputError, match="target rate"):
        conform_audio(stereo(), 44100, target_rate=0)
    with pytest.raises(InputError, match="channels is 3"):
        conform_audio(stereo(), 44100, target_rate=44100, channels=3)
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_audio(tmp_path / "a.wav", stereo(), 44100)
    before = (tmp_path / "a.wav").read_bytes()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("audiox_ext.media.encoding.AudioEncoder.close", full_disk)
    with pytest.raises(MediaError, match="No space left"):
        write_audio(tmp_path / "a.wav", stereo(), 22050)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert (tmp_path / "a.wav").read_bytes() == before


# --- conforming


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44056, 48000, 96000, 192000])
def test_a_sine_keeps_amplitude_and_frequency(rate: int) -> None:
    for frequency in (100.0, 0.4 * min(rate, 44100)):
        out = conform_audio(sine(frequency, rate), rate, target_rate=44100)
        assert out.shape == (2, 44100)
        assert decibels(level_at(out[0], frequency, 44100) / 0.5) == pytest.approx(0, abs=0.01)
        expected = sine(frequency, 44100)[0]
        assert (out[0] - expected)[2000:-2000].abs().max() < 1e-3  # same phase: no delay, nothing added


def test_resampling_removes_frequencies_above_the_lower_nyquist() -> None:
    out = conform_audio(sine(30000, 192000), 192000, target_rate=44100)
    assert decibels(float(out[0, 2000:-2000].abs().max()) / 0.5) < -85
    up = conform_audio(sine(3000, 8000), 8000, target_rate=44100)
    assert decibels(level_at(up[0], 8000 - 3000, 44100) / 0.5) < -85  # no mirror image


def test_the_same_rate_changes_nothing() -> None:
    wave = stereo()
    assert torch.equal(conform_audio(wave, 44100, target_rate=44100), wave)
    assert torch.equal(conform_audio(wave[None].double(), 44100, target_rate=44100), wave)


def test_channels_are_doubled_or_averaged() -> None:
    wave = stereo()
    assert torch.equal(conform_audio(wave[:1], 44100, target_rate=44100), wave[:1].expand(2, -1))
    mono = conform_audio(wave, 44100, target_rate=44100, channels=1)
    assert torch.allclose(mono, (wave[:1] + wave[1:]) / 2)


@pytest.mark.parametrize(
    ("channel", "left", "right"),
    [(0, 1, 0), (1, 0, 1), (2, 0.7071, 0.7071), (3, 0, 0), (4, 0.7071, 0), (5, 0, 0.7071)],
    ids=["left", "right", "centre", "lfe", "surround left", "surround right"],
)
def test_five_one_is_mixed_by_bs775(channel: int, left: float, right: float) -> None:
    wave = torch.zeros(6, 100)
    wave[channel] = 0.5
    out = conform_audio(wave, 44100, target_rate=44100)
    assert out[:, 0].tolist() == pytest.approx([0.5 * left, 0.5 * right], abs=1e-4)


def test_a_loud_mix_is_scaled_not_clipped() -> None:
    out = conform_audio(torch.ones(6, 100), 44100, target_rate=44100)
    assert out.max() == pytest.approx(1)
    assert all(
        conform_audio(torch.rand(n, 50), 44100, target_rate=44100).shape == (2, 50) for n in range(1, 9)
    )


# --- a new audio track


def new_track(source: Path, out: Path, seconds: float = 1.0, **settings: float | None) -> tuple[Tensor, int]:
    replace_audio_track(source, stereo(44100, seconds), 44100, out, **settings)
    return read_audio(out)


def seen(path: Path, seconds: float) -> list[int]:
    frames = sample_frames(path, rates=(25,), seconds=seconds, time_range=TimeRange()).frames[0]
    return [read_code(frame) for frame in frames]


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
    wave, rate = new_track(source, out, seconds=3)
    if container != "mpegts":  # whose start codes become lengths
        assert packets(out) == packets(source)
    assert seen(out, 2.0) == seen(source, 2.0)
    info = probe_video(out)
    assert info.duration == pytest.approx(2.0, abs=2e-3)
    assert wave.shape[1] / rate == pytest.approx(2.0, abs=0.05)  # cut to the video, up to two blocks of AAC
    assert level_at(wave[1], 1000, rate) == pytest.approx(0.25, rel=0.02)
    with av.open(str(out)) as container_out:
        assert [stream.type for stream in container_out.streams] == ["video", "audio"]


def onset(wave: Tensor, rate: int) -> float:
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
    at = float(first.pts * first.time_base) + onset(wave, rate) - begin
    assert at == pytest.approx(0.5, abs=0.004)


def test_short_sound_is_followed_by_silence(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", frame_times(50, 25))
    wave, rate = new_track(tmp_path / "in.mp4", tmp_path / "out.mp4", seconds=0.5)
    assert wave.shape[1] / rate == pytest.approx(2.0, abs=0.03)
    assert wave[:, round(0.6 * rate) :].abs().max() < 1e-3


@pytest.mark.parametrize("start", [0.0, 0.5, 1.23])
def test_a_part_has_the_right_frames_at_the_right_times(start: float, tmp_path: Path) -> None:
    times = frame_times(75, 30)
    write_video(tmp_path / "in.mp4", times)
    wave, rate = new_track(tmp_path / "in.mp4", tmp_path / "out.mp4", seconds=5, start=start, duration=1.0)
    exact = Fraction(start).limit_denominator(1000)
    assert seen(tmp_path / "out.mp4", 1.0) == [
        videos.on_screen(times, exact + Fraction(i, 25)) for i in range(25)
    ]
    assert probe_video(tmp_path / "out.mp4").duration == pytest.approx(1.0, abs=0.04)
    assert wave.shape[1] / rate == pytest.approx(1.0, abs=0.03)


def test_a_codec_that_the_container_cannot_hold_is_encoded(tmp_path: Path) -> None:
    write_video(tmp_path / "in.mp4", frame_times(30, 30), width=65 * 2, height=48)
    new_track(tmp_path / "in.mp4", tmp_path / "out.webm")
    assert seen(tmp_path / "out.webm", 0.8) == seen(tmp_path / "in.mp4", 0.8)
    assert probe_video(tmp_path / "out.webm").duration == pytest.approx(1.0, abs=0.04)
    write_video(tmp_path / "in.avi", frame_times(30, 30), container="avi", time_base=Fraction(1, 30))
    new_track(tmp_path / "in.avi", tmp_path / "out.mp4")
    assert seen(tmp_path / "out.mp4", 0.8) == seen(tmp_path / "in.avi", 0.8)


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
    new_track(tmp_path / "in.mp4", tmp_path / "out.mp4", duration=duration)
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
    wave, rate = new_track(tmp_path / "a.mp4", tmp_path / "a.mp4")
    assert packets(tmp_path / "a.mp4") == before
    assert level_at(wave[0], 440, rate) == pytest.approx(0.5, rel=0.02)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_a_start_behind_the_end_of_an_incomplete_file_is_refused(tmp_path: Path) -> None:
    write_video(
        tmp_path / "whole.mkv", frame_times(90, 30), container="matroska", time_base=Fraction(1, 1000)
    )
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "in.mkv").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="the video ends at"):
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
