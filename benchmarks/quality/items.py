"""Held-out prompts for measuring quality: scenes by group, described in words, by a video, or both.

Each group requests one attribute, such as a count, and cycles through its values, so that guessing does not
help. Equal arguments give equal items. A larger count extends the list of a smaller one.
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

_SEEDS_PER_GROUP = 2**20
_MAX_DRAWS = 20_000  # scenes drawn until one matches
_WORDING = 102  # separates the random numbers of captions from those of scenes
REFERENCE = 100  # `purpose` of reference sounds; items have 0
_VARIED_KINDS = ("bell", "birds", "drums", "rain", "footsteps", "melody")


@dataclass(frozen=True, kw_only=True)
class Group:
    """Kind of items that measure the same thing.

    Attributes:
        kinds: Kinds of sound; without an attribute the items cycle through them.
        attribute: Attribute of the description that every item requests.
        values: Values of the attribute that the items cycle through; empty for any value.
        joint: Arrangement of the sounds of a scene.
        film: Whether the items have a video.
        words: Whether the items have a prompt in words.
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
    """One prompt to measure.

    Attributes:
        group: Name of the group.
        scene: The scene, whose rendering is the ideal sound.
        prompt: The prompt in words, or empty.
        seed: Seed of the generation, different for each item.
    """

    group: str
    scene: Scene
    prompt: str
    seed: int


def held_out_items(
    count: int, *, seconds: float = 10.0, groups: Sequence[str] = tuple(GROUPS), purpose: int = 0
) -> list[QualityItem]:
    """Draw items, group by group.

    Args:
        count: Number of items per group.
        seconds: Duration of the scenes.
        groups: Names of groups, from `GROUPS`.
        purpose: Number that selects the items; a different number gives different items.

    Returns:
        The items.

    Raises:
        InputError: For an unknown group, or if the scenes are too short for a group.
    """
    items: list[QualityItem] = []
    for name in groups:
        if name not in GROUPS:
            raise InputError(f"There is no group {name!r}: choose from {', '.join(GROUPS)}.")
        index = list(GROUPS).index(name)
        items += _items(name, GROUPS[name], count, seconds, (1 + purpose + index) * _SEEDS_PER_GROUP)
    return items


def varied_items(prompts: int, takes: int, *, seconds: float = 10.0) -> list[list[QualityItem]]:
    """Draw prompts that fix only the kind of sound, each with several seeds, to measure the diversity.

    The scenes of a prompt differ, so that their renderings show the diversity of the data.

    Args:
        prompts: Number of prompts.
        takes: Number of items per prompt.
        seconds: Duration of the scenes.

    Returns:
        The items, prompt by prompt.

    Raises:
        InputError: For more prompts than there are.
    """
    if prompts > len(_VARIED_KINDS):
        raise InputError(f"There are only {len(_VARIED_KINDS)} prompts to vary, not {prompts}: choose fewer.")
    sets = []
    for index, kind in enumerate(_VARIED_KINDS[:prompts]):
        first = SPLITS["held out"].start + (2 * REFERENCE + index) * _SEEDS_PER_GROUP
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
    """Add --items and --groups.

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


def render_items(items: Sequence[QualityItem], rate: int, samples: int) -> list[np.ndarray]:
    """Render the scene of each item: the sounds that a perfect model would generate.

    Args:
        items: Items to render.
        rate: Sample rate, hertz.
        samples: Length of the sounds.

    Returns:
        One sound (2, samples) per item, float32.
    """
    sounds = []
    for item in items:
        wave = render(item.scene, rate)[:, :samples]
        sounds.append(np.pad(wave, ((0, 0), (0, samples - wave.shape[1]))))
    return sounds


def _items(name: str, group: Group, count: int, seconds: float, offset: int) -> list[QualityItem]:
    """Items of one group; `offset` is added to the first seed."""
    items: list[QualityItem] = []
    seed = SPLITS["held out"].start + offset
    for number in range(count):
        for _ in range(_MAX_DRAWS):
            scene = _scene(group, number, seed, seconds)
            seed += 1
            if _matches(group, number, scene):
                break
        else:
            raise InputError(
                f"The group {name!r} has no scene of {seconds:g} s: choose a longer duration or other groups."
            )
        prompt = ""
        if group.words:
            prompt = caption(scene, keyed_generator(seed, _WORDING), "held out")
        else:  # without words, nothing is requested
            scene = replace(scene, parts=(replace(scene.parts[0], description=Description()),))
        items.append(QualityItem(group=name, scene=scene, prompt=prompt, seed=seed))
    return items


def _scene(group: Group, number: int, seed: int, seconds: float) -> Scene:
    """A random scene of a group."""
    in_turn = not group.attribute and group.arrangement == "alone"
    kinds = [group.kinds[number % len(group.kinds)]] if in_turn else group.kinds
    return draw_scene(seed, seconds=seconds, kinds=kinds, arrangement=group.arrangement, film=group.film)


def _matches(group: Group, number: int, scene: Scene) -> bool:
    """Whether a scene requests what item `number` of the group is to measure."""
    if group.arrangement == "then":
        return scene.kinds[0] != scene.kinds[1]
    if not group.attribute:
        return True
    requested = getattr(scene.parts[0].description, group.attribute)
    return requested == group.values[number % len(group.values)] if group.values else requested is not None
