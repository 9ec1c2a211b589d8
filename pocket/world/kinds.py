"""The kinds of sound and the attributes that a caption can state about each.

Pitches are hertz. Layouts: "sustained" sounds last, "counted" sounds happen a number of times, "paced" sounds
repeat at a steady pace; "melody" and "bouncing" have rules of their own.
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
TIMBRES = ("pure", "organ", "buzzing", "plucked")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The properties of a kind of sound.

    Attributes:
        layout: Arrangement of its events in time.
        low: Fundamentals that are called low, or None.
        high: Fundamentals that are called high. Pitches between the two are called neither.
        notes: Whether a caption can name its note.
        motion: Whether its pitch can rise or fall.
        slow: Events per minute that are called slow, or None.
        fast: Events per minute that are called fast.
        tempo: Whether a caption can state its tempo.
        timbres: Timbres that a caption can name.
        length: Seconds of an event.
        gap: Seconds from one counted event to the next.
        noisy: Whether it is noise, which only its spectrum tells from other noise.
        countable: Whether a caption can state the number of events.
    """

    layout: Layout
    low: Range | None = None
    high: Range | None = None
    notes: bool = False
    motion: bool = False
    slow: Range | None = None
    fast: Range | None = None
    tempo: bool = False
    timbres: tuple[str, ...] = ()
    length: Range = (0.2, 0.4)
    gap: Range = (0.55, 1.6)
    noisy: bool = False
    countable: bool = False

    @property
    def register_border(self) -> float:
        """The pitch in hertz that separates low from high.

        Raises:
            InputError: The kind has no registers.
        """
        if self.low is None or self.high is None:
            raise InputError("This kind of sound has no low and high register.")
        return float((self.low[1] * self.high[0]) ** 0.5)


_TONE_LOW, _TONE_HIGH = (110.0, 220.0), (880.0, 1661.0)

KINDS: dict[str, Kind] = {
    "tone": Kind(layout="sustained", low=_TONE_LOW, high=_TONE_HIGH, notes=True, timbres=TIMBRES[:3]),
    "sweep": Kind(layout="sustained", motion=True),
    "chord": Kind(layout="sustained", notes=True, timbres=TIMBRES[:3]),
    "melody": Kind(
        layout="melody",
        low=(110.0, 165.0),
        high=(587.0, 880.0),
        motion=True,
        slow=(70.0, 100.0),
        fast=(240.0, 330.0),
        timbres=TIMBRES,
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
# Never in the training split, so that one sound is unknown to a trained model.
HELD_OUT_KINDS = ("frog",)
KNOWN_KINDS = tuple(kind for kind in KINDS if kind not in HELD_OUT_KINDS)
NOISES = tuple(name for name, kind in KINDS.items() if kind.noisy)


def check_kinds(kinds: Iterable[str]) -> tuple[str, ...]:
    """Check the names of kinds, and return them as a tuple.

    Args:
        kinds: Keys of `KINDS`.

    Raises:
        InputError: A kind is unknown, or there is none.
    """
    chosen = tuple(kinds)
    for kind in chosen:
        if kind not in KINDS:
            raise InputError(f"There is no kind of sound {kind!r}: choose from {', '.join(KINDS)}.")
    if not chosen:
        raise InputError("No kind of sound: name at least one.")
    return chosen


def note_pitch(note: str, octave: int) -> float:
    """The equally tempered pitch of a note in hertz, with A4 = 440.

    Args:
        note: One of `NOTES`.
        octave: Scientific octave number.
    """
    return float(440.0 * 2.0 ** (octave - 4 + (NOTES.index(note) - NOTES.index("A")) / 12))


def pitch_class(pitch: float) -> str:
    """The pitch class of the nearest note, one of `NOTES`.

    Args:
        pitch: Hertz.
    """
    return NOTES[(round(12 * math.log2(pitch / 440.0)) + NOTES.index("A")) % 12]
