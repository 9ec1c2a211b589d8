"""Compares a sound with the description of its scene: findings, each right or wrong.

Only statements of the caption are judged, and for a video also the times of events. For two sounds in
sequence only the order is judged, since nothing says where the first ends. Simultaneous sounds are not
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

TEMPO_TOLERANCE = 0.04  # relative
SIDE_BORDER = 2.0  # decibels between the channels, below which a sound is in the middle
ONSET_TOLERANCE = 0.08  # seconds between an event on screen and its sound
_ONSET_DEPTH = 16.0  # decibels below the loudest onset at which an onset still counts as an event
_MAX_ONSET_DISTANCE = 0.4  # seconds: an onset farther from an event does not belong to it


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one comparison.

    Attributes:
        measure: Name of the measure.
        expected: Value in the description.
        measured: Value in the sound.
        right: Whether they agree.
        error: Deviation in the unit of the measure, or None.
    """

    measure: str
    expected: str
    measured: str
    right: bool
    error: float | None = None


@dataclass(frozen=True, kw_only=True)
class Score:
    """The findings of one measure over many sounds.

    Attributes:
        right: Number of right findings.
        total: Number of findings.
        error: Median of the absolute errors, or None.
    """

    right: int
    total: int
    error: float | None

    @property
    def fraction(self) -> float:
        """Fraction of right findings, 0 to 1."""
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
    """Compare a sound with its scene.

    Args:
        scene: The scene.
        sound: (2, S).
        rate: Hertz.
        classifier: Classifier of kinds; without one, neither kind nor order is judged.
        onset_tolerance: Seconds between an event on screen and its sound.
        vector: The features of the sound, if they are at hand.
    """
    if scene.arrangement == "alone":
        part = scene.parts[0]
        findings = list(_judge_part(part, sound, rate))
        if classifier is not None:
            kind = (
                classifier.classify(sound, rate) if vector is None else classifier.classify_features(vector)
            )
            findings.append(_compare("kind", part.kind, kind))
        if scene.film:
            findings.extend(_judge_onsets(part, sound, rate, onset_tolerance))
        return tuple(findings)
    if scene.arrangement == "then" and classifier is not None and scene.kinds[0] != scene.kinds[1]:
        middle = sound.shape[-1] // 2
        first, second = scene.kinds
        right = classifier.is_in_order(sound[..., :middle], sound[..., middle:], (first, second), rate)
        order, reverse = f"{first}, {second}", f"{second}, {first}"
        return (_compare("order", order, order if right else reverse),)
    return ()


def scores(findings: Iterable[Finding]) -> dict[str, Score]:
    """The score of each measure, sorted by name.

    Args:
        findings: Findings of many sounds.
    """
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.measure, []).append(finding)
    return {name: _summarise(group) for name, group in sorted(groups.items())}


def _summarise(group: list[Finding]) -> Score:
    errors = [abs(finding.error) for finding in group if finding.error is not None]
    return Score(
        right=sum(finding.right for finding in group),
        total=len(group),
        error=float(np.median(errors)) if errors else None,
    )


def _compare(measure: str, expected: str | int, measured: str | int, error: float | None = None) -> Finding:
    """A finding that is right if both values are equal."""
    return Finding(
        measure=measure,
        expected=str(expected),
        measured=str(measured),
        right=expected == measured,
        error=error,
    )


def _judge_part(part: Part, sound: np.ndarray, rate: int) -> Iterator[Finding]:
    """A single sound against its description."""
    kind, description = KINDS[part.kind], part.description
    yield from _judge_pitch(kind, description, sound, rate)
    if description.loudness:
        level = analysis.peak_rms_dbfs(sound, rate)
        if math.isinf(level):
            yield _compare("loudness", description.loudness, "nothing")
        else:
            nearest = min(LOUDNESS_DBFS, key=lambda name: abs(LOUDNESS_DBFS[name] - level))
            error = level - LOUDNESS_DBFS[description.loudness]
            yield _compare("loudness", description.loudness, nearest or "neither", error)
    if description.side:
        yield _compare("direction", description.side, measured_side(sound))
    if description.count:
        count = analysis.count_events(sound, rate)
        yield _compare("count", description.count, count, float(count - description.count))
    if description.pace or description.tempo:
        yield from _judge_pace(part.kind, kind, description, sound, rate)


def measured_side(sound: np.ndarray) -> str:
    """The stereo position of a sound: left, right or middle.

    Args:
        sound: (2, S).
    """
    balance = analysis.stereo_balance(sound)
    return "middle" if abs(balance) < SIDE_BORDER else "right" if balance > 0 else "left"


def pitch_limits(kind: Kind) -> tuple[float, float]:
    """The range in hertz in which the pitch of a kind is measured, wider than the pitches it can have.

    Args:
        kind: A kind with registers.
    """
    assert kind.low is not None
    assert kind.high is not None
    return kind.low[0] / 1.6, kind.high[1] * 1.6


def _judge_pitch(kind: Kind, description: Description, sound: np.ndarray, rate: int) -> Iterator[Finding]:
    """Chord, or note and register; and the motion of the pitch."""
    if description.quality:
        chord = analysis.chord(sound, rate)
        measured = f"{pitch_class(chord[0])} {chord[1]}" if chord else "nothing"
        yield _compare("chord", f"{description.note} {description.quality}", measured)
    elif description.note or description.register:
        pitch = analysis.pitch(sound, rate, *pitch_limits(kind)) if kind.low else None
        if description.note and kind.low:
            yield _compare("pitch class", description.note, pitch_class(pitch) if pitch else "nothing")
        if description.register:
            register = "nothing" if pitch is None else "high" if pitch > kind.register_border else "low"
            yield _compare("register", description.register, register)
    if description.motion:
        limits = pitch_limits(kind) if kind.low else (60.0, 3000.0)
        slope = analysis.pitch_slope(sound, rate, *limits)
        motion = "nothing" if slope is None else "rising" if slope > 0 else "falling"
        yield _compare("motion", description.motion, motion)


def _judge_pace(
    name: str, kind: Kind, description: Description, sound: np.ndarray, rate: int
) -> Iterator[Finding]:
    """Pace in words, and tempo in beats per minute."""
    per_minute = analysis.swings_per_minute(sound, rate) if name == "siren" else analysis.tempo(sound, rate)
    if description.pace:
        assert kind.slow is not None
        assert kind.fast is not None
        border = math.sqrt(kind.slow[1] * kind.fast[0])
        pace = "nothing" if per_minute is None else "fast" if per_minute > border else "slow"
        yield _compare("pace", description.pace, pace)
    if description.tempo:
        error = None if per_minute is None else per_minute / description.tempo - 1
        yield Finding(
            measure="tempo",
            expected=str(description.tempo),
            measured="nothing" if per_minute is None else f"{per_minute:.1f}",
            right=error is not None and abs(error) <= TEMPO_TOLERANCE,
            error=error,
        )


def _judge_onsets(part: Part, sound: np.ndarray, rate: int, tolerance: float) -> Iterator[Finding]:
    """A finding for every event on screen, and a wrong one for every onset without an event."""
    times, strengths = analysis.onsets(sound, rate)
    unmatched = list(times[strengths > -_ONSET_DEPTH])
    for onset in part.onsets:
        nearest = min(unmatched, key=lambda time: abs(time - onset), default=None)
        if nearest is None or abs(nearest - onset) > _MAX_ONSET_DISTANCE:
            yield _compare("onsets", f"{onset:.3f}", "nothing")
            continue
        unmatched.remove(nearest)
        offset = float(nearest - onset)
        yield Finding(
            measure="onsets",
            expected=f"{onset:.3f}",
            measured=f"{nearest:.3f}",
            right=abs(offset) <= tolerance,
            error=offset,
        )
    for extra in unmatched:
        yield _compare("onsets", "nothing", f"{extra:.3f}")
