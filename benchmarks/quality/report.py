"""Measurements of sounds: the fraction of correct attributes, distances to data, diversity; as a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from audiox_ext.errors import InputError
from pocket.metrics.classifier import Classifier, train_classifier
from pocket.metrics.distances import (
    SpectralStatistics,
    diversity,
    embed_sounds,
    frechet_distance,
    spectral_distance,
    spectral_statistics,
)
from pocket.metrics.measures import Finding, Score, judge, scores
from pocket.metrics.sound_features import extract_features

from .items import GROUPS, REFERENCE, QualityItem, held_out_items, render_items

_CONFIDENCE = 1.96  # standard deviations of the 95 % interval
_VIDEO_MEASURES = ("kind", "onsets")  # measures of items with a video, reported by group


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Measurements of a set of sounds.

    Attributes:
        items: Number of items.
        scores: Scores by measure.
        spectral: Spectral distance to other held-out data, dB.
        frechet: Fréchet distance to other held-out data.
        diversity: Mean difference between sounds of the same prompt, None if not measured.
        seconds: Time per sound, None for data.
        evaluations: Passes through the network per sound, None for data.
    """

    items: int
    scores: Mapping[str, Score]
    spectral: float
    frechet: float
    diversity: float | None = None
    seconds: float | None = None
    evaluations: float | None = None

    @property
    def mean(self) -> float:
        """Mean of all measures, each with equal weight, from 0 to 1."""
        return float(np.mean([score.fraction for score in self.scores.values()])) if self.scores else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Convert the report for a JSON file.

        Returns:
            The fields by name.
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityReport:
        """Rebuild a report.

        Args:
            values: Output of `as_dict`.

        Returns:
            The report.
        """
        scores_by_measure = {name: Score(**score) for name, score in values["scores"].items()}
        return cls(**{**values, "scores": scores_by_measure})


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """The classifier and the held-out data that sounds are compared with.

    The data come from other scenes than the items, as many as there are items.

    Attributes:
        rate: Sample rate, hertz.
        classifier: Classifier of kinds of sound.
        statistics: Spectral statistics of the data.
        embeddings: Embeddings of the data, one row per sound.
    """

    rate: int
    classifier: Classifier
    statistics: SpectralStatistics
    embeddings: np.ndarray

    @classmethod
    def for_items(
        cls, items: Sequence[QualityItem], rate: int, samples: int, classifier: Classifier | None = None
    ) -> Reference:
        """Build the reference for a set of items.

        Args:
            items: Items that will be measured.
            rate: Sample rate, hertz.
            samples: Length of the sounds.
            classifier: Classifier for that rate, by default one for all kinds.

        Returns:
            The reference.

        Raises:
            InputError: For fewer than two items.
        """
        if len(items) < 2:
            raise InputError(
                f"A set of {len(items)} is too small to measure a distance: choose at least 2 items."
            )
        classifier = classifier or train_classifier(rate)
        others = [other for group in _group_sizes(items).items() for other in _other_items(*group, items)]
        sounds = render_items(others, rate, samples)
        return cls(
            rate=rate,
            classifier=classifier,
            statistics=spectral_statistics(sounds, rate),
            embeddings=embed_sounds(sounds, rate, classifier),
        )


def measure_sounds(
    items: Sequence[QualityItem],
    sounds: Sequence[np.ndarray],
    reference: Reference,
    *,
    varied: Sequence[Sequence[np.ndarray]] = (),
    seconds: float | None = None,
    evaluations: float | None = None,
) -> QualityReport:
    """Measure sounds.

    Args:
        items: Items that the sounds were generated for.
        sounds: One sound (2, S) per item.
        reference: Reference to compare with.
        varied: Sounds of the same prompt, prompt by prompt, to measure the diversity.
        seconds: Time per sound.
        evaluations: Passes through the network per sound.

    Returns:
        The measurements.
    """
    rate, classifier = reference.rate, reference.classifier
    vectors = [extract_features(sound, rate) for sound in sounds]
    findings = [
        finding
        for item, sound, vector in zip(items, sounds, vectors, strict=True)
        for finding in judge_item(item, sound, reference, vector)
    ]
    differences = [diversity(takes, rate, classifier) for takes in varied]
    return QualityReport(
        items=len(items),
        scores=scores(findings),
        spectral=spectral_distance(spectral_statistics(sounds, rate), reference.statistics),
        frechet=frechet_distance(classifier.embed(np.stack(vectors)), reference.embeddings),
        diversity=float(np.mean(differences)) if differences else None,
        seconds=seconds,
        evaluations=evaluations,
    )


def judge_item(
    item: QualityItem, sound: np.ndarray, reference: Reference, vector: np.ndarray | None = None
) -> list[Finding]:
    """Compare a sound with its item. Measures of videos carry the name of their group.

    Args:
        item: Item that the sound was generated for.
        sound: Sound (2, S).
        reference: Reference with the classifier.
        vector: Features of the sound, if they are known.

    Returns:
        One finding per attribute that the item requests.
    """
    findings = judge(item.scene, sound, reference.rate, reference.classifier, vector=vector)
    if item.scene.film is None:
        return list(findings)
    return [_renamed(finding, item.group) for finding in findings if finding.measure in _VIDEO_MEASURES]


def wilson_interval(right: int, total: int) -> tuple[float, float]:
    """Compute the 95 % confidence interval of a fraction.

    It assumes independent cases, although events of one sound are not fully independent.

    Args:
        right: Number of correct cases.
        total: Number of cases.

    Returns:
        The interval within 0 to 1; (0, 1) if there are no cases.

    Source: Wilson 1927.
    """
    if total == 0:
        return 0.0, 1.0
    fraction, z = right / total, _CONFIDENCE
    middle = fraction + z**2 / (2 * total)
    half = z * math.sqrt(fraction * (1 - fraction) / total + z**2 / (4 * total**2))
    whole = 1 + z**2 / total
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def format_table(reports: Mapping[str, QualityReport]) -> str:
    """Format reports as a Markdown table, with one row per measure and one column per report.

    Args:
        reports: Reports by name.

    Returns:
        The table.
    """
    names = list(reports)
    measures = dict.fromkeys(name for report in reports.values() for name in report.scores)
    lines = [_line("measure", names), _line("---", ["---"] * len(names))]
    lines += [
        _line(measure, [_score_text(report.scores.get(measure)) for report in reports.values()])
        for measure in measures
    ]
    columns = list(reports.values())
    lines.append(_line("mean of these", [f"{100 * report.mean:.1f} %" for report in columns]))
    for label, values, unit in (
        ("spectral distance to data", [report.spectral for report in columns], " dB"),
        ("Fréchet distance to data", [report.frechet for report in columns], ""),
        ("diversity", [report.diversity for report in columns], ""),
        ("seconds per sound", [report.seconds for report in columns], ""),
        ("network evaluations per sound", [report.evaluations for report in columns], ""),
    ):
        if any(value is not None for value in values):
            lines.append(_line(label, ["" if v is None else f"{v:.3g}{unit}" for v in values]))
    return "\n".join(lines)


def _line(first: str, others: Iterable[str]) -> str:
    return f"| {' | '.join([first, *others])} |"


def _score_text(score: Score | None) -> str:
    """A score such as "92 % (81 to 97), 44 of 48, off by 0.021"."""
    if score is None:
        return ""
    low, high = (100 * border for border in wilson_interval(score.right, score.total))
    off = "" if score.error is None else f", off by {score.error:.2g}"
    return f"{100 * score.fraction:.0f} % ({low:.0f} to {high:.0f}), {score.right} of {score.total}{off}"


def _renamed(finding: Finding, group: str) -> Finding:
    return Finding(**{**vars(finding), "measure": f"{finding.measure} ({group})"})


def _group_sizes(items: Sequence[QualityItem]) -> dict[str, int]:
    """Number of items per group."""
    return {name: count for name in GROUPS if (count := sum(item.group == name for item in items))}


def _other_items(group: str, count: int, items: Sequence[QualityItem]) -> list[QualityItem]:
    seconds = items[0].scene.seconds
    return held_out_items(count, seconds=seconds, groups=[group], purpose=REFERENCE)
