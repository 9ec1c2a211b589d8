"""Adds true attributes to a description, so that later passes see the same sound with fuller captions.

A description states a few attributes, but the sound has values for the others, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..world.kinds import KINDS, pitch_class
from ..world.random_scenes import MAX_ATTRIBUTES
from ..world.scenes import Part, Scene
from .phrases import NUMBERS

_PROBABILITIES = {"note": 0.5, "count": 0.5, "timbre": 0.2}


def enrich_description(scene: Scene, random: np.random.Generator) -> Scene:
    """Return a copy of the scene with some unstated attributes added to the descriptions at random.

    Args:
        scene: The scene.
        random: Random numbers.
    """
    return replace(scene, parts=tuple(_enrich_part(part, random) for part in scene.parts))


def _enrich_part(part: Part, random: np.random.Generator) -> Part:
    stated = sum(value is not None for name, value in vars(part.description).items() if name != "quality")
    additions: dict[str, Any] = {}
    for name, values in _unstated_attributes(part).items():
        if stated < MAX_ATTRIBUTES and random.random() < _PROBABILITIES[name]:
            additions |= values
            stated += 1
    return replace(part, description=replace(part.description, **additions))


def _unstated_attributes(part: Part) -> dict[str, dict[str, Any]]:
    """The fields of `Description` that each attribute would fill."""
    kind, description, first = KINDS[part.kind], part.description, part.events[0]
    attributes: dict[str, dict[str, Any]] = {}
    if kind.notes and description.note is None:
        attributes["note"] = {"note": pitch_class(first.pitch)}
        if part.kind == "chord":
            attributes["note"]["quality"] = first.variant.split()[-1]
    if kind.countable and description.count is None and len(part.onsets) in NUMBERS:
        attributes["count"] = {"count": len(part.onsets)}
    if kind.timbres and description.timbre is None:
        attributes["timbre"] = {"timbre": first.variant.split()[0]}
    return attributes
