"""Checks of the sounds that the example workflows of audiox-pocket generate."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from benchmarks.quality.evaluation import through_autoencoder
from pocket.metrics.analysis import onsets, peak_rms_dbfs
from pocket.metrics.classifier import Classifier, train_classifier
from pocket.metrics.measures import judge
from pocket.world.scenes import Description, Part, Scene
from tools.film import film_scene

RATE = 16000
KINDS = ("bell", "drums", "rain", "engine", "siren")
Check = Callable[[np.ndarray], None]
"""Takes a sound (2, S) at RATE, and fails if it does not match."""


def _scene(kind: str, description: Description) -> Scene:
    part = Part(kind=kind, description=description, events=(), peak_rms_dbfs=0.0, seed=0)
    return Scene(seconds=10.0, parts=(part,))


def _matches(scene: Scene) -> Check:
    def check(sound: np.ndarray) -> None:
        findings = judge(scene, sound, RATE)
        assert findings
        assert [finding for finding in findings if not finding.right] == []

    return check


@cache
def _classifier() -> Classifier:
    """A classifier that is also fitted to sounds from the model's autoencoder."""
    model = get_pretrained_model("audiox-pocket")[0]
    return train_classifier(RATE, kinds=KINDS, codec=lambda sound: through_autoencoder(model, sound))


def _is(kind: str, among: tuple[str, ...] = KINDS) -> Check:
    def check(sound: np.ndarray) -> None:
        assert _classifier().classify(sound, RATE, among) == kind

    return check


def _excerpt(sound: np.ndarray, start: float, end: float) -> np.ndarray:
    return sound[:, round(start * RATE) : round(end * RATE)]


def _timeline(sound: np.ndarray) -> None:
    among = ("rain", "siren")
    _is("rain", among)(_excerpt(sound, 0.5, 9.5))
    _is("siren", among)(_excerpt(sound, 10.5, 19.5))


def _is_synchronous(sound: np.ndarray) -> None:
    """At least three of the four blows of the film have a sound in time, and at most one sound has none."""
    findings = [finding for finding in judge(film_scene(), sound, RATE) if finding.measure == "onsets"]
    assert sum(finding.right for finding in findings) >= 3
    assert sum(finding.expected == "nothing" for finding in findings) <= 1


def _regions(sound: np.ndarray) -> None:
    inside = [peak_rms_dbfs(_excerpt(sound, start, end), RATE) for start, end in ((1.7, 2.8), (5.2, 6.3))]
    outside = [
        peak_rms_dbfs(_excerpt(sound, start, end), RATE)
        for start, end in ((0.2, 1.4), (3.1, 4.9), (6.6, 9.8))
    ]
    assert min(inside) > max(outside) + 6


def _continues(sound: np.ndarray) -> None:
    """The extension is about as loud as the track and has beats."""
    before, after = (_excerpt(sound, start, start + 9.9) for start in (0.0, 10.0))
    assert abs(peak_rms_dbfs(after, RATE) - peak_rms_dbfs(before, RATE)) < 12
    assert len(onsets(after, RATE).times) >= 3


_BELLS = _is("bell")

CHECKS: dict[str, Check] = {
    "pocket_audio_prompt": _BELLS,
    "pocket_continuation": _continues,
    "pocket_inpainting": _regions,
    "pocket_text_to_audio": _matches(_scene("beep", Description(register="high", count=2))),
    "pocket_text_to_music": _matches(_scene("chord", Description(note="C", quality="major"))),
    "pocket_timeline": _timeline,
    "pocket_variation": _BELLS,
    "pocket_video_to_audio": _is_synchronous,
}
