"""Draws scenes: which sounds, and what is said of them. When each event happens is in `layouts`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.random_numbers import keyed_generator

from .kinds import KINDS, NOISES, NOTES, Kind, check_kinds, note_pitch
from .layouts import LAYOUTS, Span, between, choose, nearest_note
from .scenes import Asked, Joint, Part, Scene

LEVELS = {"loud": -13.0, None: -23.0, "quiet": -33.0}  # dBFS, see `Part.level`
BEHIND = 12.0  # decibels by which the second of two sounds at once is softer
SHORTEST = 2.0  # seconds of a scene
MOST_SAID = 3  # of a sound: nobody asks for more at once

_BACKGROUNDS = (*NOISES, "engine")


def draw_scene(
    seed: int,
    *,
    seconds: float = 10.0,
    kinds: Sequence[str],
    joint: Joint = "alone",
    film: bool = False,
) -> Scene:
    """A scene of `seconds` with one or two sounds of the given kinds; the rest is drawn from the seed.

    kinds: what to draw from. joint "with": the second sound is a lasting one of the kinds, if there is any.
    film: the only kind must be one that can be seen. Raises InputError for less than 2 s, and for
    unknown kinds.
    """
    if not (math.isfinite(seconds) and seconds >= SHORTEST):
        raise InputError(f"A scene of {seconds} s was asked for: give at least {SHORTEST:g} s.")
    kinds = check_kinds(kinds)
    random = keyed_generator(seed, 1)
    chosen = [choose(random, kinds)]
    if joint == "then":
        chosen.append(choose(random, [kind for kind in kinds if kind != chosen[0]] or kinds))
    elif joint == "with":
        front = [kind for kind in kinds if KINDS[kind].layout != "sustained"] or list(kinds)
        chosen = [choose(random, front)]
        back = [kind for kind in _BACKGROUNDS if kind in kinds] or list(kinds)
        chosen.append(choose(random, back))
    parts = [
        _part(kind, span, random, seen=film)
        for kind, span in zip(chosen, _spans(seconds, joint, random), strict=True)
    ]
    if joint == "with":
        parts[1] = _behind(parts[1], parts[0])
    return Scene(
        seconds=seconds, parts=tuple(parts), joint=joint, film=chosen[0] if film else None, seed=seed
    )


def _spans(seconds: float, joint: Joint, random: np.random.Generator) -> list[Span]:
    """Where each part lies: all of the scene, or its two halves with a short silence between them."""
    if joint == "then":
        middle = seconds * random.uniform(0.46, 0.54)
        return [Span(0.0, middle - 0.15), Span(middle + 0.15, seconds)]
    return [Span(0.0, seconds)] * (1 if joint == "alone" else 2)


def _part(name: str, span: Span, random: np.random.Generator, *, seen: bool) -> Part:
    kind = KINDS[name]
    asked = _asked(name, kind, span, random)
    side = {"left": -1.0, "right": 1.0, None: 0.0}[asked.side] * random.uniform(0.6, 1.0)
    pitch = _pitch(name, kind, asked, random)
    events = LAYOUTS[kind.layout](name, asked, span, random, pitch=pitch, pan=side, seen=seen)
    level = LEVELS[asked.loudness] + random.uniform(-1.5, 1.5)
    return Part(kind=name, asked=asked, events=tuple(events), level=level, seed=int(random.integers(2**31)))


def _asked(name: str, kind: Kind, span: Span, random: np.random.Generator) -> Asked:
    """What is said, at most `MOST_SAID` things."""
    said: dict[str, Any] = {}
    if kind.notes:
        said["note"] = choose(random, NOTES)
    if kind.low:
        said["register"] = choose(random, ("high", "low"))
    if kind.motion:
        said["motion"] = choose(random, ("rising", "falling"))
    if kind.slow:
        said["pace"] = choose(random, ("fast", "slow"))
    if kind.tempo and kind.slow and kind.fast:
        said["tempo"] = int(random.integers(round(kind.slow[0]), round(kind.fast[1]) + 1))
    if kind.voices:
        said["voice"] = choose(random, kind.voices)
    if kind.countable:
        said["count"] = int(random.integers(1, 5))
    said["loudness"] = choose(random, ("loud", "quiet"))
    said["side"] = choose(random, ("left", "right"))
    likely = {
        "tempo": 0.5,
        "note": 0.5,
        "voice": 0.4,
        "count": 0.7,
        "motion": 0.6,
        "pace": 0.6,
        "register": 0.6,
    }
    kept = [what for what in said if random.random() < likely.get(what, 0.35)]
    while len(kept) > MOST_SAID:
        kept.pop(int(random.integers(len(kept))))
    if name == "sweep" and "motion" not in kept:
        kept.append("motion")  # it always goes somewhere, and there is no third way
    if "tempo" in kept and "pace" in kept:
        kept.remove("pace")  # the number says it
    asked = {what: said[what] for what in kept}
    if "note" in asked and name == "chord":
        asked["quality"] = choose(random, ("major", "minor"))
    if "motion" in asked and name == "melody" and span.seconds < 3 and asked.get("pace") == "slow":
        del asked["pace"]  # too few notes to go anywhere
    return Asked(**asked)


def _pitch(name: str, kind: Kind, asked: Asked, random: np.random.Generator) -> float:
    """The fundamental that fits what is asked, 0 for sounds that have none to choose."""
    if name == "chord":
        note = asked.note or choose(random, NOTES)
        return note_pitch(note, choose(random, (3, 3, 4)))
    if kind.low is None or kind.high is None:
        return 0.0
    limits = {"low": kind.low, "high": kind.high, None: (kind.low[1], kind.high[0])}[asked.register]
    if asked.note is None:
        if not kind.notes:
            return between(random, limits)
        return nearest_note(between(random, limits))
    octaves = [
        octave
        for octave in range(1, 8)
        if limits[0] * 0.97 <= note_pitch(asked.note, octave) <= limits[1] * 1.03
    ]
    if octaves:
        return note_pitch(asked.note, choose(random, octaves))
    middle = math.sqrt(limits[0] * limits[1])  # a range of less than an octave may miss a note
    return min(
        (note_pitch(asked.note, octave) for octave in range(1, 8)), key=lambda p: abs(math.log(p / middle))
    )


def _behind(part: Part, front: Part) -> Part:
    """The second of two sounds at once, softer than the first; nothing is said of how loud or where it is."""
    asked = replace(part.asked, loudness=None, side=None)
    events = tuple(replace(event, pan=0.0) for event in part.events)
    return replace(part, asked=asked, events=events, level=front.level - BEHIND)
