"""Draws random scenes: their sounds and what their captions say. `layouts` decides when events happen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.random_numbers import keyed_generator

from .kinds import KINDS, NOISES, NOTES, Kind, check_kinds, note_pitch
from .layouts import LAYOUTS, LayoutRequest, TimeSlot, choose, draw_log_uniform, nearest_note_pitch
from .scenes import Arrangement, Description, Part, Scene

LOUDNESS_DBFS = {"loud": -13.0, None: -23.0, "quiet": -33.0}  # see `Part.peak_rms_dbfs`
BACKGROUND_DB = 12.0  # attenuation of the second of two simultaneous sounds
MIN_SECONDS = 2.0  # of a scene
MAX_ATTRIBUTES = 3  # that a caption states about one sound: prompts rarely say more

_BACKGROUNDS = (*NOISES, "engine")
# Probability that a caption states an attribute, where it differs from the usual one.
_USUAL_PROBABILITY = 0.35
_PROBABILITIES = {
    "tempo": 0.5,
    "note": 0.5,
    "timbre": 0.4,
    "count": 0.7,
    "motion": 0.6,
    "pace": 0.6,
    "register": 0.6,
}


def draw_scene(
    seed: int,
    *,
    seconds: float = 10.0,
    kinds: Sequence[str],
    arrangement: Arrangement = "alone",
    film: bool = False,
) -> Scene:
    """Draw a scene with one or two sounds.

    Args:
        seed: Seed of everything that is drawn.
        seconds: Length of the scene, at least 2.
        kinds: Kinds of sound to draw from.
        arrangement: See `Scene.arrangement`. The background of "with" is a noise or an engine if the kinds
            contain one.
        film: Whether a video shows the scene. Every kind must be one of `animations.FILM_KINDS`.

    Raises:
        InputError: The scene is too short, or a kind is unknown.
    """
    if not (math.isfinite(seconds) and seconds >= MIN_SECONDS):
        raise InputError(f"A scene of {seconds} s is too short: use at least {MIN_SECONDS:g} s.")
    kinds = check_kinds(kinds)
    random = keyed_generator(seed, 1)
    chosen = [choose(random, kinds)]
    if arrangement == "then":
        chosen.append(choose(random, [kind for kind in kinds if kind != chosen[0]] or kinds))
    elif arrangement == "with":
        foregrounds = [kind for kind in kinds if KINDS[kind].layout != "sustained"] or list(kinds)
        chosen = [choose(random, foregrounds)]
        backgrounds = [kind for kind in _BACKGROUNDS if kind in kinds] or list(kinds)
        chosen.append(choose(random, backgrounds))
    parts = [
        _draw_part(kind, slot, random, on_screen=film)
        for kind, slot in zip(chosen, _draw_slots(seconds, arrangement, random), strict=True)
    ]
    if arrangement == "with":
        parts[1] = _move_to_background(parts[1], parts[0])
    return Scene(
        seconds=seconds,
        parts=tuple(parts),
        arrangement=arrangement,
        film=chosen[0] if film else None,
        seed=seed,
    )


def _draw_slots(seconds: float, arrangement: Arrangement, random: np.random.Generator) -> list[TimeSlot]:
    """The whole scene for each part, or its two halves with a short silence between them."""
    if arrangement == "then":
        middle = seconds * random.uniform(0.46, 0.54)
        return [TimeSlot(0.0, middle - 0.15), TimeSlot(middle + 0.15, seconds)]
    return [TimeSlot(0.0, seconds)] * (1 if arrangement == "alone" else 2)


def _draw_part(name: str, slot: TimeSlot, random: np.random.Generator, *, on_screen: bool) -> Part:
    kind = KINDS[name]
    description = _draw_description(name, kind, slot, random)
    pan = {"left": -1.0, "right": 1.0, None: 0.0}[description.side] * random.uniform(0.6, 1.0)
    pitch = _draw_pitch(name, kind, description, random)
    request = LayoutRequest(name, description, slot, random, pitch=pitch, pan=pan, on_screen=on_screen)
    events = LAYOUTS[kind.layout](request)
    peak_rms_dbfs = LOUDNESS_DBFS[description.loudness] + random.uniform(-1.5, 1.5)
    return Part(
        kind=name,
        description=description,
        events=tuple(events),
        peak_rms_dbfs=peak_rms_dbfs,
        seed=int(random.integers(2**31)),
    )


def _draw_description(name: str, kind: Kind, slot: TimeSlot, random: np.random.Generator) -> Description:
    """At most `MAX_ATTRIBUTES` attributes that fit the kind."""
    candidates = _draw_attributes(kind, random)
    stated = [key for key in candidates if random.random() < _PROBABILITIES.get(key, _USUAL_PROBABILITY)]
    while len(stated) > MAX_ATTRIBUTES:
        stated.pop(int(random.integers(len(stated))))
    if name == "sweep" and "motion" not in stated:
        stated.append("motion")  # a sweep always rises or falls
    if "tempo" in stated and "pace" in stated:
        stated.remove("pace")  # the tempo says it
    attributes = {key: candidates[key] for key in stated}
    if "note" in attributes and name == "chord":
        attributes["quality"] = choose(random, ("major", "minor"))
    has_few_notes = name == "melody" and slot.seconds < 3 and attributes.get("pace") == "slow"
    if "motion" in attributes and has_few_notes:
        del attributes["pace"]  # too few notes to rise or fall
    return Description(**attributes)


def _draw_attributes(kind: Kind, random: np.random.Generator) -> dict[str, Any]:
    """A value for each attribute that the kind can have. The order of the draws is part of the data."""
    attributes: dict[str, Any] = {}
    if kind.notes:
        attributes["note"] = choose(random, NOTES)
    if kind.low:
        attributes["register"] = choose(random, ("high", "low"))
    if kind.motion:
        attributes["motion"] = choose(random, ("rising", "falling"))
    if kind.slow:
        attributes["pace"] = choose(random, ("fast", "slow"))
    if kind.tempo and kind.slow and kind.fast:
        attributes["tempo"] = int(random.integers(round(kind.slow[0]), round(kind.fast[1]) + 1))
    if kind.timbres:
        attributes["timbre"] = choose(random, kind.timbres)
    if kind.countable:
        attributes["count"] = int(random.integers(1, 5))
    attributes["loudness"] = choose(random, ("loud", "quiet"))
    attributes["side"] = choose(random, ("left", "right"))
    return attributes


def _draw_pitch(name: str, kind: Kind, description: Description, random: np.random.Generator) -> float:
    """A fundamental that fits the description; 0 for sounds without a pitch."""
    if name == "chord":
        note = description.note or choose(random, NOTES)
        return note_pitch(note, choose(random, (3, 3, 4)))
    if kind.low is None or kind.high is None:
        return 0.0
    limits = {"low": kind.low, "high": kind.high, None: (kind.low[1], kind.high[0])}[description.register]
    if description.note is None:
        if not kind.notes:
            return draw_log_uniform(random, limits)
        return nearest_note_pitch(draw_log_uniform(random, limits))
    pitches = [note_pitch(description.note, octave) for octave in range(1, 8)]
    inside = [pitch for pitch in pitches if limits[0] * 0.97 <= pitch <= limits[1] * 1.03]
    if inside:
        return choose(random, inside)
    middle = math.sqrt(limits[0] * limits[1])  # a range of less than an octave may miss a note
    return min(pitches, key=lambda pitch: abs(math.log(pitch / middle)))


def _move_to_background(part: Part, front: Part) -> Part:
    """The part in the middle and softer than `front`; its caption says neither loudness nor side."""
    description = replace(part.description, loudness=None, side=None)
    events = tuple(replace(event, pan=0.0) for event in part.events)
    peak_rms_dbfs = front.peak_rms_dbfs - BACKGROUND_DB
    return replace(part, description=description, events=events, peak_rms_dbfs=peak_rms_dbfs)
