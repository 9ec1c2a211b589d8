"""Which kind of sound it is: linear discriminants on `sound_features`, fitted to the generator in seconds.

N features, K kinds, C centres, M sounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..synth.rendering import render
from ..world.kinds import KINDS, check_kinds
from ..world.random_scenes import draw_scene
from .sound_features import extract_features

_FIRST_SEED = 2**40  # far from those of the data sets
_SHRINK = 0.08  # of the spread within kinds, towards the same in all directions
_CODED = 3  # one example in so many goes through a codec, too: it takes longer than all else
Codec = Callable[[np.ndarray], np.ndarray]
"""(2, S) -> (2, S), what a sound is after it has been stored in few numbers."""


@dataclass(frozen=True)
class Classifier:
    """Fitted discriminants: kinds lie around centres in a space where their spread is 1 in every direction.

    mean, scale: (N,) of the features. projection: (N, C - 1), to that space. centres: (C, C - 1), one for
    each kind in their order, then perhaps more likewise.
    """

    kinds: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    projection: np.ndarray
    centres: np.ndarray

    def standardise(self, vector: np.ndarray) -> np.ndarray:
        """(..., N) features, each with mean 0 and deviation 1 over all kinds."""
        return np.asarray((vector - self.mean) / self.scale)

    def embed(self, vector: np.ndarray) -> np.ndarray:
        """(..., N) features -> (..., C - 1): what of them tells kinds apart."""
        return np.asarray(self.standardise(vector) @ self.projection)

    def log_probabilities(self, vector: np.ndarray) -> np.ndarray:
        """(..., N) features -> (..., K) log probabilities of each kind, if all are as likely beforehand."""
        apart = self.embed(vector)[..., None, :] - self.centres
        raw = -0.5 * np.sum(apart**2, axis=-1)
        raw = raw.reshape(*raw.shape[:-1], -1, len(self.kinds)).max(axis=-2)
        raw = raw - raw.max(axis=-1, keepdims=True)
        return np.asarray(raw - np.log(np.exp(raw).sum(axis=-1, keepdims=True)))

    def classify(self, sound: np.ndarray, rate: int, among: Sequence[str] = ()) -> str:
        """The likeliest kind of (2, S) or (S,), of all or of a few. Raises InputError for unknown kinds."""
        return self.classify_features(extract_features(sound, rate), among)

    def classify_features(self, vector: np.ndarray, among: Sequence[str] = ()) -> str:
        """As `kind`, by a sound's (N,) features."""
        allowed = check_kinds(among) if among else self.kinds
        scores = self.log_probabilities(vector)
        return max(allowed, key=lambda kind: scores[self.kinds.index(kind)])

    def is_in_order(self, first: np.ndarray, second: np.ndarray, kinds: tuple[str, str], rate: int) -> bool:
        """Whether two sounds are more likely of two kinds in this order than in the other."""
        early, late = (
            self.log_probabilities(extract_features(first, rate)),
            self.log_probabilities(extract_features(second, rate)),
        )
        one, other = (self.kinds.index(kind) for kind in kinds)
        return bool(early[one] + late[other] > early[other] + late[one])


def fit_classifier(vectors: np.ndarray, labels: np.ndarray, kinds: tuple[str, ...]) -> Classifier:
    """From (M, N) features and (M,) places in `kinds`, or in `kinds` after `kinds` for more centres than one
    of each; each place must have sounds.
    """
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    scaled = (vectors - mean) / scale
    centres = np.stack([scaled[labels == place].mean(axis=0) for place in range(labels.max() + 1)])
    within = scaled - centres[labels]
    spread = within.T @ within / len(scaled)
    even = np.trace(spread) / len(spread)
    spread = (1 - _SHRINK) * spread + _SHRINK * even * np.eye(len(spread))
    values, directions = np.linalg.eigh(spread)
    whiten = directions / np.sqrt(values)
    axes = np.linalg.svd(whiten.T @ (centres - centres.mean(axis=0)).T, full_matrices=False)[0]
    projection = whiten @ axes[:, : max(1, len(centres) - 1)]
    return Classifier(
        kinds=kinds, mean=mean, scale=scale, projection=projection, centres=centres @ projection
    )


def train_classifier(
    rate: int, *, examples: int = 30, kinds: tuple[str, ...] = tuple(KINDS), codec: Codec | None = None
) -> Classifier:
    """Fitted to so many sounds of each kind, long and short ones, which are made once a rate.

    codec: what is to be judged may have been through that, and so have some of the sounds, once more: a kind
    is told by what is left of it.
    """
    vectors = list(_features(rate, examples, kinds))
    labels = [place for place in range(len(kinds)) for _ in range(examples)]
    if codec is not None:
        for place, kind in enumerate(kinds):
            for number in range(0, examples, _CODED):
                vectors.append(extract_features(codec(_example(kind, number, rate)), rate))
                labels.append(len(kinds) + place)
    return fit_classifier(np.stack(vectors), np.array(labels), kinds)


@lru_cache(maxsize=4)
def _features(rate: int, examples: int, kinds: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Of the sounds as they are, kind by kind."""
    return tuple(
        extract_features(_example(kind, number, rate), rate) for kind in kinds for number in range(examples)
    )


def _example(kind: str, number: int, rate: int) -> np.ndarray:
    """(2, S), long and short ones in turn."""
    scene = draw_scene(_FIRST_SEED + number, seconds=(9.0, 4.5)[number % 2], kinds=[kind])
    return render(scene, rate)
