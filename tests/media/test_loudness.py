"""Loudness follows the standard, and one gain applies to a whole sound."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from torch import Tensor
from waves import noise

from audiox_ext.errors import AudioXError, InputError
from audiox_ext.media.loudness import (
    Mode,
    describe_gains,
    measure_loudness,
    measure_peak,
    measure_sound,
    normalise,
)


def sine(frequency: float, rate: int = 48000, seconds: float = 20.0, peak: float = 0.0) -> Tensor:
    """(S,). peak: in dBFS."""
    turns = frequency / rate * torch.arange(round(seconds * rate), dtype=torch.float64)
    return (10 ** (peak / 20) * torch.sin(2 * math.pi * turns)).float()


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


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_the_reference_tone_of_bs1770_reads_3_decibels_below_full_scale(rate: int) -> None:
    tone = sine(997, rate)
    silent = torch.zeros_like(tone)
    # The standard allows the meter's filter 0.1 dB; at 48 kHz its coefficients are given, and it is exact.
    allowed = 0.005 if rate == 48000 else 0.03
    assert measure_loudness(torch.stack([tone, silent]), rate) == pytest.approx(-3.01, abs=allowed)
    assert measure_loudness(tone[None], rate) == pytest.approx(-3.01, abs=allowed)


@pytest.mark.parametrize("peak", [-23.0, -33.0])
def test_cases_1_and_2_of_ebu_tech_3341(peak: float) -> None:
    tone = sine(1000, peak=peak)
    assert measure_loudness(torch.stack([tone, tone]), 48000) == pytest.approx(peak, abs=0.1)


def test_cases_3_and_4_of_ebu_tech_3341() -> None:
    def tone(peak: float, seconds: float) -> Tensor:
        return sine(1000, 48000, seconds, peak)

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
    measurement = measure_sound(noise(8), 44100)
    assert measurement.loudness is None
    assert str(measurement).endswith("loudness not measured")


def test_without_pyloudnorm_the_peak_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyloudnorm", None)
    with pytest.raises(InputError, match="python -m pip install pyloudnorm"):
        normalise(noise(), 44100, mode="loudness")
    assert measure_peak(normalise(noise(), 44100, mode="peak", target=-3)) == pytest.approx(-3, abs=1e-4)
    assert "not measured" in describe_gains(noise()[None], noise()[None], 44100)


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
    tone = torch.stack([sine(1000, peak=-23), sine(1000, peak=-23)])
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
    with_nan = noise()
    with_nan[0, 7] = math.nan
    for wave in (with_nan, torch.zeros(2, 0), torch.zeros(0, 2, 5), torch.zeros(5), torch.ones(2, 5).int()):
        with pytest.raises(AudioXError):
            normalise(wave, 44100)
