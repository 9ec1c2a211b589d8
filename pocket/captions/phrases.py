"""The phrases of captions that do not depend on the kind of sound: attributes, numbers, sentences."""

from __future__ import annotations

# Attribute -> value -> (adjectives, adverbs).
Wordings = tuple[tuple[str, ...], tuple[str, ...]]
ATTRIBUTES: dict[str, dict[str, Wordings]] = {
    "register": {
        "high": (("high", "high-pitched"), ("at a high pitch", "in a high register", "high up")),
        "low": (("low", "low-pitched", "deep"), ("at a low pitch", "in a low register", "deep down")),
    },
    "loudness": {
        "loud": (("loud", "strong"), ("loudly", "at a loud volume", "with full force")),
        "quiet": (("quiet", "soft", "faint"), ("quietly", "softly", "faintly", "at a low volume")),
    },
    "pace": {
        "fast": (("fast", "quick", "rapid"), ("fast", "quickly", "rapidly", "at a fast pace")),
        "slow": (("slow", "leisurely"), ("slowly", "at a slow pace", "unhurriedly")),
    },
    "motion": {
        "rising": (("rising", "ascending"), ("rising", "going up", "climbing", "rising in pitch")),
        "falling": (("falling", "descending"), ("falling", "going down", "sinking", "falling in pitch")),
    },
    "side": {
        "left": (
            (),
            (
                "on the left",
                "from the left",
                "to the left",
                "on the left side",
                "in the left speaker",
                "left of us",
            ),
        ),
        "right": (
            (),
            (
                "on the right",
                "from the right",
                "to the right",
                "on the right side",
                "in the right speaker",
                "right of us",
            ),
        ),
    },
    "timbre": {
        "pure": (("pure", "plain", "sine"), ("with a pure sound",)),
        "organ": (("organ",), ("on an organ", "played by an organ")),
        "buzzing": (("buzzing", "reedy"), ("with a buzzing sound",)),
        "plucked": (("plucked",), ("on plucked strings", "plucked on a string")),
    },
}
# Wordings of the motion of an engine's pitch.
ENGINE_MOTION = {
    "rising": (("accelerating",), ("speeding up", "revving up", "getting faster", "rising in pitch")),
    "falling": (("decelerating",), ("slowing down", "losing speed", "winding down", "falling in pitch")),
}
TIMES = {
    1: ("once", "one time", "a single time"),
    2: ("twice", "two times"),
    3: ("three times", "thrice"),
    4: ("four times",),
}
NUMBERS = {1: ("one", "a single"), 2: ("two", "a pair of"), 3: ("three",), 4: ("four",)}
NOTE_PHRASES = (
    "on the note {note}",
    "on {note}",
    "at the pitch {note}",
    "tuned to {note}",
    "playing the note {note}",
)
TEMPO_PHRASES = (
    "at {tempo} bpm",
    "at {tempo} beats per minute",
    "with a tempo of {tempo} bpm",
    "at a tempo of {tempo}",
)
THEN = (
    "{first}, then {second}",
    "{first} and then {second}",
    "{first}, followed by {second}",
    "first {first}, then {second}",
    "{first}, and after that {second}",
    "{first} before {second}",
    "{second} after {first}",
)
WITH = (
    "{first} with {second} in the background",
    "{first} over {second}",
    "{first} against a background of {second}",
    "{second} behind {first}",
    "{first} and {second} at the same time",
)
OPENINGS = (
    "the sound of {phrase}",
    "sound of {phrase}",
    "a recording of {phrase}",
    "audio of {phrase}",
    "a clip of {phrase}",
    "we hear {phrase}",
    "there is {phrase}",
    "{phrase} can be heard",
    "{phrase}, nothing else",
    "only {phrase}",
    "play {phrase}",
    "make the sound of {phrase}",
)
FILM_OPENINGS = (
    *OPENINGS[:6],
    "{phrase}",
    "the sound of {phrase} in the video",
    "a video of {phrase}",
    "we see and hear {phrase}",
)
