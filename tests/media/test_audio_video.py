"""Audio survives being written and read."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from videos import frame_times, write_video
from waves import amplitude_at, decibels, sine, stereo

from audiox_ext.errors import InputError, MediaError
from audiox_ext.media.audio_video import holds_floats, read_audio, write_audio
from audiox_ext.media.waveforms import conform_audio


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
    assert decibels(amplitude_at(back[0], 440, new_rate) / 0.5) == pytest.approx(0, abs=limit)
    assert decibels(amplitude_at(back[1], 1000, new_rate) / 0.25) == pytest.approx(0, abs=limit)
    assert decibels(amplitude_at(back[1], 440, new_rate) / 0.5) < -40  # channels are not mixed


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
    assert amplitude_at(wave[0], 440, rate) == pytest.approx(0.5, rel=0.02)


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


@pytest.mark.parametrize("channels", [1, 2, 6, 8])
def test_floating_point_wav_keeps_every_value(channels: int, tmp_path: Path) -> None:
    wave = torch.randn(channels, 4800, generator=torch.Generator().manual_seed(1)) * 3
    write_audio(tmp_path / "float.wav", wave, 48000, keep_floats=True)
    assert torch.equal(read_audio(tmp_path / "float.wav")[0], wave)
    assert holds_floats(tmp_path / "float.wav")
    write_audio(tmp_path / "whole.wav", wave / 16, 48000)
    assert not holds_floats(tmp_path / "whole.wav")
    write_audio(tmp_path / "sound.flac", wave / 16, 48000, keep_floats=True)
    assert not holds_floats(tmp_path / "sound.flac")
