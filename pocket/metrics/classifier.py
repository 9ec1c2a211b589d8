"""Recognises the kind of a sound: linear discriminants of its features, fitted to synthesised sounds.

N features, K kinds, C classes (the kinds, or twice as many with a codec), M sounds, D = C - 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ..synth.rendering import render
from ..world.kinds import KINDS, check_kinds
from ..world.random_scenes import draw_scene
from .sound_features import extract_features

if TYPE_CHECKING:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.preprocessing import StandardScaler

_FIRST_SEED = 2**40  # far from the seeds of the data sets
_SHRINKAGE = 0.08  # of the covariance within classes
_CODEC_STRIDE = 3  # one example in three also passes the codec, which is slow
Codec = Callable[[np.ndarray], np.ndarray]
"""(2, S) -> (2, S): a sound after lossy encoding."""


@dataclass(frozen=True)
class Classifier:
    """Fitted discriminants.

    Attributes:
        kinds: The kinds that it distinguishes.
        scaler: Scales features to mean 0 and standard deviation 1.
        discriminants: Fitted to scaled features. Its classes are the kinds in their order, then, if there is
            a codec, the kinds once more for sounds that passed it.
    """

    kinds: tuple[str, ...]
    scaler: StandardScaler
    discriminants: LinearDiscriminantAnalysis

    def standardise(self, vector: np.ndarray) -> np.ndarray:
        """Scale features to mean 0 and standard deviation 1 over all kinds.

        Args:
            vector: (..., N) features.
        """
        return np.asarray((vector - self.scaler.mean_) / self.scaler.scale_)

    def embed(self, vector: np.ndarray) -> np.ndarray:
        """The discriminants (M, D) of features: what distinguishes the kinds.

        Args:
            vector: (M, N) features.
        """
        return np.asarray(self.discriminants.transform(self.standardise(vector)))

    def log_probabilities(self, vector: np.ndarray) -> np.ndarray:
        """Log probabilities (..., K) of the kinds, all equally likely a priori.

        Args:
            vector: (..., N) features.
        """
        rows = np.reshape(self.standardise(vector), (-1, vector.shape[-1]))
        by_class = self.discriminants.decision_function(rows)
        if by_class.ndim == 1:  # of two classes scikit-learn gives the difference
            by_class = np.stack([np.zeros(len(rows)), by_class], axis=1)
        # Classes have priors by their number of examples, which say nothing about the sound.
        by_class = by_class - np.log(self.discriminants.priors_)
        by_kind = by_class.reshape(len(rows), -1, len(self.kinds)).max(axis=1)
        by_kind = by_kind - by_kind.max(axis=1, keepdims=True)
        by_kind = by_kind - np.log(np.exp(by_kind).sum(axis=1, keepdims=True))
        return np.asarray(by_kind.reshape(*vector.shape[:-1], len(self.kinds)))

    def classify(self, sound: np.ndarray, rate: int, among: Sequence[str] = ()) -> str:
        """The most likely kind of a sound.

        Args:
            sound: (2, S) or (S,).
            rate: Hertz.
            among: Kinds to choose from; all if empty.

        Raises:
            InputError: A kind is unknown.
        """
        return self.classify_features(extract_features(sound, rate), among)

    def classify_features(self, vector: np.ndarray, among: Sequence[str] = ()) -> str:
        """The most likely kind of a sound with known features.

        Args:
            vector: (N,) features.
            among: Kinds to choose from; all if empty.

        Raises:
            InputError: A kind is unknown.
        """
        candidates = check_kinds(among) if among else self.kinds
        scores = self.log_probabilities(vector)
        return max(candidates, key=lambda kind: scores[self.kinds.index(kind)])

    def is_in_order(self, first: np.ndarray, second: np.ndarray, kinds: tuple[str, str], rate: int) -> bool:
        """Whether two sounds match two kinds better in this order than in the reverse order.

        Args:
            first: (2, S) or (S,).
            second: (2, S) or (S,).
            kinds: The kinds in the expected order.
            rate: Hertz.
        """
        early, late = (self.log_probabilities(extract_features(sound, rate)) for sound in (first, second))
        one, other = (self.kinds.index(kind) for kind in kinds)
        return bool(early[one] + late[other] > early[other] + late[one])


def fit_classifier(vectors: np.ndarray, labels: np.ndarray, kinds: tuple[str, ...]) -> Classifier:
    """Fit the discriminants.

    Args:
        vectors: (M, N) features.
        labels: (M,) indices into `kinds`, or into `kinds + kinds` if each kind has two classes. Every index
            must occur.
        kinds: The kinds.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(vectors)
    discriminants = LinearDiscriminantAnalysis(solver="eigen", shrinkage=_SHRINKAGE)
    return Classifier(kinds, scaler, discriminants.fit(scaler.transform(vectors), labels))


def train_classifier(
    rate: int, *, examples: int = 30, kinds: tuple[str, ...] = tuple(KINDS), codec: Codec | None = None
) -> Classifier:
    """Fit a classifier to synthesised sounds of each kind, long and short ones.

    Args:
        rate: Hertz.
        examples: Sounds per kind. Each is made once per rate.
        kinds: The kinds.
        codec: An encoding that the judged sounds may have passed. A third of the examples is added again
            after the codec, so that kinds are recognised in encoded sounds too.
    """
    vectors = [_measure_example(kind, number, rate) for kind in kinds for number in range(examples)]
    labels = [place for place in range(len(kinds)) for _ in range(examples)]
    if codec is not None:
        for place, kind in enumerate(kinds):
            for number in range(0, examples, _CODEC_STRIDE):
                vectors.append(extract_features(codec(_render_example(kind, number, rate)), rate))
                labels.append(len(kinds) + place)
    return fit_classifier(np.stack(vectors), np.array(labels), kinds)


@lru_cache(maxsize=4096)
def _measure_example(kind: str, number: int, rate: int) -> np.ndarray:
    """Features of an example without a codec."""
    return extract_features(_render_example(kind, number, rate), rate)


def _render_example(kind: str, number: int, rate: int) -> np.ndarray:
    """(2, S); even numbers are long, odd ones short."""
    scene = draw_scene(_FIRST_SEED + number, seconds=(9.0, 4.5)[number % 2], kinds=[kind])
    return render(scene, rate)
