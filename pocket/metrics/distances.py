"""How far one set of sounds is from another, and how much the sounds of a set differ.

Sounds are (2, S) or (S,); M sounds, N features, K kinds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audiox_ext.errors import InputError

from .analysis import band_levels
from .classifier import Classifier
from .sound_features import extract_features

_RESOLUTIONS = ((0.008, 12), (0.032, 24), (0.128, 40))  # seconds of a window, bands
_FLOOR = 70.0  # decibels below full scale


@dataclass(frozen=True, kw_only=True)
class SpectralStatistics:
    """Decibels by band, at three resolutions one after the other: over sounds and frames."""

    mean: np.ndarray
    spread: np.ndarray


def spectral_statistics(sounds: Sequence[np.ndarray], rate: int) -> SpectralStatistics:
    """Of a set. Raises InputError for an empty one."""
    _check(sounds)
    means, spreads = [], []
    for window, bands in _RESOLUTIONS:
        # A sound counts as much as any other, however long it is.
        decibels = [_decibels(sound, rate, window, bands) for sound in sounds]
        mean = np.mean([d.mean(axis=0) for d in decibels], axis=0)
        variance = np.mean([((d - mean) ** 2).mean(axis=0) for d in decibels], axis=0)
        means.append(mean)
        spreads.append(np.sqrt(variance))
    return SpectralStatistics(mean=np.concatenate(means), spread=np.concatenate(spreads))


def spectral_distance(one: SpectralStatistics, other: SpectralStatistics) -> float:
    """Decibels, root mean square over bands and resolutions of the differences of means and spreads."""
    differences = np.concatenate([one.mean - other.mean, one.spread - other.spread])
    return float(np.sqrt(np.mean(differences**2)))


def embed_sounds(sounds: Sequence[np.ndarray], rate: int, classifier: Classifier) -> np.ndarray:
    """(M, K - 1): the features, as the classifier looks at them. Raises InputError for an empty set."""
    _check(sounds)
    return classifier.embed(np.stack([extract_features(sound, rate) for sound in sounds]))


def frechet_distance(one: np.ndarray, other: np.ndarray) -> float:
    """Between two sets of embeddings taken for normal distributions, by dimension (Heusel et al. 2017).

    Small sets are far from each other by chance: compare only distances of sets of the same size.
    """
    mean = one.mean(axis=0) - other.mean(axis=0)
    first, second = (np.atleast_2d(np.cov(vectors, rowvar=False)) for vectors in (one, other))
    # The trace of the product's root is the sum of the roots of the eigenvalues of a symmetric form of it.
    values, directions = np.linalg.eigh(first)
    root = directions * np.sqrt(np.maximum(values, 0)) @ directions.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ second @ root), 0)).sum()
    return float(mean @ mean + np.trace(first) + np.trace(second) - 2 * cross) / len(mean)


def diversity(sounds: Sequence[np.ndarray], rate: int, classifier: Classifier) -> float:
    """How much sounds of one prompt and several seeds differ: the mean distance of pairs, in features scaled
    to 1.

    0 for equal sounds. What it ought to be is told by the same measure of data for the prompt. Raises
    InputError for less than two sounds.
    """
    if len(sounds) < 2:
        raise InputError(f"{len(sounds)} sounds cannot differ: give at least 2.")
    vectors = classifier.standardise(np.stack([extract_features(sound, rate) for sound in sounds]))
    pairs = [
        np.sqrt(np.mean((vectors[i] - vectors[j]) ** 2))
        for i in range(len(vectors))
        for j in range(i + 1, len(vectors))
    ]
    return float(np.mean(pairs))


def _decibels(sound: np.ndarray, rate: int, window: float, bands: int) -> np.ndarray:
    levels = band_levels(sound, rate, window=window, hop=window / 2, bands=bands)
    full = (0.25 * round(window * rate)) ** 2  # of a sine of amplitude 1 through a Hann window
    return np.asarray(10 * np.log10(levels / full + 10 ** (-_FLOOR / 10)))


def _check(sounds: Sequence[np.ndarray]) -> None:
    if not len(sounds):
        raise InputError("The set of sounds is empty: give at least one.")
