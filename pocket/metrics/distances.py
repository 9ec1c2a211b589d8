"""Distances between sets of sounds, and the diversity within a set.

Sounds are (2, S) or (S,); M sounds, N features, D discriminants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiox_ext.errors import InputError

from .analysis import band_powers
from .classifier import Classifier
from .sound_features import extract_features

_RESOLUTIONS = ((0.008, 12), (0.032, 24), (0.128, 40))  # (seconds of a window, bands)
_FLOOR = 70.0  # decibels below full scale


@dataclass(frozen=True, kw_only=True)
class SpectralStatistics:
    """Decibels by band over sounds and frames, the bands of three resolutions one after the other.

    Attributes:
        mean: Mean of each band.
        spread: Standard deviation of each band.
    """

    mean: np.ndarray
    spread: np.ndarray


def spectral_statistics(sounds: Sequence[np.ndarray], rate: int) -> SpectralStatistics:
    """The spectral statistics of a set. All sounds have equal weight, whatever their length.

    Args:
        sounds: The set.
        rate: Hertz.

    Raises:
        InputError: The set is empty.
    """
    _check_not_empty(sounds)
    means, spreads = [], []
    for window, bands in _RESOLUTIONS:
        decibels = [_band_decibels(sound, rate, window, bands) for sound in sounds]
        mean = np.mean([d.mean(axis=0) for d in decibels], axis=0)
        variance = np.mean([((d - mean) ** 2).mean(axis=0) for d in decibels], axis=0)
        means.append(mean)
        spreads.append(np.sqrt(variance))
    return SpectralStatistics(mean=np.concatenate(means), spread=np.concatenate(spreads))


def spectral_distance(one: SpectralStatistics, other: SpectralStatistics) -> float:
    """Root mean square difference of means and spreads over all bands, in decibels.

    Args:
        one: Statistics of a set.
        other: Statistics of another set.
    """
    differences = np.concatenate([one.mean - other.mean, one.spread - other.spread])
    return float(np.sqrt(np.mean(differences**2)))


def embed_sounds(sounds: Sequence[np.ndarray], rate: int, classifier: Classifier) -> np.ndarray:
    """The discriminants (M, D) of each sound.

    Args:
        sounds: The set.
        rate: Hertz.
        classifier: Fitted for the rate.

    Raises:
        InputError: The set is empty.
    """
    _check_not_empty(sounds)
    return classifier.embed(np.stack([extract_features(sound, rate) for sound in sounds]))


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Fréchet distance between normal distributions with the moments of two sets, divided by D.

    Sets of different sizes are not comparable: small sets are far apart by chance.

    Args:
        one: (M, D) embeddings.
        other: (M', D) embeddings.

    Source: Heusel et al. 2017.
    """
    mean = one.mean(axis=0) - other.mean(axis=0)
    first, second = (np.atleast_2d(np.cov(vectors, rowvar=False)) for vectors in (one, other))
    # The trace of the product's root, from the eigenvalues of a similar symmetric matrix.
    values, directions = np.linalg.eigh(first)
    root = directions * np.sqrt(np.maximum(values, 0)) @ directions.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return float(mean @ mean + np.trace(first) + np.trace(second) - 2 * cross) / len(mean)


def diversity(sounds: Sequence[np.ndarray], rate: int, classifier: Classifier) -> float:
    """Mean distance between pairs of sounds of one prompt, in standardised features; 0 for equal sounds.

    Compare it with the diversity of data for the same prompt.

    Args:
        sounds: Sounds of different seeds.
        rate: Hertz.
        classifier: Fitted for the rate.

    Raises:
        InputError: There are fewer than two sounds.
    """
    if len(sounds) < 2:
        raise InputError(f"The diversity of {len(sounds)} sounds is undefined: give at least 2.")
    vectors = classifier.standardise(np.stack([extract_features(sound, rate) for sound in sounds]))
    pairs = [
        np.sqrt(np.mean((vectors[i] - vectors[j]) ** 2))
        for i in range(len(vectors))
        for j in range(i + 1, len(vectors))
    ]
    return float(np.mean(pairs))


def _band_decibels(sound: np.ndarray, rate: int, window: float, bands: int) -> np.ndarray:
    """(F, bands) relative to a full-scale sine, floored."""
    powers = band_powers(sound, rate, window=window, hop=window / 2, bands=bands)
    full_scale = (0.25 * round(window * rate)) ** 2  # power of a sine of amplitude 1 through a Hann window
    return np.asarray(10 * np.log10(powers / full_scale + 10 ** (-_FLOOR / 10)))


def _check_not_empty(sounds: Sequence[np.ndarray]) -> None:
    if not len(sounds):
        raise InputError("The set of sounds is empty: give at least one.")
