"""Sine waves and noise, and the amplitude of a frequency in a sound."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine(frequency: float, rate: int, seconds: float = 1.0, amplitude: float = 0.5) -> Tensor:
    """(1, S)"""
    turns = frequency / rate * torch.arange(round(seconds * rate), dtype=torch.float64)
    return (amplitude * torch.sin(2 * math.pi * turns))[None].float()


def stereo(rate: int = 44100, seconds: float = 1.0) -> Tensor:
    """440 Hz at -6 dB on the left, 1 kHz at -12 dB on the right."""
    return torch.cat([sine(440, rate, seconds), sine(1000, rate, seconds, 0.25)])


def amplitude_at(wave: Tensor, frequency: float, rate: int) -> float:
    """Amplitude of one frequency in the middle half of (S,)."""
    quarter = len(wave) // 4
    middle = wave[quarter : 3 * quarter].double()
    window = torch.hann_window(len(middle), periodic=False, dtype=torch.float64)
    oscillation = torch.exp(-2j * math.pi * frequency * torch.arange(len(middle), dtype=torch.float64) / rate)
    return 2 * abs((middle * window * oscillation).sum().item()) / window.sum().item()


def decibels(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-12))


def noise(channels: int = 2, seconds: float = 3.0, rate: int = 44100, seed: int = 0) -> Tensor:
    """(C, S) that swells, so that the gates of the measurement matter."""
    samples = round(seconds * rate)
    waves = torch.randn(channels, samples, generator=torch.Generator().manual_seed(seed))
    return 0.05 * waves * torch.linspace(0, 1, samples) ** 2
