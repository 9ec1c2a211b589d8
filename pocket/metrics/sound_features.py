"""Features of a sound that do not depend on its level, its length, or when things happen in it.

They distinguish kinds of sound (`classifier`) and sets of sounds (`distances`). N features, F frames.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .analysis import HOP, band_powers, onset_curve, onsets, pitch_track, power_spectrogram

BANDS = 28
_HOP = 0.02  # seconds
_DEPTH = 45.0  # decibels below the loudest frame at which a frame counts as silent
_MODULATION_EDGES = (0.15, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 24.9)  # hertz


def extract_features(sound: np.ndarray, rate: int) -> np.ndarray:
    """The features (N,) float64 of a sound; zeros for silence.

    Args:
        sound: (2, S) or (S,).
        rate: Hertz.
    """
    powers = band_powers(sound, rate, window=0.04, hop=_HOP, bands=BANDS)
    total = powers.sum(axis=1)
    peak = float(total.max())
    if peak <= 0:
        return np.zeros(feature_count())
    active = total > peak * 10 ** (-_DEPTH / 10)
    decibels = 10 * np.log10(powers[active] + 1e-5 * total[active, None] + 1e-12 * peak)
    spectrum = decibels - decibels.mean(axis=1, keepdims=True)
    weights = total[active] / total[active].sum()
    steps = np.abs(np.diff(decibels, axis=0)) if len(decibels) > 1 else np.zeros((1, BANDS))
    return np.concatenate(
        [
            np.average(spectrum, axis=0, weights=weights),
            spectrum.std(axis=0),
            steps.mean(axis=0).reshape(7, -1).mean(axis=1),
            _measure_envelope(total, active, peak),
            _measure_modulation(10 * np.log10(total / peak + 1e-4)),
            _measure_onsets(sound, rate),
            _measure_tonality(sound, rate),
        ]
    )


def feature_count() -> int:
    """Return N, the number of features of a sound."""
    return 2 * BANDS + 7 + 4 + len(_MODULATION_EDGES) - 1 + 5 + 9


def _measure_envelope(total: np.ndarray, active: np.ndarray, peak: float) -> np.ndarray:
    """Fraction of active frames, and the distribution of their loudness."""
    decibels = 10 * np.log10(total[active] / peak + 1e-6)
    return np.array(
        [5 * active.mean(), decibels.std(), np.median(decibels) / 4, np.percentile(decibels, 10) / 8]
    )


def _measure_modulation(curve: np.ndarray) -> np.ndarray:
    """Power of the loudness changes in bands of modulation frequency, relative to all, in decibels / 4."""
    centred = (curve - curve.mean()) * np.hanning(curve.size)
    spectrum = np.abs(np.fft.rfft(centred)) ** 2
    hertz = np.fft.rfftfreq(curve.size, _HOP)
    whole = spectrum[hertz >= _MODULATION_EDGES[0]].sum() + 1e-9
    fractions = [
        spectrum[(hertz >= low) & (hertz < high)].sum() / whole for low, high in pairwise(_MODULATION_EDGES)
    ]
    return np.asarray(2.5 * np.log10(np.array(fractions) + 1e-3))


def _measure_onsets(sound: np.ndarray, rate: int) -> np.ndarray:
    """Onsets per second, their strength and their regularity."""
    curve = onset_curve(sound, rate)
    times, strengths = onsets(sound, rate, curve)
    seconds = max(curve.size * HOP, 1e-3)
    gaps = np.diff(times)
    irregularity = gaps.std() / gaps.mean() if gaps.size > 1 else 1.0
    strong = (strengths > -7).sum() / seconds
    return np.array(
        [times.size / seconds, strong, np.log1p(curve.max()), np.log1p(np.median(curve)) * 2, irregularity]
    )


def _measure_tonality(sound: np.ndarray, rate: int) -> np.ndarray:
    """Spectral flatness and crest, and the clarity, height and motion of the pitch."""
    power = power_spectrogram(sound, rate, window=0.064, hop=0.032)
    energy = power.sum(axis=1)
    active = power[energy > energy.max() * 10 ** (-_DEPTH / 10)][:, 2:] + 1e-12 * power.max()
    flatness = np.log(active).mean(axis=1) - np.log(active.mean(axis=1))
    crest = np.log(active.max(axis=1) / active.mean(axis=1))
    track = pitch_track(sound, rate, 30.0, 4000.0)
    assert track is not None
    height = np.log2(track.pitches)
    moves = np.abs(np.diff(height)) if height.size > 1 else np.zeros(1)
    return np.array(
        [
            flatness.mean(),
            flatness.std(),
            crest.mean(),
            crest.std(),
            4 * np.average(track.clarity, weights=track.weights),
            np.average(height, weights=track.weights),
            height.std(),
            np.log10(np.median(moves) + 1e-3),
            np.log10(moves.mean() + 1e-3),
        ]
    )
