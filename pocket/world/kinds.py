"""The kinds of sound there are, and which words can be said of each.

Pitches are hertz. A kind lasts ("sustained"), happens a number of times ("counted"), keeps a pace ("paced"),
or is laid out by a rule of its own ("melody", "bouncing").
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from audiox_ext.errors import InputError

Layout = Literal["sustained", "counted", "paced", "melody", "bouncing"]
Range = tuple[float, float]

NOTES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
VOICES = ("pure", "organ", "buzzing", "plucked")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a kind of sound can be.

    low, high: fundamentals of what is called so; between them lies what is called neither. notes: it can be
    asked for by note. slow, fast: events a minute of what is called so. length: of an event, in seconds.
    noisy: it is noise, told from other noise by its spectrum.
    """

    layout: Layout
    low: Range | None = None
    high: Range | None = None
    notes: bool = False
    motion: bool = False
    slow: Range | None = None
    fast: Range | None = None
    tempo: bool = False
    voices: tuple[str, ...] = ()
    length: Range = (0.2, 0.4)
    gap: Range = (0.55, 1.6)  # seconds from one event to the next where they are counted
    noisy: bool = False
    countable: bool = False  # a number of times can be said

    @property
    def register_border(self) -> float:
        """The pitch between low and high."""
        if self.low is None or self.high is None:
            raise InputError("This kind of sound is neither high nor low.")
        return float((self.low[1] * self.high[0]) ** 0.5)


_TONE_LOW, _TONE_HIGH = (110.0, 220.0), (880.0, 1661.0)

KINDS: dict[str, Kind] = {
    "tone": Kind(layout="sustained", low=_TONE_LOW, high=_TONE_HIGH, notes=True, voices=VOICES[:3]),
    "sweep": Kind(layout="sustained", motion=True),
    "chord": Kind(layout="sustained", notes=True, voices=VOICES[:3]),
    "melody": Kind(
        layout="melody",
        low=(110.0, 165.0),
        high=(587.0, 880.0),
        motion=True,
        slow=(70.0, 100.0),
        fast=(240.0, 330.0),
        voices=VOICES,
    ),
    "beep": Kind(
        layout="counted", low=_TONE_LOW, high=_TONE_HIGH, notes=True, length=(0.2, 0.45), countable=True
    ),
    "bell": Kind(
        layout="counted",
        low=(175.0, 294.0),
        high=(988.0, 1661.0),
        notes=True,
        length=(1.2, 2.5),
        gap=(0.8, 1.9),
        countable=True,
    ),
    "click": Kind(layout="counted", length=(0.05, 0.08), countable=True),
    "knock": Kind(layout="counted", length=(0.15, 0.25), countable=True),
    "drums": Kind(layout="paced", slow=(60.0, 80.0), fast=(140.0, 180.0), tempo=True),
    "clock": Kind(layout="paced", slow=(50.0, 70.0), fast=(170.0, 220.0), tempo=True, length=(0.05, 0.08)),
    "footsteps": Kind(layout="paced", slow=(55.0, 75.0), fast=(150.0, 200.0), length=(0.15, 0.22)),
    "birds": Kind(layout="counted", length=(0.12, 0.3), gap=(0.6, 1.5), countable=True),
    "white noise": Kind(layout="sustained", noisy=True),
    "pink noise": Kind(layout="sustained", noisy=True),
    "wind": Kind(layout="sustained", noisy=True),
    "rain": Kind(layout="sustained", noisy=True),
    "surf": Kind(layout="sustained", noisy=True),
    "engine": Kind(layout="sustained", low=(32.0, 45.0), high=(110.0, 160.0), motion=True),
    "siren": Kind(layout="sustained", slow=(14.0, 22.0), fast=(75.0, 120.0)),
    "ball": Kind(layout="bouncing", length=(0.15, 0.25), countable=True),
    "lamp": Kind(layout="counted", length=(0.25, 0.5), gap=(0.75, 1.7), countable=True),
    "hammer": Kind(layout="counted", length=(0.3, 0.5), gap=(0.6, 1.5), countable=True),
    "wheel": Kind(layout="paced", slow=(45.0, 65.0), fast=(120.0, 160.0), length=(0.15, 0.25)),
    "frog": Kind(layout="counted", length=(0.25, 0.45), gap=(0.7, 1.5), countable=True),
}
# Never in the training split, so that there is a sound that a trained model does not know.
HELD_OUT_KINDS = ("frog",)
KNOWN_KINDS = tuple(kind for kind in KINDS if kind not in HELD_OUT_KINDS)
NOISES = tuple(name for name, kind in KINDS.items() if kind.noisy)


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """The kinds as they are. Raises InputError for one that there is not, and for none."""
    chosen = tuple(kinds)
    for kind in chosen:
        if kind not in KINDS:
            raise InputError(f"There is no kind of sound {kind!r}: choose from {', '.join(KINDS)}.")
    if not chosen:
        raise InputError("No kind of sound was chosen: name at least one.")
    return chosen


def note_pitch(note: str, octave: int) -> float:
    """Hertz of a note, equally tempered, A4 = 440."""
    return float(440.0 * 2.0 ** (octave - 4 + (NOTES.index(note) - NOTES.index("A")) / 12))


def pitch_class(pitch: float) -> str:
    """The nearest note, without its octave."""
    return NOTES[(round(12 * math.log2(pitch / 440.0)) + NOTES.index("A")) % 12]
