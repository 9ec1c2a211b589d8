"""Captions of scenes, from a small grammar with hundreds of wordings for the same description.

Some wordings are held out for evaluation. A hash of the text decides, so training and evaluation never share
a wording. They do share their words: evaluation tests the grammar, not the vocabulary.
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
HELD_OUT_ONE_IN = 8  # wordings

_ADJECTIVES = ("loudness", "pace", "register", "motion", "timbre")  # in this order before a noun
_TRIES = 200


def caption(scene: Scene, random: np.random.Generator, wording: Wording = "any") -> str:
    """Draw a caption that states the kinds, their order and the whole description, and nothing else.

    Args:
        scene: The scene.
        random: Random numbers.
        wording: The wordings that may be drawn. If 200 draws give none of them, the last draw is returned;
            this has not happened for some thousand scenes.
    """
    text = ""
    for _ in range(_TRIES):
        text = _vary_typing(_draw_sentence(scene, random), random)
        if wording == "any" or is_held_out(text) == (wording == "held out"):
            break
    return text


def is_held_out(text: str) -> bool:
    """Whether a wording is held out for evaluation. Capitals, full stops and digits make no difference.

    Args:
        text: The caption.
    """
    words = "".join("#" if letter.isdigit() else letter for letter in text.lower().rstrip("."))
    return zlib.crc32(words.encode()) % HELD_OUT_ONE_IN == 0


def _pick(random: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(random.integers(len(options)))]


def _vary_typing(text: str, random: np.random.Generator) -> str:
    """Add a capital letter and a full stop at random, as people type."""
    if random.random() < 0.4:
        text = text[0].upper() + text[1:]
        if random.random() < 0.6:
            text += "."
    return text


def _draw_sentence(scene: Scene, random: np.random.Generator) -> str:
    if scene.arrangement != "alone":
        first, second = (_draw_phrase(part, random) for part in scene.parts)
        return _pick(random, THEN if scene.arrangement == "then" else WITH).format(first=first, second=second)
    part = scene.parts[0]
    if scene.film:
        return _pick(random, FILM_OPENINGS).format(phrase=_draw_phrase(part, random))
    if random.random() < 0.3:
        return _pick(random, OPENINGS).format(phrase=_draw_phrase(part, random))
    return _draw_phrase(part, random, finite=True)


def _draw_phrase(part: Part, random: np.random.Generator, *, finite: bool = False) -> str:
    """Such as "two faint knocks on a door", "a bell ringing twice", or if finite "a bell rings"."""
    words, description = WORDS[part.kind], part.description
    before, behind = _draw_attributes(part.kind, description, random)
    place = _pick(random, words.place.split("|")) if words.place and random.random() < 0.7 else ""
    if description.count and words.strokes and random.random() < 0.5:
        one, several = words.strokes[int(random.integers(len(words.strokes)))]
        number = _pick(random, NUMBERS[description.count])
        phrase = " ".join([number, *before, one if description.count == 1 else several])
        return " ".join(filter(None, [phrase, place, *behind]))
    noun = words.nouns[int(random.integers(len(words.nouns)))]
    if noun.text in ("someone", "somebody"):  # these take no adjectives
        before, behind = [], behind + _draw_adverbs(part.kind, description, before, random)
    name = noun.text if description.quality is None else _name_chord(noun.text, description, random)
    subject = _add_article(noun, [*before, name])
    # "a visitor" alone is not a sound.
    needs_verb = description.count is not None or bool(words.place)
    if not needs_verb and random.random() < 0.4:
        return " ".join([subject, *behind])
    verbs = words.verbs[int(random.integers(len(words.verbs)))]
    verb = verbs[2] if not finite or random.random() < 0.3 else verbs[1 if noun.plural else 0]
    times = [_pick(random, TIMES[description.count])] if description.count else []
    if not times or random.random() < 0.7:
        return " ".join(filter(None, [subject, verb, place, *times, *behind]))
    return " ".join(filter(None, [subject, verb, place, *behind, *times]))


def _draw_attributes(
    kind: str, description: Description, random: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Words before the noun and words at the end of the phrase, in a readable order."""
    before, behind = [], []
    for name in _ADJECTIVES:
        value = getattr(description, name)
        if value is None:
            continue
        adjectives, adverbs = _attribute_words(kind, name, value)
        if adjectives and random.random() < 0.6:
            before.append(_pick(random, adjectives))
        else:
            behind.append(_pick(random, adverbs))
    if description.note and description.quality is None:
        behind.append(_pick(random, NOTE_PHRASES).format(note=_spell_note(description.note, random)))
    if description.tempo:
        behind.append(_pick(random, TEMPO_PHRASES).format(tempo=description.tempo))
    if description.side:
        behind.append(_pick(random, ATTRIBUTES["side"][description.side][1]))
    if len(behind) > 1 and random.random() < 0.5:
        behind = [behind[int(place)] for place in random.permutation(len(behind))]
    return before, behind


def _attribute_words(kind: str, name: str, value: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return ENGINE_MOTION[value] if kind == "engine" and name == "motion" else ATTRIBUTES[name][value]


def _draw_adverbs(
    kind: str, description: Description, before: list[str], random: np.random.Generator
) -> list[str]:
    """Adverbs in place of adjectives, for nouns that take none."""
    adverbs = []
    for name in _ADJECTIVES:
        value = getattr(description, name)
        if value is not None and set(_attribute_words(kind, name, value)[0]) & set(before):
            adverbs.append(_pick(random, _attribute_words(kind, name, value)[1]))
    return adverbs


def _name_chord(noun: str, description: Description, random: np.random.Generator) -> str:
    """Such as "C sharp minor chord"."""
    assert description.note is not None
    return f"{_spell_note(description.note, random)} {description.quality} {noun.split()[-1]}"


def _spell_note(note: str, random: np.random.Generator) -> str:
    return note.replace("#", _pick(random, (" sharp", "#"))) if "#" in note else note


def _add_article(noun: Noun, words: list[str]) -> str:
    text = " ".join(words)
    if not noun.article:
        return text
    # The names of the notes A, E and F begin with a vowel sound.
    vowel = text[0] in "aeiou" or (text[0] in "AEF" and (text[1:2] in (" ", "#")))
    return f"{'an' if vowel else 'a'} {text}"
