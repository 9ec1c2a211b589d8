"""Which kind of sound it is: linear discriminants on `sound_features`, fitted to the generator in seconds.

N features, K kinds, M sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .kinds import KINDS, check_kinds
from .rendering import render
from .score import draw_scene
from .sound_features import features

_FIRST_SEED = 2**40  # far from those of the data sets
_SHRINK = 0.08  # of the spread within kinds, towards the same in all directions


@dataclass(frozen=True)
class Classifier:
    """Fitted discriminants. weights: (N, K), offsets: (K,), mean and scale: (N,) of the features."""

    kinds: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray

    def scores(self, vector: np.ndarray) -> np.ndarray:
        """(..., N) features -> (..., K) log probabilities of each kind, if all are as likely beforehand."""
        raw = (vector - self.mean) / self.scale @ self.weights + self.offsets
        raw = raw - raw.max(axis=-1, keepdims=True)
        return np.asarray(raw - np.log(np.exp(raw).sum(axis=-1, keepdims=True)))

    def kind(self, sound: np.ndarray, rate: int, among: Sequence[str] = ()) -> str:
        """The likeliest kind of (2, S) or (S,), of all or of a few. Raises InputError for kinds that there are not."""
        allowed = check_kinds(among) if among else self.kinds
        scores = self.scores(features(sound, rate))
        return max(allowed, key=lambda kind: scores[self.kinds.index(kind)])

    def first_is(self, first: np.ndarray, second: np.ndarray, kinds: tuple[str, str], rate: int) -> bool:
        """Whether two sounds are more likely of two kinds in this order than in the other."""
        early, late = self.scores(features(first, rate)), self.scores(features(second, rate))
        one, other = (self.kinds.index(kind) for kind in kinds)
        return bool(early[one] + late[other] > early[other] + late[one])


def fit(vectors: np.ndarray, labels: np.ndarray, kinds: tuple[str, ...]) -> Classifier:
    """From (M, N) features and (M,) places in `kinds`; each kind must have sounds."""
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    scaled = (vectors - mean) / scale
    centres = np.stack([scaled[labels == place].mean(axis=0) for place in range(len(kinds))])
    within = scaled - centres[labels]
    spread = within.T @ within / len(scaled)
    even = np.trace(spread) / len(spread)
    spread = (1 - _SHRINK) * spread + _SHRINK * even * np.eye(len(spread))
    weights = np.linalg.solve(spread, centres.T)
    offsets = -0.5 * np.sum(centres.T * weights, axis=0)
    return Classifier(kinds=kinds, mean=mean, scale=scale, weights=weights, offsets=offsets)


@lru_cache(maxsize=4)
def trained_classifier(rate: int, *, examples: int = 30, kinds: tuple[str, ...] = tuple(KINDS)) -> Classifier:
    """Fitted to so many sounds of each kind, long ones and short ones alike. Kept, so it is made once a rate."""
    vectors, labels = [], []
    for place, kind in enumerate(kinds):
        for number in range(examples):
            scene = draw_scene(_FIRST_SEED + number, seconds=(9.0, 4.5)[number % 2], kinds=[kind])
            vectors.append(features(render(scene, rate), rate))
            labels.append(place)
    return fit(np.stack(vectors), np.array(labels), kinds)
