"""What a model is asked for when its quality is measured: held-out scenes by group, each in words, as a
video, or both.

A group is about one thing that can be asked, such as a count, and asks for its values in turn, so that
guessing gains nothing. Equal arguments give equal items; more items of a group begin with the fewer.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.random_numbers import keyed_generator
from pocket.captions.captions import caption
from pocket.synth.rendering import render
from pocket.world.dataset import SPLITS
from pocket.world.kinds import KNOWN_KINDS, NOTES
from pocket.world.random_scenes import draw_scene
from pocket.world.scenes import Arrangement, Description, Scene

_APART = 2**20  # seeds from one group to the next, and from one purpose to the next
_TRIES = 20_000  # scenes that are drawn for one that asks for what is wanted
_WORDING = 102  # tells these random numbers from those of the scenes
REFERENCE = 100  # the purpose of what sets of sounds are compared with; the items' own is 0
_VARIED_KINDS = ("bell", "birds", "drums", "rain", "footsteps", "melody")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Items that are alike.

    kinds: of sound. attribute: of `Description`, that every item asks for, with `values` in turn; without
    values any. Without an attribute the kinds come in turn. film: there is a video; words: there are words.
    """

    kinds: tuple[str, ...]
    attribute: str = ""
    values: tuple[str | int, ...] = ()
    arrangement: Arrangement = "alone"
    film: bool = False
    words: bool = True


GROUPS: dict[str, Group] = {
    "note": Group(kinds=("tone", "beep", "bell"), attribute="note", values=NOTES),
    "register": Group(
        kinds=("tone", "beep", "bell", "melody", "engine"), attribute="register", values=("high", "low")
    ),
    "count": Group(kinds=("beep", "bell", "click", "knock", "birds"), attribute="count", values=(1, 2, 3, 4)),
    "loudness": Group(kinds=KNOWN_KINDS, attribute="loudness", values=("loud", "quiet")),
    "direction": Group(kinds=KNOWN_KINDS, attribute="side", values=("left", "right")),
    "tempo": Group(kinds=("drums", "clock"), attribute="tempo"),
    "pace": Group(
        kinds=("drums", "clock", "footsteps", "siren", "wheel"), attribute="pace", values=("fast", "slow")
    ),
    "motion": Group(kinds=("sweep", "melody", "engine"), attribute="motion", values=("rising", "falling")),
    "chord": Group(kinds=("chord",), attribute="quality", values=("major", "minor")),
    "order": Group(kinds=KNOWN_KINDS, arrangement="then"),
    "kind": Group(kinds=KNOWN_KINDS),
    "ball, with text": Group(kinds=("ball",), film=True),
    "ball, video alone": Group(kinds=("ball",), film=True, words=False),
    "hammer, with text": Group(kinds=("hammer",), film=True),
    "hammer, video alone": Group(kinds=("hammer",), film=True, words=False),
}


@dataclass(frozen=True, kw_only=True)
class QualityItem:
    """prompt: the words, "" for none. seed: of the generation, which tells it from the other items."""

    group: str
    scene: Scene
    prompt: str
    seed: int


def held_out_items(
    count: int, *, seconds: float = 10.0, groups: Sequence[str] = tuple(GROUPS), purpose: int = 0
) -> list[QualityItem]:
    """`count` items of each group, group by group; scenes of so many seconds.

    purpose: another number gives other items. Raises InputError for an unknown group, and for what cannot be
    asked in so short a time.
    """
    items: list[QualityItem] = []
    for name in groups:
        if name not in GROUPS:
            raise InputError(f"There is no group {name!r}: choose from {', '.join(GROUPS)}.")
        place = list(GROUPS).index(name)
        items += _items(name, GROUPS[name], count, seconds, (1 + purpose + place) * _APART)
    return items


def varied_items(prompts: int, takes: int, *, seconds: float = 10.0) -> list[list[QualityItem]]:
    """So many prompts that leave all but the kind open, each `takes` times: the same words and other seeds.

    The scenes of a prompt differ, for their sounds tell how much data differ.
    """
    if prompts > len(_VARIED_KINDS):
        raise InputError(f"There are {len(_VARIED_KINDS)} prompts to vary, not {prompts}.")
    sets = []
    for place, kind in enumerate(_VARIED_KINDS[:prompts]):
        first = SPLITS["held out"].start + (2 * REFERENCE + place) * _APART
        scenes: list[Scene] = []
        seed = first
        while len(scenes) < takes:
            scene = draw_scene(seed, seconds=seconds, kinds=[kind])
            seed += 1
            if scene.parts[0].description == Description():
                scenes.append(scene)
        prompt = caption(scenes[0], keyed_generator(first, _WORDING), "held out")
        sets.append(
            [
                QualityItem(group=f"varied {kind}", scene=scene, prompt=prompt, seed=number)
                for number, scene in enumerate(scenes)
            ]
        )
    return sets


def add_item_options(parser: argparse.ArgumentParser, items: int) -> None:
    """Add --items, --groups and --batch.

    Args:
        parser: Parser to extend.
        items: Default number of items per group.
    """
    parser.add_argument("--items", type=int, default=items, help=f"items per group (default {items})")
    parser.add_argument(
        "--groups",
        nargs="+",
        choices=tuple(GROUPS),
        default=tuple(GROUPS),
        metavar="GROUP",
        help=f"groups of items (default all): {', '.join(GROUPS)}",
    )
    parser.add_argument("--batch", type=int, default=8, help="sounds per batch (default 8)")


def data_sounds(items: Sequence[QualityItem], rate: int, samples: int) -> list[np.ndarray]:
    """What each item's scene sounds like, (2, samples) float32: what a perfect model might have made."""
    sounds = []
    for item in items:
        wave = render(item.scene, rate)[:, :samples]
        sounds.append(np.pad(wave, ((0, 0), (0, samples - wave.shape[1]))))
    return sounds


def _items(name: str, group: Group, count: int, seconds: float, offset: int) -> list[QualityItem]:
    items: list[QualityItem] = []
    seed = SPLITS["held out"].start + offset
    for number in range(count):
        for _ in range(_TRIES):
            scene = _scene(group, number, seed, seconds)
            seed += 1
            if _is_wanted(group, number, scene):
                break
        else:
            raise InputError(f"No scene of {seconds:g} s asks for what the group {name!r} is about.")
        prompt = ""
        if group.words:
            prompt = caption(scene, keyed_generator(seed, _WORDING), "held out")
        else:  # nothing was said
            scene = replace(scene, parts=(replace(scene.parts[0], description=Description()),))
        items.append(QualityItem(group=name, scene=scene, prompt=prompt, seed=seed))
    return items


def _scene(group: Group, number: int, seed: int, seconds: float) -> Scene:
    in_turn = not group.attribute and group.arrangement == "alone"
    kinds = [group.kinds[number % len(group.kinds)]] if in_turn else group.kinds
    return draw_scene(seed, seconds=seconds, kinds=kinds, arrangement=group.arrangement, film=group.film)


def _is_wanted(group: Group, number: int, scene: Scene) -> bool:
    if group.arrangement == "then":
        return scene.kinds[0] != scene.kinds[1]
    if not group.attribute:
        return True
    asked = getattr(scene.parts[0].description, group.attribute)
    return asked == group.values[number % len(group.values)] if group.values else asked is not None
