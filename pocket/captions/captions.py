"""A scene in words: a small grammar with hundreds of wordings for the same thing, and some kept back.

Whether a wording is kept back for evaluation follows from its text alone, so that training and evaluation
never share one, whatever they were drawn from; their words they do share, so that what is tested is the
understanding.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..world.scenes import Description, Part, Scene
from .phrases import (
    ATTRIBUTES,
    ENGINE_MOTION,
    FILM_OPENINGS,
    NOTE_PHRASES,
    NUMBERS,
    OPENINGS,
    TEMPO_PHRASES,
    THEN,
    TIMES,
    WITH,
)
from .words import WORDS, Noun

Wording = Literal["training", "held out", "any"]
HELD_OUT_ONE_IN = 8  # one wording in so many

_ADJECTIVES = ("loudness", "pace", "register", "motion", "timbre")  # in this order before a noun
_TRIES = 200


def caption(scene: Scene, random: np.random.Generator, wording: Wording = "any") -> str:
    """One of the wordings of what is asked of a scene; begins with a small letter more often than not.

    Everything asked is said, nothing else but the kinds and their order. A scene that turns out to have no
    wording of the wanted side in 200 tries gets one of the other; among some thousand none has been seen.
    """
    text = ""
    for _ in range(_TRIES):
        text = _written(_sentence(scene, random), random)
        if wording == "any" or is_held_out(text) == (wording == "held out"):
            break
    return text


def is_held_out(text: str) -> bool:
    """Whether a wording is kept for evaluation; capitals, full stops and numbers make no other one."""
    words = "".join("#" if letter.isdigit() else letter for letter in text.lower().rstrip("."))
    return zlib.crc32(words.encode()) % HELD_OUT_ONE_IN == 0


def _pick(random: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(random.integers(len(options)))]


def _written(text: str, random: np.random.Generator) -> str:
    """With or without a capital letter and a full stop, as people type."""
    if random.random() < 0.4:
        text = text[0].upper() + text[1:]
        if random.random() < 0.6:
            text += "."
    return text


def _sentence(scene: Scene, random: np.random.Generator) -> str:
    if scene.arrangement != "alone":
        first, second = (_phrase(part, random) for part in scene.parts)
        return _pick(random, THEN if scene.arrangement == "then" else WITH).format(first=first, second=second)
    part = scene.parts[0]
    if scene.film:
        return _pick(random, FILM_OPENINGS).format(phrase=_phrase(part, random))
    if random.random() < 0.3:
        return _pick(random, OPENINGS).format(phrase=_phrase(part, random))
    return _phrase(part, random, finite=True)


def _phrase(part: Part, random: np.random.Generator, *, finite: bool = False) -> str:
    """Such as: two faint knocks on a door from the left; a bell ringing twice; if finite, a bell rings."""
    words, asked = WORDS[part.kind], part.description
    before, behind = _attributes(part.kind, asked, random)
    place = _pick(random, words.place.split("|")) if words.place and random.random() < 0.7 else ""
    if asked.count and words.strokes and random.random() < 0.5:
        one, several = words.strokes[int(random.integers(len(words.strokes)))]
        number = _pick(random, NUMBERS[asked.count])
        phrase = " ".join([number, *before, one if asked.count == 1 else several])
        return " ".join(filter(None, [phrase, place, *behind]))
    noun = words.nouns[int(random.integers(len(words.nouns)))]
    if noun.text in ("someone", "somebody"):  # nothing can stand before them
        before, behind = [], behind + _said_behind(part.kind, asked, before, random)
    name = noun.text if asked.quality is None else _with_quality(noun.text, asked, random)
    subject = _with_article(noun, [*before, name])
    needs_verb = asked.count is not None or bool(words.place)  # "a visitor" alone makes no sound
    if not needs_verb and random.random() < 0.4:
        return " ".join([subject, *behind])
    verbs = words.verbs[int(random.integers(len(words.verbs)))]
    verb = verbs[2] if not finite or random.random() < 0.3 else verbs[1 if noun.plural else 0]
    times = [_pick(random, TIMES[asked.count])] if asked.count else []
    if not times or random.random() < 0.7:
        return " ".join(filter(None, [subject, verb, place, *times, *behind]))
    return " ".join(filter(None, [subject, verb, place, *behind, *times]))


def _attributes(kind: str, asked: Description, random: np.random.Generator) -> tuple[list[str], list[str]]:
    """What stands before the noun, and what at the end, each in an order that reads well."""
    before, behind = [], []
    for name in _ADJECTIVES:
        value = getattr(asked, name)
        if value is None:
            continue
        adjectives, adverbs = _wordings(kind, name, value)
        if adjectives and random.random() < 0.6:
            before.append(_pick(random, adjectives))
        else:
            behind.append(_pick(random, adverbs))
    if asked.note and asked.quality is None:
        behind.append(_pick(random, NOTE_PHRASES).format(note=_spelled(asked.note, random)))
    if asked.tempo:
        behind.append(_pick(random, TEMPO_PHRASES).format(tempo=asked.tempo))
    if asked.side:
        behind.append(_pick(random, ATTRIBUTES["side"][asked.side][1]))
    if len(behind) > 1 and random.random() < 0.5:
        behind = [behind[int(place)] for place in random.permutation(len(behind))]
    return before, behind


def _wordings(kind: str, name: str, value: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return ENGINE_MOTION[value] if kind == "engine" and name == "motion" else ATTRIBUTES[name][value]


def _said_behind(kind: str, asked: Description, before: list[str], random: np.random.Generator) -> list[str]:
    """The adverbs for what was to stand before a noun."""
    adverbs = []
    for name in _ADJECTIVES:
        value = getattr(asked, name)
        if value is not None and set(_wordings(kind, name, value)[0]) & set(before):
            adverbs.append(_pick(random, _wordings(kind, name, value)[1]))
    return adverbs


def _with_quality(noun: str, asked: Description, random: np.random.Generator) -> str:
    """ "C sharp minor chord"."""
    assert asked.note is not None
    return f"{_spelled(asked.note, random)} {asked.quality} {noun.split()[-1]}"


def _spelled(note: str, random: np.random.Generator) -> str:
    return note.replace("#", _pick(random, (" sharp", "#"))) if "#" in note else note


def _with_article(noun: Noun, words: list[str]) -> str:
    text = " ".join(words)
    if not noun.article:
        return text
    # The letters F and A are spoken with a vowel first.
    vowel = text[0] in "aeiou" or (text[0] in "AEF" and (text[1:2] in (" ", "#")))
    return f"{'an' if vowel else 'a'} {text}"
