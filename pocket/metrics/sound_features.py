"""A sound as a hundred numbers that do not depend on its level, its length or where in it things happen.

They tell kinds of sound apart (`classifier`) and sets of sounds (`distances`).
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .analysis import HOP, band_levels, onset_curve, onsets, pitch_track, power_spectrogram

BANDS = 28
_HOP = 0.02
_DEPTH = 45.0  # decibels below the peak_rms frame, where a frame counts as silent
_RHYTHMS = (0.15, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 24.9)  # hertz, the edges of the modulation bands


def extract_features(sound: np.ndarray, rate: int) -> np.ndarray:
    """(N,) float64 of (2, S) or (S,); all zeros for silence."""
    levels = band_levels(sound, rate, window=0.04, hop=_HOP, bands=BANDS)
    total = levels.sum(axis=1)
    top = float(total.max())
    if top <= 0:
        return np.zeros(feature_count())
    active = total > top * 10 ** (-_DEPTH / 10)
    decibels = 10 * np.log10(levels[active] + 1e-5 * total[active, None] + 1e-12 * top)
    spectrum = decibels - decibels.mean(axis=1, keepdims=True)
    weights = total[active] / total[active].sum()
    steps = np.abs(np.diff(decibels, axis=0)) if len(decibels) > 1 else np.zeros((1, BANDS))
    return np.concatenate(
        [
            np.average(spectrum, axis=0, weights=weights),
            spectrum.std(axis=0),
            steps.mean(axis=0).reshape(7, -1).mean(axis=1),
            _loudness_shape(total, active, top),
            _rhythm(10 * np.log10(total / top + 1e-4)),
            _events(sound, rate),
            _tonality(sound, rate),
        ]
    )


def feature_count() -> int:
    """N."""
    return 2 * BANDS + 7 + 4 + len(_RHYTHMS) - 1 + 5 + 9


def _loudness_shape(total: np.ndarray, active: np.ndarray, top: float) -> np.ndarray:
    """How much of the time there is sound, and how it is spread."""
    decibels = 10 * np.log10(total[active] / top + 1e-6)
    return np.array(
        [5 * active.mean(), decibels.std(), np.median(decibels) / 4, np.percentile(decibels, 10) / 8]
    )


def _rhythm(curve: np.ndarray) -> np.ndarray:
    """How much of the loudness changes how often, each as a share of all changes, in decibels / 4."""
    centred = (curve - curve.mean()) * np.hanning(curve.size)
    spectrum = np.abs(np.fft.rfft(centred)) ** 2
    hertz = np.fft.rfftfreq(curve.size, _HOP)
    whole = spectrum[hertz >= _RHYTHMS[0]].sum() + 1e-9
    shares = [spectrum[(hertz >= low) & (hertz < high)].sum() / whole for low, high in pairwise(_RHYTHMS)]
    return np.asarray(2.5 * np.log10(np.array(shares) + 1e-3))


def _events(sound: np.ndarray, rate: int) -> np.ndarray:
    """How many onsets a second, how strong, how regular."""
    found, curve = onsets(sound, rate), onset_curve(sound, rate)
    seconds = max(curve.size * HOP, 1e-3)
    gaps = np.diff(found.times)
    regular = gaps.std() / gaps.mean() if gaps.size > 1 else 1.0
    strong = (found.strengths > -7).sum() / seconds
    return np.array(
        [found.times.size / seconds, strong, np.log1p(curve.max()), np.log1p(np.median(curve)) * 2, regular]
    )


def _tonality(sound: np.ndarray, rate: int) -> np.ndarray:
    """How tone-like it is, and what its pitch does."""
    power = power_spectrogram(sound, rate, window=0.064, hop=0.032)
    energy = power.sum(axis=1)
    kept = power[energy > energy.max() * 10 ** (-_DEPTH / 10)][:, 2:] + 1e-12 * power.max()
    flatness = np.log(kept).mean(axis=1) - np.log(kept.mean(axis=1))
    peakiness = np.log(kept.max(axis=1) / kept.mean(axis=1))
    track = pitch_track(sound, rate, 30.0, 4000.0)
    assert track is not None
    height = np.log2(track.pitches)
    moves = np.abs(np.diff(height)) if height.size > 1 else np.zeros(1)
    return np.array(
        [
            flatness.mean(),
            flatness.std(),
            peakiness.mean(),
            peakiness.std(),
            4 * np.average(track.clarity, weights=track.weights),
            np.average(height, weights=track.weights),
            height.std(),
            np.log10(np.median(moves) + 1e-3),
            np.log10(moves.mean() + 1e-3),
        ]
    )
