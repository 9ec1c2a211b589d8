"""Captioned sounds and videos by number: the same item for the same number, on every run and in every
process.

    held_out = Dataset("held out", rate=16000)
    item = held_out[7]  # its scene, waveform (2, S), caption and, for a video, frames (T, H, W, 3)

Nothing is stored: an item is made in some ten milliseconds when it is asked for. The splits share neither
seeds nor wordings, and some kinds of sound (`kinds.HELD_OUT_KINDS`) are in neither unless they are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.random_numbers import keyed_generator

from ..captions.captions import caption
from ..captions.retelling import retold
from ..synth.rendering import LOWEST_RATE, render
from .animations import FILMS, film
from .kinds import KNOWN_KINDS, check_kinds
from .scenes import Joint, Scene
from .score import SHORTEST, draw_scene

Split = Literal["training", "held out"]
# The seeds of the splits; what lies above belongs to `classifier`.
SPLITS: dict[Split, range] = {"training": range(2**32), "held out": range(2**32, 2**33)}
GENERIC_PROMPT = (
    "Generate general audio for the video"  # what published models are asked when a video says it all
)
_GENERIC_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Item:
    """scene: the ground truth. waveform: (2, S) float32. frames: (T, H, W, 3) uint8 for videos, else None."""

    number: int
    scene: Scene
    caption: str
    waveform: np.ndarray
    frames: np.ndarray | None


@dataclass(frozen=True)
class Dataset:
    """What the items of a split are drawn from. Lengths in seconds, rates in hertz, shares 0 to 1.

    kinds: of sound. film_share: of items with a video; then_share, with_share: of the others, that have two
    sounds one after the other, or at once. first: the number of the split's item that comes first here, to
    take another part of it. length: how many there are. size: (width, height) of frames.
    """

    split: Split
    rate: int = 16000
    seconds: float = 10.0
    kinds: tuple[str, ...] = KNOWN_KINDS
    film_share: float = 0.25
    then_share: float = 0.15
    with_share: float = 0.1
    fps: float = 25.0
    size: tuple[int, int] = (224, 224)
    first: int = 0
    length: int = 100_000

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InputError(f"There is no split {self.split!r}: choose {' or '.join(SPLITS)}.")
        check_kinds(self.kinds)
        for name in ("film_share", "then_share", "with_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: give 0 to 1.")
        if self.then_share + self.with_share > 1:
            raise InputError(
                f"then_share and with_share are {self.then_share} and {self.with_share}: more than all."
            )
        if self.film_share == 1 and not set(self.kinds) & set(FILMS):
            raise InputError(f"Videos alone were asked for, but can be made only of {', '.join(FILMS)}.")
        if self.rate < LOWEST_RATE or self.seconds < SHORTEST:
            raise InputError(
                f"{self.seconds} s at {self.rate} Hz were asked for: give at least {SHORTEST:g} s at "
                f"{LOWEST_RATE} Hz."
            )
        if self.first < 0 or self.length < 0 or self.first + self.length > len(SPLITS[self.split]):
            raise InputError(
                f"Items {self.first} to {self.first + self.length} were asked for: there are "
                f"{len(SPLITS[self.split])}."
            )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Item:
        scene = self.scene(index)
        return Item(
            number=self.first + index,
            scene=scene,
            caption=self.caption(index),
            waveform=render(scene, self.rate),
            frames=self.frames(index),
        )

    def scene(self, index: int) -> Scene:
        """What happens in an item, alone. Raises IndexError past the end."""
        random = self._random(index, 0)
        choice = random.random(2)
        films = [kind for kind in self.kinds if kind in FILMS]
        seed = self._seed(index)
        if films and choice[0] < self.film_share:
            scene = draw_scene(seed, seconds=self.seconds, kinds=films, film=True)
            # What cannot be seen is not asked where the words are silent.
            return scene.with_asked(loudness=None) if self._is_generic(index) else scene
        joint: Joint = "alone"
        if len(self.kinds) > 1 and choice[1] < self.then_share + self.with_share:
            joint = "then" if choice[1] < self.then_share else "with"
        return draw_scene(seed, seconds=self.seconds, kinds=self.kinds, joint=joint)

    def caption(self, index: int, variant: int = 0) -> str:
        """The words of an item, alone. variant: other words, which may say more of the same sound."""
        scene = self.scene(index)
        if scene.film and self._is_generic(index):
            return GENERIC_PROMPT
        wording: Literal["training", "held out"] = self.split
        if not variant:
            return caption(scene, self._random(index, 2), wording)
        random = keyed_generator(self._seed(index), 102, variant)
        return caption(retold(scene, random), random, wording)

    def frames(self, index: int, indices: Sequence[int] | None = None) -> np.ndarray | None:
        """The pictures of an item, alone, all or some: (T, H, W, 3) uint8, or None."""
        scene = self.scene(index)
        return film(scene, size=self.size, fps=self.fps, indices=indices) if scene.film else None

    def _is_generic(self, index: int) -> bool:
        return bool(self._random(index, 3).random() < _GENERIC_SHARE)

    def _seed(self, index: int) -> int:
        if not 0 <= index < self.length:
            raise IndexError(f"There is no item {index}: there are {self.length}.")
        return SPLITS[self.split].start + self.first + index

    def _random(self, index: int, purpose: int) -> np.random.Generator:
        return keyed_generator(self._seed(index), 100 + purpose)
