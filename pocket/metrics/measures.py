"""What was asked against what came out: a scene and a sound give findings, each right or wrong.

Only what the words asked is held against a sound (and for a video when things happen in it). Of two sounds
one after the other the order is judged, since nothing tells where the first ends; two sounds at once are not
judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ..world.kinds import KINDS, Kind, pitch_class
from ..world.random_scenes import LOUDNESS_DBFS
from ..world.scenes import Description, Part, Scene
from . import analysis
from .classifier import Classifier

TEMPO_TOLERANCE = 0.04  # as a share
SIDE_BORDER = 2.0  # decibels between the channels, below which a sound is in the middle
ONSET_TOLERANCE = 0.08  # seconds between an event on screen and its sound
_SOFTEST = 16.0  # decibels below the peak_rms onset, where one is no event of its own
_FARTHEST = 0.4  # seconds: an onset farther from an event does not belong to it


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was asked. error: how far off it is, in the measure's unit, where that can be said."""

    measure: str
    expected: str
    measured: str
    right: bool
    error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """Of one measure over many sounds. error: the median of the absolute errors, or None."""

    right: int
    total: int
    error: float | None

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.right / self.total


def judge(
    scene: Scene,
    sound: np.ndarray,
    rate: int,
    classifier: Classifier | None = None,
    *,
    onset_tolerance: float = ONSET_TOLERANCE,
    vector: np.ndarray | None = None,
) -> tuple[Finding, ...]:
    """All findings on a sound (2, S) that was made for a scene.

    Without a classifier neither kind nor order is judged. vector: the sound's features, where they are known.
    """
    if scene.arrangement == "alone":
        part = scene.parts[0]
        findings = list(_part_findings(part, sound, rate))
        if classifier is not None:
            heard = (
                classifier.classify(sound, rate) if vector is None else classifier.classify_features(vector)
            )
            findings.append(_finding("kind", part.kind, heard))
        if scene.film:
            findings.extend(_onset_findings(part, sound, rate, onset_tolerance))
        return tuple(findings)
    if scene.arrangement == "then" and classifier is not None and scene.kinds[0] != scene.kinds[1]:
        middle = sound.shape[-1] // 2
        first, second = scene.kinds
        right = classifier.is_in_order(sound[..., :middle], sound[..., middle:], (first, second), rate)
        order = f"{first}, {second}"
        return (
            Finding(
                measure="order",
                expected=order,
                measured=order if right else f"{second}, {first}",
                right=right,
            ),
        )
    return ()


def scores(findings: Iterable[Finding]) -> dict[str, Score]:
    """By measure, in alphabetical order."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.measure, []).append(finding)
    return {name: _score(group) for name, group in sorted(groups.items())}


def _score(group: list[Finding]) -> Score:
    errors = [abs(finding.error) for finding in group if finding.error is not None]
    return Score(
        right=sum(finding.right for finding in group),
        total=len(group),
        error=float(np.median(errors)) if errors else None,
    )


def _finding(measure: str, expected: object, measured: object, error: float | None = None) -> Finding:
    return Finding(
        measure=measure,
        expected=str(expected),
        measured=str(measured),
        right=expected == measured,
        error=error,
    )


def _part_findings(part: Part, sound: np.ndarray, rate: int) -> Iterator[Finding]:
    """One sound against what was asked of it."""
    kind, asked = KINDS[part.kind], part.description
    yield from _pitch_findings(part.kind, kind, asked, sound, rate)
    if asked.loudness:
        level = analysis.peak_rms_dbfs(sound, rate)
        if math.isinf(level):
            yield _finding("loudness", asked.loudness, "nothing")
        else:
            nearest = min(LOUDNESS_DBFS, key=lambda name: abs(LOUDNESS_DBFS[name] - level))
            yield _finding(
                "loudness", asked.loudness, nearest or "neither", level - LOUDNESS_DBFS[asked.loudness]
            )
    if asked.side:
        yield _finding("direction", asked.side, measured_side(sound))
    if asked.count:
        count = analysis.count_events(sound, rate)
        yield _finding("count", asked.count, count, float(count - asked.count))
    if asked.pace or asked.tempo:
        yield from _pace_findings(part.kind, kind, asked, sound, rate)


def measured_side(sound: np.ndarray) -> str:
    """left, right or middle."""
    difference = analysis.stereo_balance(sound)
    return "middle" if abs(difference) < SIDE_BORDER else "right" if difference > 0 else "left"


def pitch_limits(kind: Kind) -> tuple[float, float]:
    """Where the pitch of a kind is looked for, in hertz: somewhat wider than where it can be."""
    assert kind.low is not None
    assert kind.high is not None
    return kind.low[0] / 1.6, kind.high[1] * 1.6


def _pitch_findings(
    name: str, kind: Kind, asked: Description, sound: np.ndarray, rate: int
) -> Iterator[Finding]:
    if asked.quality:
        found = analysis.chord(sound, rate)
        heard = f"{pitch_class(found[0])} {found[1]}" if found else "nothing"
        yield _finding("chord", f"{asked.note} {asked.quality}", heard)
    elif asked.note or asked.register:
        pitch = analysis.pitch(sound, rate, *pitch_limits(kind)) if kind.low else None
        if asked.note and kind.low:
            yield _finding("pitch class", asked.note, pitch_class(pitch) if pitch else "nothing")
        if asked.register:
            height = "nothing" if pitch is None else "high" if pitch > kind.register_border else "low"
            yield _finding("register", asked.register, height)
    if asked.motion:
        limits = pitch_limits(kind) if kind.low else (60.0, 3000.0)
        motion = analysis.pitch_slope(sound, rate, *limits)
        heard = "nothing" if motion is None else "rising" if motion > 0 else "falling"
        yield _finding("motion", asked.motion, heard, None)


def _pace_findings(
    name: str, kind: Kind, asked: Description, sound: np.ndarray, rate: int
) -> Iterator[Finding]:
    pace = analysis.swings_per_minute(sound, rate) if name == "siren" else analysis.tempo(sound, rate)
    if asked.pace:
        assert kind.slow is not None
        assert kind.fast is not None
        border = math.sqrt(kind.slow[1] * kind.fast[0])
        yield _finding("pace", asked.pace, "nothing" if pace is None else "fast" if pace > border else "slow")
    if asked.tempo:
        error = None if pace is None else pace / asked.tempo - 1
        yield Finding(
            measure="tempo",
            expected=str(asked.tempo),
            measured="nothing" if pace is None else f"{pace:.1f}",
            right=error is not None and abs(error) <= TEMPO_TOLERANCE,
            error=error,
        )


def _onset_findings(part: Part, sound: np.ndarray, rate: int, tolerance: float) -> Iterator[Finding]:
    """A finding for every event on screen, and one for every onset that belongs to none."""
    found = analysis.onsets(sound, rate)
    heard = list(found.times[found.strengths > -_SOFTEST])
    for onset in part.onsets:
        nearest = min(heard, key=lambda time: abs(time - onset), default=None)
        if nearest is None or abs(nearest - onset) > _FARTHEST:
            yield Finding(measure="onsets", expected=f"{onset:.3f}", measured="nothing", right=False)
            continue
        heard.remove(nearest)
        offset = float(nearest - onset)
        yield Finding(
            measure="onsets",
            expected=f"{onset:.3f}",
            measured=f"{nearest:.3f}",
            right=abs(offset) <= tolerance,
            error=offset,
        )
    for extra in heard:
        yield Finding(measure="onsets", expected="nothing", measured=f"{extra:.3f}", right=False)
