"""Draws scenes: which sounds, what is said of them, and when each event happens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..errors import InputError
from .kinds import KINDS, NOISES, NOTES, Kind, note_pitch
from .scenes import Asked, Event, Joint, Part, Scene, random_numbers

LEVELS = {"loud": -13.0, None: -23.0, "quiet": -33.0}  # dBFS, see `Part.level`
BEHIND = 12.0  # decibels by which the second of two sounds at once is softer
SHORTEST = 2.0  # seconds of a scene

_BACKGROUNDS = (*NOISES, "engine")
_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
_T = TypeVar("_T")


class _Span(NamedTuple):
    """The time that a part may fill."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


def draw_scene(
    seed: int,
    *,
    seconds: float = 10.0,
    kinds: Sequence[str],
    joint: Joint = "alone",
    film: bool = False,
) -> Scene:
    """A scene of `seconds` with one or two sounds of the given kinds; everything left open is drawn from the
    seed.

    kinds: what to draw from. joint "with": the second sound is a lasting one of the kinds, if there is any.
    film: the only kind must be one that can be seen. Raises InputError for less than 2 s.
    """
    if not (math.isfinite(seconds) and seconds >= SHORTEST):
        raise InputError(f"A scene of {seconds} s was asked for: give at least {SHORTEST:g} s.")
    random = random_numbers(seed, 1)
    chosen = [_choose(random, kinds)]
    if joint == "then":
        chosen.append(_choose(random, [kind for kind in kinds if kind != chosen[0]] or kinds))
    elif joint == "with":
        front = [kind for kind in kinds if KINDS[kind].layout != "sustained"] or list(kinds)
        chosen = [_choose(random, front)]
        back = [kind for kind in _BACKGROUNDS if kind in kinds] or list(kinds)
        chosen.append(_choose(random, back))
    parts = [
        _part(kind, span, random) for kind, span in zip(chosen, _spans(seconds, joint, random), strict=True)
    ]
    if joint == "with":
        parts[1] = _behind(parts[1], parts[0])
    return Scene(
        seconds=seconds, parts=tuple(parts), joint=joint, film=chosen[0] if film else None, seed=seed
    )


def _choose(random: np.random.Generator, options: Sequence[_T]) -> _T:
    return options[int(random.integers(len(options)))]


def _spans(seconds: float, joint: Joint, random: np.random.Generator) -> list[_Span]:
    """Where each part lies: all of the scene, or its two halves with a short silence between them."""
    if joint == "then":
        middle = seconds * random.uniform(0.46, 0.54)
        return [_Span(0.0, middle - 0.15), _Span(middle + 0.15, seconds)]
    return [_Span(0.0, seconds)] * (1 if joint == "alone" else 2)


def _part(name: str, span: _Span, random: np.random.Generator) -> Part:
    kind = KINDS[name]
    asked = _asked(name, kind, span, random)
    side = {"left": -1.0, "right": 1.0, None: 0.0}[asked.side] * random.uniform(0.6, 1.0)
    pitch = _pitch(name, kind, asked, random)
    layout = {
        "sustained": _sustained,
        "counted": _counted,
        "paced": _paced,
        "melody": _melody,
        "bouncing": _bouncing,
    }[kind.layout]
    events = layout(name, asked, span, random, pitch=pitch, pan=side)
    level = LEVELS[asked.loudness] + random.uniform(-1.5, 1.5)
    return Part(kind=name, asked=asked, events=tuple(events), level=level, seed=int(random.integers(2**31)))


def _asked(name: str, kind: Kind, span: _Span, random: np.random.Generator) -> Asked:
    """What is said. At most three things are, since nobody asks for more at once."""
    said: dict[str, Any] = {}
    if kind.notes:
        said["note"] = _choose(random, NOTES)
    if kind.low:
        said["register"] = _choose(random, ("high", "low"))
    if kind.motion:
        said["motion"] = _choose(random, ("rising", "falling"))
    if kind.slow:
        said["pace"] = _choose(random, ("fast", "slow"))
    if kind.tempo and kind.slow and kind.fast:
        said["tempo"] = int(random.integers(round(kind.slow[0]), round(kind.fast[1]) + 1))
    if kind.voices:
        said["voice"] = _choose(random, kind.voices)
    if kind.countable:
        said["count"] = int(random.integers(1, 5))
    said["loudness"] = _choose(random, ("loud", "quiet"))
    said["side"] = _choose(random, ("left", "right"))
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
    while len(kept) > 3:
        kept.pop(int(random.integers(len(kept))))
    if name == "sweep" and "motion" not in kept:
        kept.append("motion")  # it always goes somewhere, and there is no third way
    if "tempo" in kept and "pace" in kept:
        kept.remove("pace")  # the number says it
    asked = {what: said[what] for what in kept}
    if "note" in asked and name == "chord":
        asked["quality"] = _choose(random, ("major", "minor"))
    if "motion" in asked and name == "melody" and span.seconds < 3 and asked.get("pace") == "slow":
        del asked["pace"]  # too few notes to go anywhere
    return Asked(**asked)


def _between(random: np.random.Generator, limits: tuple[float, float]) -> float:
    """Evenly distributed to the ear: by ratio."""
    return float(limits[0] * (limits[1] / limits[0]) ** random.random())


def _pitch(name: str, kind: Kind, asked: Asked, random: np.random.Generator) -> float:
    """The fundamental that fits what is asked, 0 for sounds that have none to choose."""
    if name == "chord":
        note = asked.note or _choose(random, NOTES)
        return note_pitch(note, _choose(random, (3, 3, 4)))
    if kind.low is None or kind.high is None:
        return 0.0
    limits = {"low": kind.low, "high": kind.high, None: (kind.low[1], kind.high[0])}[asked.register]
    if asked.note is None:
        if not kind.notes:
            return _between(random, limits)
        return _nearest_note(_between(random, limits))
    octaves = [
        octave
        for octave in range(1, 8)
        if limits[0] * 0.97 <= note_pitch(asked.note, octave) <= limits[1] * 1.03
    ]
    if octaves:
        return note_pitch(asked.note, _choose(random, octaves))
    middle = math.sqrt(limits[0] * limits[1])  # a range of less than an octave may miss a note
    return min(
        (note_pitch(asked.note, octave) for octave in range(1, 8)), key=lambda p: abs(math.log(p / middle))
    )


def _nearest_note(pitch: float) -> float:
    return float(440.0 * 2.0 ** (round(12 * math.log2(pitch / 440.0)) / 12))


def _sustained(
    name: str, asked: Asked, span: _Span, random: np.random.Generator, *, pitch: float, pan: float
) -> list[Event]:
    start = span.start + random.uniform(0.02, 0.06) * span.seconds
    end = span.end - random.uniform(0.02, 0.06) * span.seconds
    voice, end_pitch = asked.voice or "", pitch
    if name in ("tone", "chord"):
        voice = voice or _choose(random, VOICES_THAT_LAST)
    if name == "chord":
        voice += " " + (asked.quality or _choose(random, ("major", "minor")))
    elif name == "sweep":
        low, high = _between(random, (120.0, 300.0)), _between(random, (900.0, 2400.0))
        pitch, end_pitch = (low, high) if asked.motion == "rising" else (high, low)
    elif name == "engine":
        if asked.motion:
            ratio = random.uniform(1.8, 2.6)
            ends = (pitch / math.sqrt(ratio), pitch * math.sqrt(ratio))
            pitch, end_pitch = ends if asked.motion == "rising" else ends[::-1]
    elif name == "siren":
        per_minute = _rate(KINDS[name], asked, random)
        pitch, end_pitch = (
            per_minute / 60,
            _between(random, (650.0, 950.0)),
        )  # its cycles a second, its middle
        voice = _choose(random, ("two-tone", "wail"))
    return [Event(onset=start, duration=end - start, pitch=pitch, end_pitch=end_pitch, pan=pan, voice=voice)]


VOICES_THAT_LAST = ("pure", "organ", "buzzing")


def _rate(kind: Kind, asked: Asked, random: np.random.Generator) -> float:
    """Events a minute."""
    if asked.tempo is not None:
        return float(asked.tempo)
    assert kind.slow is not None
    assert kind.fast is not None
    limits = {"slow": kind.slow, "fast": kind.fast, None: (kind.slow[1], kind.fast[0])}[asked.pace]
    return _between(random, limits)


def _counted(
    name: str, asked: Asked, span: _Span, random: np.random.Generator, *, pitch: float, pan: float
) -> list[Event]:
    kind = KINDS[name]
    count = asked.count or int(random.integers(1, 5))
    if name == "birds" and asked.count is None:
        count = int(random.integers(5, 9))  # a song
    length = random.uniform(*kind.length)
    first = span.start + random.uniform(0.1, 0.12 * span.seconds)
    room = span.end - 0.1 - first - length
    widest = room / (count - 1) if count > 1 else math.inf
    gap = min(random.uniform(*kind.gap), widest)
    length = min(length, max(0.6 * gap, kind.length[0] * 0.5)) if name != "bell" else length
    if widest > gap and count > 1:
        first += random.uniform(0, 0.5) * (room - gap * (count - 1))
    events = []
    for number in range(count):
        shift = random.uniform(-0.06, 0.06) * gap if 0 < number else 0.0
        onset = first + number * gap + shift
        events.append(
            Event(
                onset=onset,
                duration=min(length, span.end - 0.05 - onset),
                pitch=pitch,
                end_pitch=pitch,
                gain=random.uniform(-2, 0),
                pan=pan,
            )
        )
    return events


def _paced(
    name: str, asked: Asked, span: _Span, random: np.random.Generator, *, pitch: float, pan: float
) -> list[Event]:
    kind = KINDS[name]
    beat = 60 / _rate(kind, asked, random)
    first = span.start + random.uniform(0.05, 0.3)
    beats = math.floor((span.end - 0.15 - first) / beat) + 1
    offbeats = name == "drums" and random.random() < 0.6
    events = []
    if name == "wheel":
        rolling = Event(onset=first, duration=span.end - 0.1 - first, gain=-9.0, pan=pan, voice="rumble")
        events.append(rolling)
    for number in range(beats):
        onset = first + number * beat + (random.uniform(-0.02, 0.02) * beat if name == "footsteps" else 0.0)
        voice = {
            "drums": ("kick", "snare")[number % 2],
            "footsteps": ("left foot", "right foot")[number % 2],
        }.get(name, "")
        length = random.uniform(*kind.length)
        events.append(Event(onset=onset, duration=length, gain=random.uniform(-1.5, 0), pan=pan, voice=voice))
        if name == "drums":
            for half in (0.0, 0.5) if offbeats else (0.0,):
                if onset + half * beat < span.end - 0.15:
                    hat = Event(
                        onset=onset + half * beat, duration=0.08, gain=-9.0 - 4 * half, pan=pan, voice="hat"
                    )
                    events.append(hat)
    return events


def _melody(
    name: str, asked: Asked, span: _Span, random: np.random.Generator, *, pitch: float, pan: float
) -> list[Event]:
    beat = 60 / _rate(KINDS[name], asked, random)
    first = span.start + random.uniform(0.05, 0.3)
    most = 10 if asked.pace == "fast" else 7
    count = max(3, min(int(random.integers(5, most + 1)), int((span.end - 0.1 - first) / beat)))
    beat = min(beat, (span.end - 0.1 - first) / count)
    scale, voice = (
        _choose(random, _SCALES),
        asked.voice or _choose(random, ("pure", "organ", "buzzing", "plucked")),
    )
    steps = {"rising": lambda: 1, "falling": lambda: -1, None: lambda: int(random.integers(-2, 3)) or 1}
    place, places = 0, []
    for _ in range(count):
        places.append(place)
        place += steps[asked.motion]()
    middle = round(sum(places) / len(places))
    events = []
    for number, place in enumerate(places):
        octave, degree = divmod(place - middle, len(scale))
        note = _nearest_note(pitch * 2 ** (octave + scale[degree] / 12))
        length = beat * (1.0 if voice == "plucked" else 0.9)
        events.append(
            Event(
                onset=first + number * beat, duration=length, pitch=note, end_pitch=note, pan=pan, voice=voice
            )
        )
    return events


def _bouncing(
    name: str, asked: Asked, span: _Span, random: np.random.Generator, *, pitch: float, pan: float
) -> list[Event]:
    """A ball that is dropped: each time in the air is shorter than the one before, each impact softer."""
    count = asked.count or int(random.integers(3, 7))
    keeps = random.uniform(0.75, 0.88)  # of its speed, at each impact
    while keeps ** (count - 1) < 0.36:
        keeps = 1 - 0.7 * (1 - keeps)  # else the last impacts run into each other
    total = 0.5 + sum(keeps**number for number in range(1, count))
    fall = min(
        random.uniform(0.9, 1.3), (span.seconds - 0.6) / total
    )  # seconds of a whole arc of the first height
    time = span.start + 0.2 + fall / 2 + random.uniform(0, 0.2)
    travel = (-0.7, 0.7) if random.random() < 0.5 else (0.7, -0.7)
    events = []
    for number in range(count):
        share = number / max(1, count - 1)
        place = pan if asked.side else 0.6 * (travel[0] + (travel[1] - travel[0]) * share)
        gain = 20 * math.log10(keeps**number)
        events.append(Event(onset=time, duration=random.uniform(0.15, 0.25), gain=gain, pan=place))
        time += fall * keeps ** (number + 1)
    return events


def _behind(part: Part, front: Part) -> Part:
    """The second of two sounds at once, softer than the first; nothing is said of how loud or where it is."""
    asked = replace(part.asked, loudness=None, side=None)
    events = tuple(replace(event, pan=0.0) for event in part.events)
    return replace(part, asked=asked, events=events, level=front.level - BEHIND)
