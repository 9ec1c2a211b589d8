"""What happens when: a scene is a list of parts, a part a list of events. Everything else follows from it.

Sound, video and caption are made from the same scene, so it is the ground truth of all three. Times are
seconds from the start of the scene, pitches hertz, pans -1 (left) to 1 (right).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from audiox_ext.errors import InputError

Joint = Literal["alone", "then", "with"]
JOINTS: tuple[Joint, ...] = ("alone", "then", "with")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is said of a part in words; None is what is left open, and not held against a sound."""

    register: Literal["high", "low"] | None = None
    note: str | None = None  # a pitch class, such as C#; of a chord its root
    quality: Literal["major", "minor"] | None = None
    loudness: Literal["loud", "quiet"] | None = None
    pace: Literal["fast", "slow"] | None = None
    tempo: int | None = None  # beats a minute
    motion: Literal["rising", "falling"] | None = None
    side: Literal["left", "right"] | None = None
    count: int | None = None  # 1 to 4
    voice: str | None = None  # the colour of a tone


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that is heard, from its onset on.

    pitch: of its fundamental, 0 for none; it glides to end_pitch. gain: decibels against the part's loudest.
    voice: which of the kind's sounds, such as a kick or a snare.
    """

    onset: float
    duration: float
    pitch: float = 0.0
    end_pitch: float = 0.0
    gain: float = 0.0
    pan: float = 0.0
    voice: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One source of sound. level: dBFS of its loudest 50 ms, the power of both channels together."""

    kind: str
    asked: Asked
    events: tuple[Event, ...]
    level: float
    seed: int  # of what the sound draws at random

    @property
    def onsets(self) -> tuple[float, ...]:
        """When something begins, in order, each time once."""
        return tuple(sorted({event.onset for event in self.events}))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole: one part; two, the second after the first ("then"); or two at once, the second behind
    ("with").

    film: what is seen of the only part, one of `animations.FILMS`, or None.
    """

    seconds: float
    parts: tuple[Part, ...]
    joint: Joint = "alone"
    film: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.joint not in JOINTS:
            raise InputError(f"joint is {self.joint!r}: choose one of {', '.join(JOINTS)}.")
        if len(self.parts) != (1 if self.joint == "alone" else 2):
            raise InputError(f"A scene joined by {self.joint!r} cannot have {len(self.parts)} parts.")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each part, in the order in which they are heard."""
        return tuple(part.kind for part in self.parts)

    def with_asked(self, **changes: Any) -> Scene:
        """The same scene with other words about its first part; its sound stays as it is."""
        first, *others = self.parts
        return replace(self, parts=(replace(first, asked=replace(first.asked, **changes)), *others))

    def as_dict(self) -> dict[str, Any]:
        """For a JSON file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scene:
        """What `as_dict` gave. Raises InputError for what is no scene."""
        try:
            parts = tuple(
                Part(
                    **{
                        **part,
                        "asked": Asked(**part["asked"]),
                        "events": tuple(Event(**event) for event in part["events"]),
                    }
                )
                for part in values["parts"]
            )
            return cls(**{**values, "parts": parts})
        except (KeyError, TypeError) as error:
            raise InputError(f"This describes no scene ({error}): give what Scene.as_dict makes.") from error
