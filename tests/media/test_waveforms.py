"""Waveforms are resampled and mixed to the rate and the channels of a model."""

from __future__ import annotations

import pytest
import torch
from waves import amplitude_at, decibels, sine, stereo

from audiox_ext.media.waveforms import conform_audio


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44056, 48000, 96000, 192000])
def test_a_sine_keeps_amplitude_and_frequency(rate: int) -> None:
    for frequency in (100.0, 0.4 * min(rate, 44100)):
        out = conform_audio(sine(frequency, rate), rate, target_rate=44100)
        assert out.shape == (2, 44100)
        assert decibels(amplitude_at(out[0], frequency, 44100) / 0.5) == pytest.approx(0, abs=0.01)
        expected = sine(frequency, 44100)[0]
        assert (out[0] - expected)[2000:-2000].abs().max() < 1e-3  # same phase: no delay, nothing added


def test_resampling_removes_frequencies_above_the_lower_nyquist() -> None:
    out = conform_audio(sine(30000, 192000), 192000, target_rate=44100)
    assert decibels(float(out[0, 2000:-2000].abs().max()) / 0.5) < -85
    up = conform_audio(sine(3000, 8000), 8000, target_rate=44100)
    assert decibels(amplitude_at(up[0], 8000 - 3000, 44100) / 0.5) < -85  # no mirror image


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
