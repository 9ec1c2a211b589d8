"""The words for each kind of sound: nouns and verbs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A subject.

    Attributes:
        text: Such as "bell".
        article: Whether it takes an article: "a bell", but "rain" and "footsteps".
        plural: Whether it takes a plural verb.
    """

    text: str
    article: bool = True
    plural: bool = False


@dataclass(frozen=True, kw_only=True)
class Words:
    """The words for a kind of sound.

    Attributes:
        nouns: Subjects.
        verbs: (singular, plural, -ing form).
        strokes: (singular, plural) of countable events: "two knocks".
        place: Phrases that may follow a verb or a stroke, separated by "|".
    """

    nouns: tuple[Noun, ...]
    verbs: tuple[tuple[str, str, str], ...]
    strokes: tuple[tuple[str, str], ...] = ()
    place: str = ""


def _nouns(*texts: str, article: bool = True, plural: bool = False) -> tuple[Noun, ...]:
    return tuple(Noun(text=text, article=article, plural=plural) for text in texts)


_SOUNDS = (
    ("sounds", "sound", "sounding"),
    ("plays", "play", "playing"),
    ("is heard", "are heard", "being heard"),
)
_CONTINUES = (
    ("plays", "play", "playing"),
    ("is heard", "are heard", "being heard"),
    ("goes on", "go on", "going on"),
)

WORDS: dict[str, Words] = {
    "tone": Words(
        nouns=_nouns("tone", "steady tone", "sustained tone", "held note", "long note"),
        verbs=(*_SOUNDS, ("rings out", "ring out", "ringing out")),
    ),
    "sweep": Words(
        nouns=_nouns("sweep", "frequency sweep", "glide", "glissando", "sliding tone"),
        verbs=_SOUNDS,
    ),
    "chord": Words(
        nouns=_nouns("chord", "sustained chord", "held chord", "triad"),
        verbs=(*_SOUNDS, ("rings out", "ring out", "ringing out")),
    ),
    "melody": Words(
        nouns=_nouns("melody", "tune", "short melody", "little tune", "sequence of notes"),
        verbs=_SOUNDS,
    ),
    "beep": Words(
        nouns=_nouns("beep", "electronic beeper", "beeping signal", "buzzer"),
        verbs=(("beeps", "beep", "beeping"), ("sounds", "sound", "sounding")),
        strokes=(("beep", "beeps"), ("short tone", "short tones"), ("bleep", "bleeps")),
    ),
    "bell": Words(
        nouns=_nouns("bell", "chime", "church bell"),
        verbs=(
            ("rings", "ring", "ringing"),
            ("tolls", "toll", "tolling"),
            ("is struck", "are struck", "being struck"),
        ),
        strokes=(
            ("bell stroke", "bell strokes"),
            ("ring of a bell", "rings of a bell"),
            ("bell tone", "bell tones"),
        ),
    ),
    "click": Words(
        nouns=_nouns("switch", "button", "mouse button"),
        verbs=(("clicks", "click", "clicking"), ("snaps", "snap", "snapping")),
        strokes=(("click", "clicks"), ("snap", "snaps"), ("sharp click", "sharp clicks")),
    ),
    "knock": Words(
        nouns=(*_nouns("person", "visitor"), *_nouns("someone", "somebody", article=False)),
        verbs=(("knocks", "knock", "knocking"), ("raps", "rap", "rapping")),
        strokes=(("knock", "knocks"), ("rap", "raps")),
        place="on a door|on a wooden door|at the door",
    ),
    "drums": Words(
        nouns=(
            *_nouns("drum kit", "drum beat", "drum loop", "drummer"),
            *_nouns("drums", article=False, plural=True),
        ),
        verbs=(
            ("plays", "play", "playing"),
            ("keeps time", "keep time", "keeping time"),
            ("is heard", "are heard", "being heard"),
        ),
    ),
    "clock": Words(
        nouns=_nouns("clock", "watch", "metronome", "wall clock"),
        verbs=(("ticks", "tick", "ticking"), ("is ticking", "are ticking", "ticking away")),
    ),
    "footsteps": Words(
        nouns=(
            *_nouns("footsteps", "steps", "footfalls", article=False, plural=True),
            *_nouns("person walking", "pair of boots on a floor"),
        ),
        verbs=(
            ("passes", "pass", "passing"),
            ("is heard", "are heard", "being heard"),
            ("sounds", "sound", "sounding"),
        ),
    ),
    "birds": Words(
        nouns=_nouns("bird", "small bird", "songbird", "sparrow"),
        verbs=(
            ("chirps", "chirp", "chirping"),
            ("tweets", "tweet", "tweeting"),
            ("sings", "sing", "singing"),
        ),
        strokes=(("chirp", "chirps"), ("tweet", "tweets"), ("bird call", "bird calls")),
    ),
    "white noise": Words(
        nouns=_nouns("white noise", "hissing white noise", "static", "steady white noise", article=False),
        verbs=(*_CONTINUES, ("hisses", "hiss", "hissing")),
    ),
    "pink noise": Words(
        nouns=_nouns("pink noise", "steady pink noise", "smooth pink noise", "1/f noise", article=False),
        verbs=(*_CONTINUES, ("rushes", "rush", "rushing")),
    ),
    "wind": Words(
        nouns=(*_nouns("wind", "gusty wind", "howling wind", article=False), *_nouns("breeze")),
        verbs=(
            ("blows", "blow", "blowing"),
            ("howls", "howl", "howling"),
            ("is heard", "are heard", "being heard"),
        ),
    ),
    "rain": Words(
        nouns=(*_nouns("rain", "rainfall", "pattering rain", article=False), *_nouns("rain shower")),
        verbs=(
            ("patters", "patter", "pattering"),
            ("comes down", "come down", "coming down"),
            ("pours", "pour", "pouring"),
        ),
    ),
    "surf": Words(
        nouns=(
            *_nouns("surf", article=False),
            *_nouns("waves", "ocean waves", "sea waves", article=False, plural=True),
        ),
        verbs=(
            ("breaks on a beach", "break on a beach", "breaking on a beach"),
            ("rolls in", "roll in", "rolling in"),
            ("washes ashore", "wash ashore", "washing ashore"),
        ),
    ),
    "engine": Words(
        nouns=_nouns("engine", "motor", "car engine", "combustion engine"),
        verbs=(("runs", "run", "running"), ("rumbles", "rumble", "rumbling"), ("drones", "drone", "droning")),
    ),
    "siren": Words(
        nouns=_nouns("siren", "police siren", "alarm siren", "emergency siren"),
        verbs=(("wails", "wail", "wailing"), ("sounds", "sound", "sounding"), ("blares", "blare", "blaring")),
    ),
    "ball": Words(
        nouns=_nouns("ball", "rubber ball", "bouncing ball", "basketball"),
        verbs=(("bounces", "bounce", "bouncing"), ("hits the floor", "hit the floor", "hitting the floor")),
        strokes=(("bounce of a ball", "bounces of a ball"), ("ball bounce", "ball bounces")),
    ),
    "lamp": Words(
        nouns=_nouns("lamp", "light", "buzzing lamp", "neon light"),
        verbs=(
            ("flashes", "flash", "flashing"),
            ("buzzes on", "buzz on", "buzzing on"),
            ("lights up", "light up", "lighting up"),
        ),
        strokes=(
            ("buzzing flash of a lamp", "buzzing flashes of a lamp"),
            ("electric buzz", "electric buzzes"),
        ),
    ),
    "hammer": Words(
        nouns=_nouns("hammer", "blacksmith's hammer", "steel hammer"),
        verbs=(
            ("strikes", "strike", "striking"),
            ("hits metal", "hit metal", "hitting metal"),
            ("clangs", "clang", "clanging"),
        ),
        strokes=(
            ("hammer blow", "hammer blows"),
            ("clang of a hammer", "clangs of a hammer"),
            ("metallic clang", "metallic clangs"),
        ),
    ),
    "wheel": Words(
        nouns=_nouns("wheel", "rolling wheel", "cart wheel", "wagon wheel"),
        verbs=(
            ("rolls along", "roll along", "rolling along"),
            ("turns", "turn", "turning"),
            ("rumbles by", "rumble by", "rumbling by"),
        ),
    ),
    "frog": Words(
        nouns=_nouns("frog", "toad", "bullfrog"),
        verbs=(("croaks", "croak", "croaking"), ("ribbits", "ribbit", "ribbiting")),
        strokes=(("croak", "croaks"), ("frog call", "frog calls"), ("ribbit", "ribbits")),
    ),
}
