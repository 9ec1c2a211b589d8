"""What is found in sounds that were made for items: shares of what was asked, distances, diversity; as a
table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.files import write_atomically
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

from .items import GROUPS, REFERENCE, QualityItem, data_sounds, held_out_items

_CONFIDENCE = 1.96  # standard deviations: 95 %
_OF_VIDEOS = ("kind", "onsets")  # what is reported of items with a video, apart from the others


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """scores: by measure. spectral, frechet: distances to other held-out data. diversity: of sounds for the
    same prompt, None where that was not measured. seconds, evaluations: time, and passes through the
    network, for one sound; None for data.
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
        """The mean of the measures' shares, each counting as much as any other."""
        return float(np.mean([score.fraction for score in self.scores.values()])) if self.scores else math.nan

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityReport:
        """What `as_dict` gave."""
        found = {name: Score(**score) for name, score in values["scores"].items()}
        return cls(**{**values, "scores": found})


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What sounds are held against: the classifier of kinds, and held-out data that are not the items' own.

    Sets have to be of one size to be compared, so there are as many sounds here as there are items.
    """

    rate: int
    classifier: Classifier
    statistics: SpectralStatistics
    embeddings: np.ndarray

    @classmethod
    def for_items(
        cls, items: Sequence[QualityItem], rate: int, samples: int, classifier: Classifier | None = None
    ) -> Reference:
        """rate: hertz. samples: of each sound. classifier: fitted for that rate, by default to all kinds.

        Raises InputError for less than two items.
        """
        if len(items) < 2:
            raise InputError(f"A set of {len(items)} has no distance to another: ask for at least 2 items.")
        classifier = classifier or train_classifier(rate)
        others = [other for group in _counts(items).items() for other in _others(*group, items)]
        sounds = data_sounds(others, rate, samples)
        return cls(
            rate=rate,
            classifier=classifier,
            statistics=spectral_statistics(sounds, rate),
            embeddings=embed_sounds(sounds, rate, classifier),
        )


def report_on(
    items: Sequence[QualityItem],
    sounds: Sequence[np.ndarray],
    reference: Reference,
    *,
    varied: Sequence[Sequence[np.ndarray]] = (),
    seconds: float | None = None,
    evaluations: float | None = None,
) -> QualityReport:
    """sounds: one (2, S) an item. varied: sounds for the same prompt, prompt by prompt."""
    rate, classifier = reference.rate, reference.classifier
    vectors = [extract_features(sound, rate) for sound in sounds]
    findings = [
        finding
        for item, sound, vector in zip(items, sounds, vectors, strict=True)
        for finding in findings_on(item, sound, reference, vector)
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


def findings_on(
    item: QualityItem, sound: np.ndarray, reference: Reference, vector: np.ndarray | None = None
) -> list[Finding]:
    """What was asked against what is heard. The measures of a video carry its group's name. vector: the
    sound's features, where they are known.
    """
    found = judge(item.scene, sound, reference.rate, reference.classifier, vector=vector)
    if item.scene.film is None:
        return list(found)
    return [_renamed(finding, item.group) for finding in found if finding.measure in _OF_VIDEOS]


def wilson(right: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, from 0 to 1 (Wilson 1927); of no cases all of it.

    It takes cases for independent of each other, which several events of one sound are not quite.
    """
    if total == 0:
        return 0.0, 1.0
    share, z = right / total, _CONFIDENCE
    middle = share + z**2 / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    whole = 1 + z**2 / total
    return max(0.0, (middle - half) / whole), min(1.0, (middle + half) / whole)


def table(reports: Mapping[str, QualityReport]) -> str:
    """Markdown: a line a measure, a column a report."""
    names = list(reports)
    measures = dict.fromkeys(name for report in reports.values() for name in report.scores)
    lines = [_line("measure", names), _line("---", ["---"] * len(names))]
    lines += [
        _line(measure, [_share(report.scores.get(measure)) for report in reports.values()])
        for measure in measures
    ]
    of_all = list(reports.values())
    lines.append(_line("mean of these", [f"{100 * report.mean:.1f} %" for report in of_all]))
    for label, values, unit in (
        ("spectral distance to data", [report.spectral for report in of_all], " dB"),
        ("Fréchet distance to data", [report.frechet for report in of_all], ""),
        ("diversity", [report.diversity for report in of_all], ""),
        ("seconds per sound", [report.seconds for report in of_all], ""),
        ("network evaluations per sound", [report.evaluations for report in of_all], ""),
    ):
        if any(value is not None for value in values):
            lines.append(_line(label, ["" if v is None else f"{v:.3g}{unit}" for v in values]))
    return "\n".join(lines)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _line(first: str, others: Iterable[str]) -> str:
    return f"| {' | '.join([first, *others])} |"


def _share(score: Score | None) -> str:
    """Such as: 92 % (81 to 97), 44 of 48, off by 0.021."""
    if score is None:
        return ""
    low, high = (100 * border for border in wilson(score.right, score.total))
    off = "" if score.error is None else f", off by {score.error:.2g}"
    return f"{100 * score.fraction:.0f} % ({low:.0f} to {high:.0f}), {score.right} of {score.total}{off}"


def _renamed(finding: Finding, group: str) -> Finding:
    return Finding(**{**vars(finding), "measure": f"{finding.measure} ({group})"})


def _counts(items: Sequence[QualityItem]) -> dict[str, int]:
    """How many items there are of each group."""
    return {name: count for name in GROUPS if (count := sum(item.group == name for item in items))}


def _others(group: str, count: int, items: Sequence[QualityItem]) -> list[QualityItem]:
    seconds = items[0].scene.seconds
    return held_out_items(count, seconds=seconds, groups=[group], purpose=REFERENCE)
