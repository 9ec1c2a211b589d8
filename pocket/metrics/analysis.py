"""What can be heard in a sound, measured without knowing how it was made: its onsets, pitch, tempo, level.

Sounds are (2, S) or (S,) floating point; F frames, K frequencies. None is the answer where there is nothing
to measure.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..synth.rendering import peak_rms

HOP = 0.005  # seconds between the frames of the onset curve
MIN_ONSET_GAP = 0.11  # seconds: onsets nearer to each other are one
_ONE_THING = 0.22  # seconds
_WINDOW = 0.02
_BANDS = 24
_DEPTH = 50.0  # decibels below the peak_rms band, where the onset curve stops looking
_LEAST_RISE = 1.2  # decibels, on average over the bands
_PITCH_HOP, _PITCH_WINDOW = 0.032, 0.128
_GRID = 96  # pitch candidates an octave
_HARMONICS, _FADE = 10, 0.84  # Hermes (1988): subharmonic summation


class Onsets(NamedTuple):
    """times: seconds, in order. strengths: dB of the 50 ms that follow each, against the strongest."""

    times: np.ndarray
    strengths: np.ndarray


class PitchTrack(NamedTuple):
    """times: seconds. pitches: hertz. weights: the energy of each frame, the sum being 1. clarity: 0 to 1."""

    times: np.ndarray
    pitches: np.ndarray
    weights: np.ndarray
    clarity: np.ndarray


def step_samples(rate: int, hop: float) -> int:
    """Samples from one frame to the next. A whole number: frame i lies at i of these, not at i * hop."""
    return max(1, round(hop * rate))


def power_spectrogram(sound: np.ndarray, rate: int, *, window: float, hop: float, pad: int = 1) -> np.ndarray:
    """(F, K) power, channels added; frame i is centred on sample i * step_samples(rate, hop).

    pad: how much longer than the window the FFT is.
    """
    from scipy.fft import next_fast_len, rfft

    size, step = max(4, round(window * rate)), step_samples(rate, hop)
    shape = np.hanning(size + 2)[1:-1].astype(np.float32)
    length = next_fast_len(size * pad, real=True)
    total: np.ndarray | None = None
    for channel in np.atleast_2d(np.asarray(sound, dtype=np.float32)):
        padded = np.pad(channel, (size // 2, size))
        frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: channel.size + 1 : step]
        spectrum = rfft(frames * shape, length, axis=1)
        power = spectrum.real**2 + spectrum.imag**2
        total = power if total is None else total + power
    assert total is not None
    return total


def band_levels(
    sound: np.ndarray, rate: int, *, window: float, hop: float, bands: int, lowest: float = 50.0
) -> np.ndarray:
    """(F, bands) mean power in bands of equal width on a logarithmic axis, up to 0.47 of the rate."""
    power = power_spectrogram(sound, rate, window=window, hop=hop)
    bins = power.shape[1]
    edges = np.geomspace(lowest, 0.47 * rate, bands + 1) / (rate / 2) * (bins - 1)
    first = np.minimum(np.floor(edges[:-1]).astype(int), bins - 1)
    last = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
    sums = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1, dtype=np.float64)], axis=1)
    last = np.minimum(last, bins)
    return np.maximum((sums[:, last] - sums[:, first]) / (last - first), 0.0)


def onset_curve(sound: np.ndarray, rate: int) -> np.ndarray:
    """(F,) decibels by which the bands rise, on average, within 10 ms; one value every 5 ms."""
    levels = band_levels(sound, rate, window=_WINDOW, hop=HOP, bands=_BANDS)
    top = levels.max()
    if top <= 0:
        return np.zeros(len(levels))
    decibels = 10 * np.log10(levels + top * 10 ** (-_DEPTH / 10))
    before = np.maximum(np.roll(decibels, 2, axis=0), np.roll(decibels, 3, axis=0))
    rise = np.maximum(decibels - before, 0).mean(axis=1)
    rise[:3] = np.maximum(decibels[:3] - decibels.min(), 0).mean(axis=1) * (
        decibels[:3].max() > decibels.min() + 20
    )
    return np.asarray(rise)


def onsets(sound: np.ndarray, rate: int) -> Onsets:
    """When something begins."""
    curve = onset_curve(sound, rate)
    threshold = max(_LEAST_RISE + 1.3 * float(np.median(curve)), 0.2 * float(curve.max()))
    reach = round(MIN_ONSET_GAP / HOP)
    peaks: list[int] = []
    for place in np.argsort(-curve, kind="stable"):
        if curve[place] < threshold:
            break
        if all(abs(place - other) > reach for other in peaks):
            peaks.append(int(place))
    peaks.sort()
    if not peaks:
        return Onsets(np.zeros(0), np.zeros(0))
    power = np.concatenate([[0.0], np.cumsum(np.square(np.atleast_2d(sound), dtype=np.float64).sum(axis=0))])
    window = round(0.05 * rate)
    start = np.minimum(np.array(peaks) * step_samples(rate, HOP), power.size - 1)
    energy = power[np.minimum(start + window, power.size - 1)] - power[start]
    strengths = 10 * np.log10(np.maximum(energy, 1e-12) / max(float(energy.max()), 1e-12))
    return Onsets(start / rate, strengths)


def count_events(sound: np.ndarray, rate: int, *, depth: float = 20.0) -> int:
    """How many things begin that are at most `depth` decibels softer than the peak_rms.

    Onsets that follow each other within 0.22 s are one thing: the beats of a trill, the pulses of a croak.
    """
    found = onsets(sound, rate)
    times = found.times[found.strengths > -depth]
    return int(times.size and 1 + (np.diff(times) > _ONE_THING).sum())


def tempo(sound: np.ndarray, rate: int) -> float | None:
    """Strong events a minute, even if some of them lack; None for less than three."""
    found = onsets(sound, rate)
    times = found.times[found.strengths > -7.0]
    if times.size < 3:
        return None
    gaps = np.diff(times)
    beat = float(np.sort(gaps)[gaps.size // 2])
    beat = float(gaps[np.abs(gaps - beat) < 0.25 * beat].mean())
    places = np.concatenate([[0], np.cumsum(np.maximum(1, np.round(gaps / beat)))])
    slope = np.polyfit(places, times, 1)[0]
    return 60 / float(slope) if slope > 0 else None


def pitch_track(
    sound: np.ndarray, rate: int, lowest: float = 50.0, highest: float = 2200.0
) -> PitchTrack | None:
    """The fundamental in frames of 128 ms, by subharmonic summation; None for silence.

    Frames that are 35 dB softer than the peak_rms are left out.
    """
    power = power_spectrogram(sound, rate, window=_PITCH_WINDOW, hop=_PITCH_HOP, pad=4)
    energy = power.sum(axis=1, dtype=np.float64)
    if energy.max() <= 0:
        return None
    kept = np.flatnonzero(energy > energy.max() * 10**-3.5)
    magnitude = np.sqrt(power[kept])
    grid = lowest * 2 ** (np.arange(math.ceil(_GRID * math.log2(highest / lowest)) + 1) / _GRID)
    bins = magnitude.shape[1]
    salience = np.zeros((len(kept), grid.size))
    for harmonic in range(1, _HARMONICS + 1):
        place = grid * harmonic / (rate / 2) * (bins - 1)
        inside = place < bins - 2
        first = place[inside].astype(int)
        share = place[inside] - first
        value = magnitude[:, first] * (1 - share) + magnitude[:, first + 1] * share
        salience[:, inside] += _FADE ** (harmonic - 1) * value
    best = salience.argmax(axis=1)
    clarity = 1 - np.median(salience, axis=1) / np.maximum(salience.max(axis=1), 1e-12)
    weights = energy[kept] / energy[kept].sum()
    return PitchTrack(kept * step_samples(rate, _PITCH_HOP) / rate, grid[best], weights, clarity)


def pitch(sound: np.ndarray, rate: int, lowest: float = 50.0, highest: float = 2200.0) -> float | None:
    """The pitch that is heard most: the median over the frames, weighted by their energy, in hertz."""
    track = pitch_track(sound, rate, lowest, highest)
    if track is None:
        return None
    order = np.argsort(track.pitches)
    place = int(np.searchsorted(np.cumsum(track.weights[order]), 0.5))
    return float(track.pitches[order][min(place, order.size - 1)])


def pitch_slope(sound: np.ndarray, rate: int, lowest: float = 50.0, highest: float = 2800.0) -> float | None:
    """Octaves a second by which the pitch rises, by a straight line through it; below 0 it falls."""
    track = pitch_track(sound, rate, lowest, highest)
    if track is None or track.times.size < 4:
        return None
    weights = np.sqrt(track.weights) * track.clarity
    time = track.times - np.average(track.times, weights=weights)
    height = np.log2(track.pitches)
    spread = float(np.sum(weights * time**2))
    return float(np.sum(weights * time * height)) / spread if spread > 0 else None


def swings_per_minute(sound: np.ndarray, rate: int) -> float | None:
    """How often a minute the pitch goes to and fro, between 6 and 180 times; None if it stays."""
    track = pitch_track(sound, rate, 300.0, 2000.0)
    if track is None or track.times.size < 16:
        return None
    time = np.arange(track.times[0], track.times[-1], _PITCH_HOP)
    height = np.interp(time, track.times, np.log2(track.pitches))
    height = height - height.mean()
    if height.std() < 0.05:
        return None
    length = 8 * time.size
    spectrum = np.abs(np.fft.rfft(height * np.hanning(time.size), length))
    cycles = np.fft.rfftfreq(length, _PITCH_HOP) * 60
    inside = (cycles >= 6) & (cycles <= 180)
    return float(cycles[inside][spectrum[inside].argmax()])


def chord(sound: np.ndarray, rate: int) -> tuple[float, str] | None:
    """(root in hertz, "major" or "minor") of the triad in close position that fits best; None for silence."""
    power = power_spectrogram(sound, rate, window=0.5, hop=0.25, pad=2).mean(axis=0)
    if power.max() <= 0:
        return None
    magnitude = np.log(np.sqrt(power / power.max()) + 1e-3)

    def level(hertz: np.ndarray) -> np.ndarray:
        """The highest within a quarter of a semitone."""
        near = [hertz * 2 ** (shift / 48) for shift in (-1, -0.5, 0, 0.5, 1)]
        places = [np.round(h / (rate / 2) * (power.size - 1)).astype(int) for h in near]
        return np.asarray(np.max([magnitude[np.minimum(place, power.size - 1)] for place in places], axis=0))

    roots = 440.0 * 2 ** (np.arange(-23, 4) / 12)  # B2 to C5
    best: tuple[float, float, str] | None = None
    for quality, third in (("major", 4), ("minor", 3)):
        scores = level(roots) + level(roots * 2 ** (third / 12)) + level(roots * 2 ** (7 / 12))
        place = int(scores.argmax())
        if best is None or scores[place] > best[0]:
            best = (float(scores[place]), float(roots[place]), quality)
    assert best is not None
    return best[1], best[2]


def peak_rms_dbfs(sound: np.ndarray, rate: int) -> float:
    """dBFS of the peak_rms 50 ms, the power of the channels added; -inf for silence."""
    highest = peak_rms(sound, rate)
    return 20 * math.log10(highest) if highest > 0 else -math.inf


def stereo_balance(sound: np.ndarray) -> float:
    """Decibels by which the right channel is stronger than the left; 0 for silence and for mono."""
    left, *others = np.square(np.atleast_2d(sound), dtype=np.float64).sum(axis=1)
    right = others[0] if others else left
    return 10 * math.log10((right + 1e-12) / (left + 1e-12))
