"""Sound is mixed and added to a video in time, and the video is copied."""

from __future__ import annotations

import io
import logging
import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from videos import frame_times, packets, write_video
from waves import noise, sine

from audiox_ext.errors import InputError
from audiox_ext.media.audio_video import read_audio, read_soundtrack
from audiox_ext.media.containers import open_media
from audiox_ext.media.muxing import choose_video_suffix, replace_audio_track
from audiox_ext.media.probing import probe_video
from audiox_ext.media.soundtrack import Mix, PlacedSound, add_sound_to_video, mix_down
from audiox_ext.media.waveforms import conform_audio


def test_sounds_are_mixed_where_they_begin() -> None:
    one, two = torch.full((1, 100), 0.25), torch.full((2, 50), 0.5)
    half = -20 * math.log10(2)
    mix, rate = mix_down(
        [
            PlacedSound(waveform=one, rate=100, start=0.5),
            PlacedSound(waveform=two, rate=100, start=-0.2, gain=half),
        ],
        seconds=1.2,
    )
    assert (rate, mix.shape) == (100, (2, 120))  # 1.5 s are cut to 1.2
    torch.testing.assert_close(mix[0, :30], torch.full((30,), 0.25))
    assert mix[:, 30:50].abs().max() == 0
    torch.testing.assert_close(mix[1, 50:], torch.full((70,), 0.25))


def test_a_mix_that_would_clip_is_scaled_down_as_a_whole(caplog: pytest.LogCaptureFixture) -> None:
    wave = sine(440, 8000)
    loud = PlacedSound(waveform=wave, rate=8000, gain=20)
    mix, _ = mix_down([loud, PlacedSound(waveform=wave, rate=8000)], seconds=2)
    assert float(mix.abs().max()) == pytest.approx(1)
    torch.testing.assert_close(mix[0] / mix[0].abs().max(), wave[0] / wave.abs().max(), atol=1e-5, rtol=0)
    assert "14.8 dB above full scale" in caplog.text
    with pytest.raises(InputError, match="gain is nan"):
        mix_down([PlacedSound(waveform=wave, rate=8000, gain=math.nan)], seconds=2)


def delay(received: Tensor, sent: Tensor) -> int:
    """Samples by which (S,) `received` comes after `sent`, where the two correlate best."""
    length = len(received) + len(sent)
    spectrum = torch.fft.rfft(received.double(), length) * torch.fft.rfft(sent.double(), length).conj()
    best = int(torch.fft.irfft(spectrum, length).argmax())
    return best if best < len(received) else best - length


def test_the_video_is_copied_and_the_sound_is_in_place(tmp_path: Path) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, frame_times(60, 30), audio_seconds=2, width=66, height=50)
    wave = 3 * noise(2, 1.0, seed=3)
    add_sound_to_video(source, (wave, 44100), out, Mix(start=0.5))
    assert packets(out) == packets(source)
    assert probe_video(out).duration == pytest.approx(2, abs=2e-3)
    soundtrack = read_soundtrack(out)
    assert soundtrack is not None
    waveform, rate, begin = soundtrack
    assert delay(waveform[0], wave[0]) / rate + begin == pytest.approx(0.5, abs=1e-3)
    part = waveform[0, delay(waveform[0], wave[0]) :][: wave.shape[1]]
    assert float(torch.corrcoef(torch.stack([part, wave[0]]))[0, 1]) > 0.95  # AAC, of noise
    assert waveform[:, : round(0.45 * rate)].abs().max() < 0.01
    assert waveform.shape[1] / rate == pytest.approx(2, abs=0.05)


def test_the_videos_own_audio_is_mixed_in_at_its_place(tmp_path: Path) -> None:
    """Through two files: mixing a second time must not shift the audio."""
    source, first, second = tmp_path / "in.mp4", tmp_path / "first.mkv", tmp_path / "second.mp4"
    write_video(source, frame_times(75, 25))
    own, new = 3 * noise(1, 1.0, seed=4), 3 * noise(1, 1.0, 48000, seed=5)
    add_sound_to_video(source, (own, 44100), first, Mix(start=0.25))
    add_sound_to_video(first, (new, 48000), second, Mix(start=1.5, original_gain=-6.0))
    waveform, rate = read_audio(second)
    assert rate == 48000
    sent = conform_audio(own, 44100, target_rate=48000)[0]
    assert delay(waveform[0], new[0]) / rate == pytest.approx(1.5, abs=1e-3)
    place = delay(waveform[0], sent)
    assert place / rate == pytest.approx(0.25, abs=1e-3)
    quieter = float(waveform[0, place : place + rate].norm() / sent.norm())
    assert 20 * math.log10(quieter) == pytest.approx(-6, abs=0.5)
    assert packets(second) == packets(source)


def test_audio_that_begins_after_the_first_frame_stays_there(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    write_video(tmp_path / "in.mp4", frame_times(50, 25))
    with av.open(str(tmp_path / "in.mp4")) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        sound = output.add_stream("pcm_s16le", rate=8000, layout="mono")
        for packet in source.demux(stream):
            if packet.size:
                packet.pts += round(3 / stream.time_base)
                packet.dts += round(3 / stream.time_base)
                packet.stream = copy
                output.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.ones((1, 8000), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = 8000, Fraction(1, 8000), round(3.75 * 8000)
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    soundtrack = read_soundtrack(path)
    assert soundtrack is not None
    assert (soundtrack[0].shape, soundtrack[1]) == ((1, 8000), 8000)
    assert soundtrack[2] == pytest.approx(0.75, abs=2e-3)
    assert read_soundtrack(tmp_path / "in.mp4") is None


def test_a_trimmed_video_keeps_its_own_audio_in_time(tmp_path: Path) -> None:
    source, with_sound, out = tmp_path / "in.mp4", tmp_path / "own.mp4", tmp_path / "out.mp4"
    write_video(source, frame_times(75, 25))
    own = 3 * noise(1, 3.0, seed=6)
    replace_audio_track(source, own, 44100, with_sound)
    settings = Mix(original_gain=0.0, gain=-60.0)
    add_sound_to_video(with_sound, (noise(), 44100), out, settings, trim=(1.0, 1.5))
    waveform, rate = read_audio(out)
    assert probe_video(out).duration == pytest.approx(1.5, abs=0.05)
    assert delay(waveform[0], own[0]) / rate == pytest.approx(-1.0, abs=1e-3)


def test_the_video_can_end_with_the_sound(tmp_path: Path) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, frame_times(75, 25))
    add_sound_to_video(source, (noise(2, 1.0), 44100), out, Mix(start=0.4, shortest=True))
    assert probe_video(out).duration == pytest.approx(1.4, abs=0.041)
    add_sound_to_video(source, (noise(2, 9.0), 44100), out, Mix(shortest=True))
    assert packets(out) == packets(source)


def test_a_sound_outside_the_video_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, frame_times(25, 25))
    for start, trim in ((1.0, (0.0, 0.0)), (-3.0, (0.0, 0.0)), (0.4, (0.25, 0.25))):
        with pytest.raises(InputError, match="Choose a start"):
            add_sound_to_video(source, (noise(), 44100), out, Mix(start=start), trim=trim)
    with pytest.raises(InputError, match="sample rate is 0"):
        add_sound_to_video(source, (noise(), 0), out, Mix())
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize(
    ("codec", "container", "pixel_format", "suffix"),
    [
        ("libx264", "matroska", "yuv420p", ".mp4"),
        ("libvpx", "webm", "yuv420p", ".webm"),
        ("prores_ks", "mov", "yuv422p10le", ".mkv"),
    ],
)
def test_the_suffix_suits_the_codec(
    codec: str, container: str, pixel_format: str, suffix: str, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    write_video(
        source, frame_times(10, 25), container=container, codec=codec, pixel_format=pixel_format,
        time_base=Fraction(1, 1000),
        options={"threads": "1"},
    )  # fmt: skip
    assert choose_video_suffix(io.BytesIO(source.read_bytes())) == suffix
    replace_audio_track(io.BytesIO(source.read_bytes()), noise(), 44100, tmp_path / f"out{suffix}")
    assert packets(tmp_path / f"out{suffix}") == packets(source)


def test_metadata_is_written_and_read_back(tmp_path: Path) -> None:
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    write_video(source, frame_times(10, 25))
    metadata = {"prompt": '{"1": {}}', "workflow": '{"text": "ä, ü"}'}
    for duration in (None, 0.2):  # copied, then re-encoded
        replace_audio_track(source, noise(), 44100, out, metadata=metadata, duration=duration)
        with open_media(out) as container:
            assert metadata.items() <= container.metadata.items()
    content = out.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser can start immediately


class StopError(Exception):
    """The user has cancelled."""


@pytest.mark.parametrize("duration", [None, 1.0])
def test_cancelling_leaves_nothing_behind(duration: float | None, tmp_path: Path) -> None:
    source, calls = tmp_path / "in.mp4", []
    write_video(source, frame_times(50, 25))

    def cancel() -> None:
        calls.append(1)
        if len(calls) == 10:
            raise StopError

    with pytest.raises(StopError):
        replace_audio_track(
            source, noise(), 44100, tmp_path / "out.mp4", duration=duration, check_cancelled=cancel
        )
    assert list(tmp_path.iterdir()) == [source]


def test_a_video_without_audio_is_mixed_with_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    write_video(tmp_path / "in.mp4", frame_times(25, 25))
    add_sound_to_video(tmp_path / "in.mp4", (noise(), 44100), tmp_path / "out.mp4", Mix(original_gain=0.0))
    assert "no audio of its own" in caplog.text
    assert read_audio(tmp_path / "out.mp4")[0].abs().max() > 0.01
