"""Loudness follows the standard, one gain applies to a whole sound, and sound is added to a video in time."""

from __future__ import annotations

import io
import logging
import math
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from videos import frame_times, packets, write_video

from audiox_ext.errors import AudioXError, InputError
from audiox_ext.media.audio_video import read_audio, read_soundtrack
from audiox_ext.media.containers import open_media
from audiox_ext.media.loudness import (
    Mode,
    describe_gains,
    measure_loudness,
    measure_peak,
    measure_sound,
    normalise,
)
from audiox_ext.media.muxing import choose_video_suffix, replace_audio_track
from audiox_ext.media.probing import probe_video
from audiox_ext.media.soundtrack import Mix, PlacedSound, add_sound_to_video, mix_down
from audiox_ext.media.waveforms import conform_audio


def sine(frequency: float, rate: int = 48000, seconds: float = 20.0, level: float = 0.0) -> Tensor:
    """(S,). level: peak in dBFS."""
    turns = frequency / rate * torch.arange(round(seconds * rate), dtype=torch.float64)
    return (10 ** (level / 20) * torch.sin(2 * math.pi * turns)).float()


def noise(channels: int = 2, seconds: float = 3.0, rate: int = 44100, seed: int = 0) -> Tensor:
    """(C, S) that swells, so that the gates of the measurement matter."""
    samples = round(seconds * rate)
    waves = torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))
    return 0.05 * waves * torch.linspace(0, 1, samples) ** 2


def loudness_of_ffmpeg(waveform: Tensor, rate: int, layout: str) -> float:
    """Integrated loudness by FFmpeg's ebur128 filter."""
    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout, time_base=Fraction(1, rate))
    meter = graph.add("ebur128", "metadata=1:framelog=quiet")
    graph.link_nodes(source, meter, graph.add("abuffersink")).configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(waveform.numpy()), format="fltp", layout=layout)
    frame.sample_rate, frame.pts = rate, 0
    graph.push(frame)
    graph.push(None)
    loudness = math.nan
    while True:
        try:
            metadata = getattr(graph.pull(), "metadata", {})
        except (av.error.EOFError, av.error.BlockingIOError):
            break
        loudness = float(metadata.get("lavfi.r128.I", loudness))
    if math.isnan(loudness):
        pytest.skip("this PyAV does not hand out what its filters say")
    return loudness


# --- measuring


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_the_reference_tone_of_bs1770_reads_3_decibels_below_full_scale(rate: int) -> None:
    tone = sine(997, rate)
    silent = torch.zeros_like(tone)
    # The standard allows the meter's filter 0.1 dB; at 48 kHz its coefficients are given, and it is exact.
    allowed = 0.005 if rate == 48000 else 0.03
    assert measure_loudness(torch.stack([tone, silent]), rate) == pytest.approx(-3.01, abs=allowed)
    assert measure_loudness(tone[None], rate) == pytest.approx(-3.01, abs=allowed)


@pytest.mark.parametrize("level", [-23.0, -33.0])
def test_cases_1_and_2_of_ebu_tech_3341(level: float) -> None:
    tone = sine(1000, level=level)
    assert measure_loudness(torch.stack([tone, tone]), 48000) == pytest.approx(level, abs=0.1)


def test_cases_3_and_4_of_ebu_tech_3341() -> None:
    def tone(level: float, seconds: float) -> Tensor:
        return sine(1000, 48000, seconds, level)

    third = torch.cat([tone(-36, 10), tone(-23, 60), tone(-36, 10)])
    fourth = torch.cat([tone(-72, 10), tone(-36, 10), tone(-23, 60), tone(-36, 10), tone(-72, 10)])
    for wave in (third, fourth):
        assert measure_loudness(torch.stack([wave, wave]), 48000) == pytest.approx(-23, abs=0.1)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize(
    ("channels", "layout"), [(1, "mono"), (2, "stereo"), (3, "3.0"), (4, "quad"), (5, "5.0"), (6, "5.1")]
)
def test_loudness_agrees_with_ffmpeg(channels: int, layout: str, rate: int) -> None:
    wave = noise(channels, 3.03, rate, seed=channels)  # not a whole number of blocks
    # Rounding of the filters' coefficients; a channel weighed wrongly is off by 0.1 and more.
    assert measure_loudness(wave, rate) == pytest.approx(loudness_of_ffmpeg(wave, rate, layout), abs=0.02)


def test_a_short_sound_is_measured_with_silence_around_it() -> None:
    tone = sine(997, seconds=0.1)[None]
    padded = torch.nn.functional.pad(tone, (0, round(0.3 * 48000)))
    assert measure_loudness(tone, 48000) == pytest.approx(measure_loudness(padded, 48000), abs=1e-6)
    # A quarter of the block is 6 dB less; a filter that rings on into the silence adds a little.
    assert measure_loudness(tone, 48000) == pytest.approx(-3.01 - 6.02, abs=0.1)
    assert math.isfinite(measure_loudness(torch.ones(1, 1), 44100))


def test_unmeasurable_sounds_are_explained() -> None:
    with pytest.raises(InputError, match="7 channels"):
        measure_loudness(noise(7), 44100)
    with pytest.raises(InputError, match="4000 Hz"):
        measure_loudness(noise(), 4000)
    level = measure_sound(noise(8), 44100)
    assert level.loudness is None
    assert str(level).endswith("loudness not measured")


def test_without_pyloudnorm_the_peak_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    with pytest.raises(InputError, match="python -m pip install pyloudnorm"):
        normalise(noise(), 44100, mode="loudness")
    assert measure_peak(normalise(noise(), 44100, mode="peak", target=-3)) == pytest.approx(-3, abs=1e-4)
    assert "not measured" in describe_gains(noise()[None], noise()[None], 44100)


# --- normalising


def test_the_peak_reaches_its_target() -> None:
    wave = noise()
    for target in (0.0, -1.0, -60.0):
        out = normalise(wave, 44100, mode="peak", target=target, ceiling=-30)
        assert measure_peak(out) == pytest.approx(target, abs=1e-4)
        assert float(out.abs().max()) <= 1
        gain = 10 ** ((target - measure_peak(wave)) / 20)
        torch.testing.assert_close(out, wave * gain, rtol=1e-5, atol=0)


@pytest.mark.parametrize("target", [-30.0, -60.0])  # at -60 much of it lies below the meter's gate
@pytest.mark.parametrize("quieter", [0.0, -60.0, -90.0])
def test_the_loudness_reaches_its_target_however_quiet_the_sound_was(quieter: float, target: float) -> None:
    wave = noise() * 10 ** (quieter / 20)
    out = normalise(wave, 44100, mode="loudness", target=target)
    assert measure_loudness(out, 44100) == pytest.approx(target, abs=0.05)


def test_the_gain_is_exactly_the_difference() -> None:
    tone = torch.stack([sine(1000, level=-23), sine(1000, level=-23)])
    out = normalise(tone, 48000, mode="loudness", target=-16)
    gain = -16 - measure_loudness(tone, 48000)
    torch.testing.assert_close(out, tone * 10 ** (gain / 20), rtol=1e-5, atol=0)
    assert measure_peak(out) == pytest.approx(-16, abs=0.1)


@pytest.mark.parametrize("mode", ["peak", "loudness"])
def test_the_stereo_image_stays(mode: Mode) -> None:
    wave = noise() * torch.tensor([[1.0], [0.1]])
    out = normalise(wave, 44100, mode=mode, target=-20)
    assert float(out[0].norm() / out[1].norm()) == pytest.approx(float(wave[0].norm() / wave[1].norm()))
    assert normalise(torch.stack([wave[0], 0 * wave[0]]), 44100, mode=mode)[1].abs().max() == 0


def test_the_ceiling_limits_the_gain_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    wave = 0.01 * noise()
    wave[0, 1000] = 0.5  # one click far above the rest
    out = normalise(wave, 44100, mode="loudness", target=-16, ceiling=-2)
    assert measure_peak(out) == pytest.approx(-2, abs=1e-4)
    torch.testing.assert_close(out / out[0, 1000], wave / wave[0, 1000])  # nothing was limited
    reached = measure_loudness(out, 44100)
    assert reached < -17
    assert f"{reached:.1f} LUFS instead of -16 LUFS" in caplog.text
    caplog.clear()
    assert measure_peak(normalise(wave, 44100, mode="loudness", target=-60, ceiling=-2)) < -10
    assert not caplog.text


@pytest.mark.parametrize("mode", ["peak", "loudness"])
def test_silence_stays_silence(mode: Mode, caplog: pytest.LogCaptureFixture) -> None:
    for wave in (torch.zeros(2, 44100), torch.zeros(1, 3), torch.full((2, 44100), 1e-9)):
        assert torch.equal(normalise(wave, 44100, mode=mode), wave)
    assert caplog.text.count("silent") == 3
    assert measure_sound(torch.zeros(2, 44100), 44100).loudness == -math.inf


@pytest.mark.parametrize("mode", ["peak", "loudness"])
def test_nothing_ever_becomes_nan(mode: Mode) -> None:
    click = torch.zeros(1, 44100)
    click[0, 5] = 1e-6
    inaudible = torch.ones(2, 88200)  # a constant, which the measure filters away
    for wave in (click, inaudible, 30 * noise(), noise(1, 1e-4), noise().double(), noise().half()):
        out = normalise(wave, 44100, mode=mode)
        assert out.dtype == torch.float32
        assert out.isfinite().all()
        assert out.abs().max() <= 1


@pytest.mark.parametrize("mode", ["peak", "loudness"])
def test_batch_items_are_independent(mode: Mode) -> None:
    items = [noise(seed=1), 0.1 * noise(seed=2), torch.zeros(2, 132300)]
    out = normalise(torch.stack(items), 44100, mode=mode, target=-25)
    for item, alone in zip(out, items, strict=True):
        assert torch.equal(item, normalise(alone, 44100, mode=mode, target=-25))
    lines = describe_gains(torch.stack(items), out, 44100).splitlines()
    assert [line[:2] for line in lines] == ["0:", "1:", "2:"]
    measured = "peak -25.0 dBFS" if mode == "peak" else "loudness -25.0 LUFS"
    assert measured in lines[0]
    assert measured in lines[1]
    assert lines[2] == "2: gain +0.0 dB, peak -inf dBFS, loudness -inf LUFS"


def test_bad_settings_and_sounds_are_explained() -> None:
    with pytest.raises(InputError, match="'rms'"):
        normalise(noise(), 44100, mode="rms")
    for value in (0.1, math.nan, -math.inf):
        with pytest.raises(InputError, match="target is"):
            normalise(noise(), 44100, target=value)
        with pytest.raises(InputError, match="ceiling is"):
            normalise(noise(), 44100, ceiling=value)
    broken = noise()
    broken[0, 7] = math.nan
    for wave in (broken, torch.zeros(2, 0), torch.zeros(0, 2, 5), torch.zeros(5), torch.ones(2, 5).int()):
        with pytest.raises(AudioXError):
            normalise(wave, 44100)


# --- mixing


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
    wave = 0.5 * sine(440, 8000, 1.0)[None]
    loud = PlacedSound(waveform=wave, rate=8000, gain=20)
    mix, _ = mix_down([loud, PlacedSound(waveform=wave, rate=8000)], seconds=2)
    assert float(mix.abs().max()) == pytest.approx(1)
    torch.testing.assert_close(mix[0] / mix[0].abs().max(), wave[0] / wave.abs().max(), atol=1e-5, rtol=0)
    assert "14.8 dB above full scale" in caplog.text
    with pytest.raises(InputError, match="gain is nan"):
        mix_down([PlacedSound(waveform=wave, rate=8000, gain=math.nan)], seconds=2)


# --- on a video


def delay(received: Tensor, sent: Tensor) -> int:
    """Samples by which (S,) `heard` comes after `sent`, where the two correlate best."""
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
    assert content.index(b"moov") < content.index(b"mdat")  # a browser can start at once


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
