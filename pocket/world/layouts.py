"""Layouts: when the events of a part happen, depending on the layout of its kind.

Counted sounds begin soon and follow each other at a usual pace unless a film shows when they happen. A
caption does not say when, and a small model that had to choose among all times would mostly stay silent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from .kinds import KINDS, TIMBRES, Kind, Layout
from .scenes import Description, Event

_SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))
_FIRST_ONSET = (0.1, 0.3)  # seconds, of counted sounds without a film
_GAP_VARIATION = (0.92, 1.08)  # factor of the usual gap
_T = TypeVar("_T")


class TimeSlot(NamedTuple):
    """The time that a part may fill, in seconds of the scene."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end - self.start


@dataclass(frozen=True)
class LayoutRequest:
    """The input of a layout, which places the events of a part.

    Attributes:
        name: Kind of sound, a key of `KINDS`.
        description: Statements of the caption.
        slot: The time to fill.
        random: Random numbers of the scene.
        pitch: Fundamental in hertz, 0 for none.
        pan: Stereo position, -1 to 1.
        on_screen: Whether a film shows the events.
    """

    name: str
    description: Description
    slot: TimeSlot
    random: np.random.Generator
    pitch: float
    pan: float
    on_screen: bool


def choose(random: np.random.Generator, options: Sequence[_T]) -> _T:
    """Draw one of the options with equal probability.

    Args:
        random: Random numbers.
        options: At least one.
    """
    return options[int(random.integers(len(options)))]


def draw_log_uniform(random: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw a value whose logarithm is uniform.

    Args:
        random: Random numbers.
        limits: Smallest and largest value, both above 0.
    """
    return float(limits[0] * (limits[1] / limits[0]) ** random.random())


def nearest_note_pitch(pitch: float) -> float:
    """The nearest equally tempered pitch in hertz.

    Args:
        pitch: Hertz.
    """
    return float(440.0 * 2.0 ** (round(12 * math.log2(pitch / 440.0)) / 12))


def _place_sustained(request: LayoutRequest) -> list[Event]:
    """One event that fills the slot."""
    name, description, slot, random = request.name, request.description, request.slot, request.random
    start = slot.start + random.uniform(0.02, 0.06) * slot.seconds
    end = slot.end - random.uniform(0.02, 0.06) * slot.seconds
    variant, pitch, end_pitch = description.timbre or "", request.pitch, request.pitch
    if name in ("tone", "chord"):
        variant = variant or choose(random, TIMBRES[:3])
    if name == "chord":
        variant += " " + (description.quality or choose(random, ("major", "minor")))
    elif name == "sweep":
        low, high = draw_log_uniform(random, (120.0, 300.0)), draw_log_uniform(random, (900.0, 2400.0))
        pitch, end_pitch = (low, high) if description.motion == "rising" else (high, low)
    elif name == "engine":
        if description.motion:
            ratio = random.uniform(1.8, 2.6)
            ends = (pitch / math.sqrt(ratio), pitch * math.sqrt(ratio))
            pitch, end_pitch = ends if description.motion == "rising" else ends[::-1]
    elif name == "siren":
        pitch = _draw_events_per_minute(KINDS[name], description, random) / 60  # cycles per second
        end_pitch = draw_log_uniform(random, (650.0, 950.0))  # the mean of the siren's pitch
        variant = choose(random, ("two-tone", "wail"))
    return [
        Event(
            onset=start,
            duration=end - start,
            pitch=pitch,
            end_pitch=end_pitch,
            pan=request.pan,
            variant=variant,
        )
    ]


def _draw_events_per_minute(kind: Kind, description: Description, random: np.random.Generator) -> float:
    """The tempo if the caption says it, else a value that fits the pace."""
    if description.tempo is not None:
        return float(description.tempo)
    assert kind.slow is not None
    assert kind.fast is not None
    limits = {"slow": kind.slow, "fast": kind.fast, None: (kind.slow[1], kind.fast[0])}[description.pace]
    return draw_log_uniform(random, limits)


def _place_counted(request: LayoutRequest) -> list[Event]:
    """A number of similar events."""
    name, slot, random, on_screen = request.name, request.slot, request.random, request.on_screen
    kind = KINDS[name]
    count = request.description.count or int(random.integers(1, 5))
    if name == "birds" and request.description.count is None:
        count = int(random.integers(5, 9))  # a song
    length = random.uniform(*kind.length)
    first = slot.start + random.uniform(*((0.1, 0.12 * slot.seconds) if on_screen else _FIRST_ONSET))
    available = slot.end - 0.1 - first - length
    widest_gap = available / (count - 1) if count > 1 else math.inf
    usual_gap = math.sqrt(kind.gap[0] * kind.gap[1])
    gap = random.uniform(*kind.gap) if on_screen else usual_gap * random.uniform(*_GAP_VARIATION)
    gap = min(gap, widest_gap)
    length = min(length, max(0.6 * gap, kind.length[0] * 0.5)) if name != "bell" else length
    if on_screen and widest_gap > gap and count > 1:
        first += random.uniform(0, 0.5) * (available - gap * (count - 1))
    jitter = 0.06 if on_screen else 0.03
    events = []
    for number in range(count):
        shift = random.uniform(-jitter, jitter) * gap if 0 < number else 0.0
        onset = first + number * gap + shift
        events.append(
            Event(
                onset=onset,
                duration=min(length, slot.end - 0.05 - onset),
                pitch=request.pitch,
                end_pitch=request.pitch,
                gain=random.uniform(-2, 0),
                pan=request.pan,
            )
        )
    return events


def _place_paced(request: LayoutRequest) -> list[Event]:
    """Events at a steady pace for the whole slot; drums with a hi-hat, a wheel over its rumble."""
    name, slot, random, pan = request.name, request.slot, request.random, request.pan
    kind = KINDS[name]
    beat = 60 / _draw_events_per_minute(kind, request.description, random)
    first = slot.start + random.uniform(0.05, 0.3)
    beats = math.floor((slot.end - 0.15 - first) / beat) + 1
    has_offbeats = name == "drums" and random.random() < 0.6
    events = []
    if name == "wheel":
        rolling = Event(onset=first, duration=slot.end - 0.1 - first, gain=-9.0, pan=pan, variant="rumble")
        events.append(rolling)
    for number in range(beats):
        onset = first + number * beat + (random.uniform(-0.02, 0.02) * beat if name == "footsteps" else 0.0)
        variant = {
            "drums": ("kick", "snare")[number % 2],
            "footsteps": ("left foot", "right foot")[number % 2],
        }.get(name, "")
        length = random.uniform(*kind.length)
        gain = random.uniform(-1.5, 0)
        events.append(Event(onset=onset, duration=length, gain=gain, pan=pan, variant=variant))
        if name == "drums":
            for half in (0.0, 0.5) if has_offbeats else (0.0,):
                hat_onset = onset + half * beat
                if hat_onset < slot.end - 0.15:
                    events.append(
                        Event(onset=hat_onset, duration=0.08, gain=-9.0 - 4 * half, pan=pan, variant="hat")
                    )
    return events


def _place_melody(request: LayoutRequest) -> list[Event]:
    """Notes of a scale around the pitch, rising, falling or wandering."""
    description, slot, random = request.description, request.slot, request.random
    beat = 60 / _draw_events_per_minute(KINDS[request.name], description, random)
    first = slot.start + random.uniform(0.05, 0.3)
    longest = 10 if description.pace == "fast" else 7
    count = max(3, min(int(random.integers(5, longest + 1)), int((slot.end - 0.1 - first) / beat)))
    beat = min(beat, (slot.end - 0.1 - first) / count)
    scale = choose(random, _SCALES)
    variant = description.timbre or choose(random, TIMBRES)
    degrees = [0]
    for _ in range(count):
        step = {"rising": 1, "falling": -1, None: 0}[description.motion]
        degrees.append(degrees[-1] + (step or int(random.integers(-2, 3)) or 1))
    degrees.pop()  # drawn, but not played
    middle = round(sum(degrees) / len(degrees))
    events = []
    for number, place in enumerate(degrees):
        octave, degree = divmod(place - middle, len(scale))
        note = nearest_note_pitch(request.pitch * 2 ** (octave + scale[degree] / 12))
        length = beat * (1.0 if variant == "plucked" else 0.9)
        events.append(
            Event(
                onset=first + number * beat,
                duration=length,
                pitch=note,
                end_pitch=note,
                pan=request.pan,
                variant=variant,
            )
        )
    return events


def _place_bouncing(request: LayoutRequest) -> list[Event]:
    """Impacts of a dropped ball: each flight is shorter than the one before, each impact softer."""
    slot, random = request.slot, request.random
    count = request.description.count or int(random.integers(3, 7))
    restitution = random.uniform(0.75, 0.88)  # fraction of its speed that the ball keeps at an impact
    while restitution ** (count - 1) < 0.36:
        restitution = 1 - 0.7 * (1 - restitution)  # otherwise the last impacts overlap
    total = 0.5 + sum(restitution**number for number in range(1, count))
    # Seconds of a whole arc from the initial height.
    arc = min(random.uniform(0.9, 1.3), (slot.seconds - 0.6) / total)
    time = slot.start + 0.2 + arc / 2 + random.uniform(0, 0.2)
    travel = (-0.7, 0.7) if random.random() < 0.5 else (0.7, -0.7)
    events = []
    for number in range(count):
        fraction = number / max(1, count - 1)
        pan = (
            request.pan
            if request.description.side
            else 0.6 * (travel[0] + (travel[1] - travel[0]) * fraction)
        )
        gain = 20 * math.log10(restitution**number)
        events.append(Event(onset=time, duration=random.uniform(0.15, 0.25), gain=gain, pan=pan))
        time += arc * restitution ** (number + 1)
    return events


LAYOUTS: dict[Layout, Callable[[LayoutRequest], list[Event]]] = {
    "sustained": _place_sustained,
    "counted": _place_counted,
    "paced": _place_paced,
    "melody": _place_melody,
    "bouncing": _place_bouncing,
}
