"""Crossfades: constant power, matching loudness at the ends, unchanged samples outside."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from audiox_ext.pipeline.crossfade import crossfade, limit_peak, match_loudness, paste

RATE = 48000


def noise(seconds: float, level: float, seed: int, channels: int = 2, rate: int = RATE) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(channels, round(seconds * rate), generator=generator)


def decibels(waveform: Tensor) -> float:
    return 10 * math.log10(float(waveform.square().mean()))


def test_unrelated_sounds_keep_their_power_in_a_crossfade() -> None:
    fade = crossfade(noise(2, 0.1, 1), noise(2, 0.1, 2))
    for third in fade.chunk(8, dim=-1):
        assert abs(decibels(third) + 20) < 0.2


def test_equal_sounds_keep_their_shape_in_a_crossfade() -> None:
    sound = noise(0.5, 0.1, 3)
    assert float((crossfade(sound, sound) - sound).abs().max()) < 1e-6


def test_a_crossfade_goes_from_the_old_to_the_new() -> None:
    old, new = noise(0.1, 0.1, 4), noise(0.1, 0.1, 5)
    fade = crossfade(old, new)
    assert float((fade[:, 0] - old[:, 0]).abs().max()) < 1e-6
    assert float((fade[:, -1] - new[:, -1]).abs().max()) < 1e-6


@pytest.mark.parametrize(("fade_in", "fade_out"), [(0, 0), (480, 0), (480, 960), (10**6, 10**6)])
def test_what_is_outside_stays_bit_for_bit(fade_in: int, fade_out: int) -> None:
    old, new = noise(1, 0.1, 6), noise(1, 0.15, 7)
    result = paste(old, new, 10_000, 20_000, fade_in, fade_out)
    assert torch.equal(result[:, :10_000], old[:, :10_000])
    assert torch.equal(result[:, 20_000:], old[:, 20_000:])
    assert not torch.equal(result[:, 10_000:20_000], old[:, 10_000:20_000])
    whole = slice(10_000 + min(fade_in, 5000), 20_000 - min(fade_out, 5000))
    assert torch.equal(result[:, whole], new[:, whole])


def test_new_sound_exceeds_full_scale_only_if_the_track_does() -> None:
    old = noise(0.2, 0.1, 8)
    loud = limit_peak(noise(0.2, 2.0, 9), 1.0, 0, 9600)
    assert float(loud.abs().max()) == pytest.approx(1.0)
    assert float(paste(old, loud, 100, 9000, 500, 500).abs().max()) <= 1.0
    beyond = old * 30
    result = paste(beyond, loud, 100, 200, 0, 0)
    assert float(result.abs().max()) == float(beyond.abs().max())


@pytest.mark.parametrize("change", [-20.0, -6.0, 0.0, 6.0, 12.0])
def test_the_loudness_does_not_jump_at_a_boundary(change: float) -> None:
    """In windows of 50 ms on both sides; afterwards the loudness glides to the new sound's own."""
    joint = 3 * RATE
    old = noise(8, 0.05, 10)
    new = noise(8, 0.05 * 10 ** (change / 20), 11)
    fitted = match_loudness(old, new, joint, RATE)
    window = RATE // 20
    levels = [decibels(old[:, joint - window : joint])]
    levels += [
        decibels(fitted[:, start : start + window]) for start in range(joint, joint + RATE // 2, window)
    ]
    steps = [abs(b - a) for a, b in pairwise(levels)]
    assert max(steps[:3]) < 0.3
    assert max(steps) < 1.0
    assert torch.equal(fitted[:, -1], new[:, -1])
    assert abs(decibels(fitted[:, -RATE:]) - (decibels(new[:, -RATE:]))) < 1e-6


@pytest.mark.parametrize("change", [-34.0, 0.0])
@pytest.mark.parametrize(("level", "limit"), [(0.002, 1.0), (0.6, 0.7)])
def test_quiet_tracks_and_tracks_at_full_scale_have_no_jump_either(
    level: float, limit: float, change: float
) -> None:
    """A new sound with other peaks or far louder: turning it down for the limit is not audible."""
    joint, window = 3 * RATE, RATE // 20
    old = (noise(8, level, 17).clamp(-limit, limit) / limit).clamp(-1, 1)
    new = noise(8, decibels_to_level(decibels(old) - change), 18)
    fitted = match_loudness(old, new, joint, RATE)
    faded = paste(old, fitted, joint - 2 * window, 8 * RATE, 2 * window, 0)
    starts = range(joint - 4 * window, joint + 4 * window, window)
    levels = [decibels(faded[:, start : start + window]) for start in starts]
    assert max(abs(b - a) for a, b in pairwise(levels)) < 1.0
    assert float(faded.abs().max()) <= 1.0


def decibels_to_level(decibels: float) -> float:
    return 10 ** (decibels / 20)


def test_a_faded_track_and_silence_are_left_alone() -> None:
    new = noise(1, 0.1, 12)
    assert torch.equal(match_loudness(torch.zeros(2, RATE), new, RATE // 2, RATE), new)
    assert torch.equal(
        match_loudness(noise(1, 0.1, 13), torch.zeros(2, RATE), RATE // 2, RATE), torch.zeros(2, RATE)
    )


def drums(seconds: float, hits: float = 2.0) -> Tensor:
    """Hits of noise that die away, at a rhythm; nothing between them."""
    time = torch.arange(round(seconds * RATE)) / RATE
    decay = torch.exp(-(time % (1 / hits)) * 30)
    return 0.25 * decay * noise(seconds, 1.0, 14).clamp(-3, 3)


@pytest.mark.parametrize("joint", [10.0, 10.1, 10.45])
@pytest.mark.parametrize("change", [-6.0, 0.0, 9.0])
def test_a_rhythm_continues_unchanged(joint: float, change: float) -> None:
    """A model that repeats the track, at any loudness, keeps its dynamics after the boundary."""
    whole, place = drums(14), round(joint * RATE)
    fitted = match_loudness(whole, whole * 10 ** (change / 20), place, RATE)
    for start in range(place, place + RATE, RATE // 2):
        part = slice(start, start + RATE // 2)
        drift = 0.5 + min(abs(change), 8.0 * (start + RATE // 2 - place) / RATE)
        assert abs(decibels(fitted[:, part]) - decibels(whole[:, part])) < drift
    assert float((fitted[:, :place] - whole[:, :place]).abs().max()) < 0.02


def test_a_rest_after_the_boundary_stays_a_rest() -> None:
    time = torch.arange(6 * RATE) / RATE
    tone = 0.3 * torch.sin(2 * math.pi * 330 * time).expand(2, -1).clone()
    tone[:, round(3.1 * RATE) : round(3.4 * RATE)] *= 0.01
    fitted = match_loudness(tone, tone, 3 * RATE, RATE)
    assert float((fitted - tone).abs().max()) < 1e-4


def test_louder_sound_is_turned_down_and_not_clipped() -> None:
    old = noise(4, 0.3, 15).clamp(-1, 1)
    new = noise(4, 0.02, 16)
    new[:, 3 * RATE :] *= 30  # louder later, while the gain at the boundary still fades out
    fitted = match_loudness(old, new, 2 * RATE, RATE)
    assert float(fitted.abs().max()) <= 1.0
    assert int((fitted[:, 3 * RATE :].abs() >= 0.999).sum()) < 20
    # A few peaks remain near the seam, where a lower gain would be an audible step.
    assert float((fitted[:, : 3 * RATE].abs() >= 0.999).float().mean()) < 1e-4
