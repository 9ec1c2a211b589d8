"""What else could have been said of a scene: the same sound is told in other words, and with other facts.

A scene asks for few things, and what it leaves open has a value all the same. Said in other passes of a
training, it makes several examples of one sound.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..world.kinds import KINDS, pitch_class
from ..world.random_scenes import MAX_ATTRIBUTES
from ..world.scenes import Part, Scene
from .phrases import NUMBERS

_LIKELY = {"note": 0.5, "count": 0.5, "timbre": 0.2}


def enrich_description(scene: Scene, random: np.random.Generator) -> Scene:
    """The same scene; of each part is said what was said, and now and then what else is known of it."""
    return replace(scene, parts=tuple(_retold(part, random) for part in scene.parts))


def _retold(part: Part, random: np.random.Generator) -> Part:
    said = sum(value is not None for name, value in vars(part.description).items() if name != "quality")
    told: dict[str, Any] = {}
    for name, facts in _unsaid(part).items():
        if said < MAX_ATTRIBUTES and random.random() < _LIKELY[name]:
            told |= facts
            said += 1
    return replace(part, description=replace(part.description, **told))


def _unsaid(part: Part) -> dict[str, dict[str, Any]]:
    """By the name of what could be said, its values in `Description`."""
    kind, asked, first = KINDS[part.kind], part.description, part.events[0]
    found: dict[str, dict[str, Any]] = {}
    if kind.notes and asked.note is None:
        found["note"] = {"note": pitch_class(first.pitch)}
        if part.kind == "chord":
            found["note"]["quality"] = first.variant.split()[-1]
    if kind.countable and asked.count is None and len(part.onsets) in NUMBERS:
        found["count"] = {"count": len(part.onsets)}
    if kind.timbres and asked.timbre is None:
        found["timbre"] = {"timbre": first.variant.split()[0]}
    return found
