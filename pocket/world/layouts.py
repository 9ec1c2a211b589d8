"""When the events of a part happen, by the layout of its kind: lasting, counted, at a pace, a melody,
bounces.

A layout takes the kind's name, what is asked, the time it may fill, random numbers, the pitch that was chosen
(0 for none), the direction, and whether it is seen in a film, and gives the events.

What is counted begins soon and goes on at about one pace, unless a film shows when: where words do not say
when something happens, a small model would have to choose among all times, and mostly chooses none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from .kinds import KINDS, VOICES, Kind, Layout
from .scenes import Asked, Event

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
_SOON = (0.1, 0.3)  # seconds to the first of what is counted
_ABOUT = (0.92, 1.08)  # times the usual seconds from one to the next
_T = TypeVar("_T")


class Span(NamedTuple):
    """The time that a part may fill."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


def choose(random: np.random.Generator, options: Sequence[_T]) -> _T:
    """One of them, all as likely."""
    return options[int(random.integers(len(options)))]


def between(random: np.random.Generator, limits: tuple[float, float]) -> float:
    """Evenly distributed to the ear: by ratio."""
    return float(limits[0] * (limits[1] / limits[0]) ** random.random())


def nearest_note(pitch: float) -> float:
    """Hertz of the equally tempered note that is nearest."""
    return float(440.0 * 2.0 ** (round(12 * math.log2(pitch / 440.0)) / 12))


def _sustained(
    name: str, asked: Asked, span: Span, random: np.random.Generator, *, pitch: float, pan: float, seen: bool
) -> list[Event]:
    start = span.start + random.uniform(0.02, 0.06) * span.seconds
    end = span.end - random.uniform(0.02, 0.06) * span.seconds
    voice, end_pitch = asked.voice or "", pitch
    if name in ("tone", "chord"):
        voice = voice or choose(random, VOICES[:3])
    if name == "chord":
        voice += " " + (asked.quality or choose(random, ("major", "minor")))
    elif name == "sweep":
        low, high = between(random, (120.0, 300.0)), between(random, (900.0, 2400.0))
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
            between(random, (650.0, 950.0)),
        )  # its cycles a second, its middle
        voice = choose(random, ("two-tone", "wail"))
    return [Event(onset=start, duration=end - start, pitch=pitch, end_pitch=end_pitch, pan=pan, voice=voice)]


def _rate(kind: Kind, asked: Asked, random: np.random.Generator) -> float:
    """Events a minute."""
    if asked.tempo is not None:
        return float(asked.tempo)
    assert kind.slow is not None
    assert kind.fast is not None
    limits = {"slow": kind.slow, "fast": kind.fast, None: (kind.slow[1], kind.fast[0])}[asked.pace]
    return between(random, limits)


def _counted(
    name: str, asked: Asked, span: Span, random: np.random.Generator, *, pitch: float, pan: float, seen: bool
) -> list[Event]:
    kind = KINDS[name]
    count = asked.count or int(random.integers(1, 5))
    if name == "birds" and asked.count is None:
        count = int(random.integers(5, 9))  # a song
    length = random.uniform(*kind.length)
    first = span.start + random.uniform(*((0.1, 0.12 * span.seconds) if seen else _SOON))
    room = span.end - 0.1 - first - length
    widest = room / (count - 1) if count > 1 else math.inf
    usual = math.sqrt(kind.gap[0] * kind.gap[1])
    gap = min(random.uniform(*kind.gap) if seen else usual * random.uniform(*_ABOUT), widest)
    length = min(length, max(0.6 * gap, kind.length[0] * 0.5)) if name != "bell" else length
    if seen and widest > gap and count > 1:
        first += random.uniform(0, 0.5) * (room - gap * (count - 1))
    uneven = 0.06 if seen else 0.03
    events = []
    for number in range(count):
        shift = random.uniform(-uneven, uneven) * gap if 0 < number else 0.0
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
    name: str, asked: Asked, span: Span, random: np.random.Generator, *, pitch: float, pan: float, seen: bool
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
    name: str, asked: Asked, span: Span, random: np.random.Generator, *, pitch: float, pan: float, seen: bool
) -> list[Event]:
    beat = 60 / _rate(KINDS[name], asked, random)
    first = span.start + random.uniform(0.05, 0.3)
    most = 10 if asked.pace == "fast" else 7
    count = max(3, min(int(random.integers(5, most + 1)), int((span.end - 0.1 - first) / beat)))
    beat = min(beat, (span.end - 0.1 - first) / count)
    scale, voice = (
        choose(random, _SCALES),
        asked.voice or choose(random, ("pure", "organ", "buzzing", "plucked")),
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
        note = nearest_note(pitch * 2 ** (octave + scale[degree] / 12))
        length = beat * (1.0 if voice == "plucked" else 0.9)
        events.append(
            Event(
                onset=first + number * beat, duration=length, pitch=note, end_pitch=note, pan=pan, voice=voice
            )
        )
    return events


def _bouncing(
    name: str, asked: Asked, span: Span, random: np.random.Generator, *, pitch: float, pan: float, seen: bool
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


LAYOUTS: dict[Layout, Callable[..., list[Event]]] = {
    "sustained": _sustained,
    "counted": _counted,
    "paced": _paced,
    "melody": _melody,
    "bouncing": _bouncing,
}
