"""Scenes: the sounds and their times. A scene is a list of parts, and a part is a list of events.

Sound, video and caption are made from the same scene, so it is the ground truth of all three. Times are
seconds from the start of the scene, pitches are hertz, pans are -1 (left) to 1 (right).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from audiox_ext.errors import InputError

Arrangement = Literal["alone", "then", "with"]
ARRANGEMENTS: tuple[Arrangement, ...] = ("alone", "then", "with")


@dataclass(frozen=True, kw_only=True)
class Description:
    """The statements of a caption about a part. None: the caption does not say it, and it is not judged.

    Attributes:
        register: Pitch range.
        note: Pitch class, such as C#; of a chord its root.
        quality: Major or minor, of a chord.
        loudness: Loudness in words.
        pace: Speed in words at which events follow each other.
        tempo: Beats per minute.
        motion: Direction of the pitch.
        side: Stereo position.
        count: Number of events, 1 to 4.
        timbre: Timbre of a tone, one of `kinds.TIMBRES`.
    """

    register: Literal["high", "low"] | None = None
    note: str | None = None
    quality: Literal["major", "minor"] | None = None
    loudness: Literal["loud", "quiet"] | None = None
    pace: Literal["fast", "slow"] | None = None
    tempo: int | None = None
    motion: Literal["rising", "falling"] | None = None
    side: Literal["left", "right"] | None = None
    count: int | None = None
    timbre: str | None = None


@dataclass(frozen=True, kw_only=True)
class Event:
    """One audible event.

    Attributes:
        onset: Time at which it begins.
        duration: Seconds.
        pitch: Fundamental, 0 for none. It glides to `end_pitch`.
        end_pitch: Fundamental at the end.
        gain: Decibels relative to the part's loudest event.
        pan: Stereo position.
        variant: One of the kind's sounds, such as kick or snare.
    """

    onset: float
    duration: float
    pitch: float = 0.0
    end_pitch: float = 0.0
    gain: float = 0.0
    pan: float = 0.0
    variant: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """One sound source.

    Attributes:
        kind: Kind of sound, a key of `kinds.KINDS`.
        description: Statements of the caption.
        events: In order of time.
        peak_rms_dbfs: RMS of the loudest 50 ms in dBFS, the power of both channels added.
        seed: Seed of the sound's random numbers.
    """

    kind: str
    description: Description
    events: tuple[Event, ...]
    peak_rms_dbfs: float
    seed: int

    @property
    def onsets(self) -> tuple[float, ...]:
        """The distinct onsets of the events, sorted."""
        return tuple(sorted({event.onset for event in self.events}))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A whole scene.

    Attributes:
        seconds: Length.
        parts: One part, or two where the arrangement is "then" or "with".
        arrangement: "alone"; "then": the second part follows the first; "with": both sound at once, the
            second in the background.
        film: The animation that shows the only part, one of `animations.FILM_KINDS`, or None.
        seed: Seed of the film's random numbers.
    """

    seconds: float
    parts: tuple[Part, ...]
    arrangement: Arrangement = "alone"
    film: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.arrangement not in ARRANGEMENTS:
            raise InputError(f"arrangement is {self.arrangement!r}: choose one of {', '.join(ARRANGEMENTS)}.")
        expected_parts = 1 if self.arrangement == "alone" else 2
        if len(self.parts) != expected_parts:
            raise InputError(
                f"A scene with the arrangement {self.arrangement!r} needs {expected_parts} parts, got "
                f"{len(self.parts)}."
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each part."""
        return tuple(part.kind for part in self.parts)

    def with_description(self, **changes: Any) -> Scene:
        """Return a copy with changes to the first part's description; the sound stays the same.

        Args:
            changes: New values of fields of `Description`.
        """
        first, *others = self.parts
        changed = replace(first, description=replace(first.description, **changes))
        return replace(self, parts=(changed, *others))

    def as_dict(self) -> dict[str, Any]:
        """The scene as values that JSON can store."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Scene:
        """The inverse of `as_dict`.

        Args:
            values: The result of `as_dict`.

        Raises:
            InputError: The values do not describe a scene.
        """
        try:
            parts = tuple(
                Part(
                    **{
                        **part,
                        "description": Description(**part["description"]),
                        "events": tuple(Event(**event) for event in part["events"]),
                    }
                )
                for part in values["parts"]
            )
            return cls(**{**values, "parts": parts})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"This does not describe a scene ({error}). Pass the result of Scene.as_dict."
            ) from error
