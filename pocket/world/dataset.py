"""Captioned sounds and videos by number. The same number gives the same item in every run and process.

    held_out = Dataset("held out", rate=16000)
    item = held_out[7]  # its scene, waveform (2, S), caption and, for a video, frames (T, H, W, 3)

Nothing is stored: an item takes about ten milliseconds to make. The splits share neither seeds nor wordings.
Kinds of sound in `kinds.HELD_OUT_KINDS` are in neither split unless they are named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.random_numbers import keyed_generator

from ..captions.captions import caption
from ..captions.enrichment import enrich_description
from ..synth.rendering import MIN_RATE, render
from .animations import FILM_KINDS, render_film
from .kinds import KNOWN_KINDS, check_kinds
from .random_scenes import MIN_SECONDS, draw_scene
from .scenes import Arrangement, Scene

Split = Literal["training", "held out"]
# Seeds of the splits. Seeds above them belong to `metrics.classifier`.
SPLITS: dict[Split, range] = {"training": range(2**32), "held out": range(2**32, 2**33)}
# The prompt that published models get when the video alone says what to make.
GENERIC_PROMPT = "Generate general audio for the video"
_GENERIC_FRACTION = 0.2  # of the videos


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of a dataset.

    Attributes:
        number: Number within the split.
        scene: The ground truth.
        caption: The prompt.
        waveform: (2, S) float32.
        frames: Video frames (T, H, W, 3), uint8; None without a video.
    """

    number: int
    scene: Scene
    caption: str
    waveform: np.ndarray
    frames: np.ndarray | None


@dataclass(frozen=True)
class Dataset:
    """A range of items of one split.

    Attributes:
        split: "training" or "held out".
        rate: Sample rate in hertz.
        seconds: Length of each item.
        kinds: Kinds of sound to draw from. A kind that is listed twice is drawn twice as often.
        film_fraction: Fraction of items with a video.
        then_fraction: Fraction of the other items with two sounds, one after the other.
        with_fraction: Fraction of the other items with two sounds at once.
        fps: Frames per second.
        size: (width, height) of the frames.
        first: Number of the first item within the split.
        length: Number of items.
    """

    split: Split
    rate: int = 16000
    seconds: float = 10.0
    kinds: tuple[str, ...] = KNOWN_KINDS
    film_fraction: float = 0.25
    then_fraction: float = 0.15
    with_fraction: float = 0.1
    fps: float = 25.0
    size: tuple[int, int] = (224, 224)
    first: int = 0
    length: int = 100_000

    def __post_init__(self) -> None:
        """Check the values."""
        if self.split not in SPLITS:
            raise InputError(f"There is no split {self.split!r}: choose {' or '.join(SPLITS)}.")
        check_kinds(self.kinds)
        for name in ("film_fraction", "then_fraction", "with_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}: choose a value from 0 to 1.")
        if self.then_fraction + self.with_fraction > 1:
            raise InputError(
                f"then_fraction {self.then_fraction} and with_fraction {self.with_fraction} add up to more "
                "than all items: their sum must not exceed 1."
            )
        if self.film_fraction == 1 and not set(self.kinds) & set(FILM_KINDS):
            raise InputError(
                f"Videos alone need a kind that can be filmed: add {', '.join(FILM_KINDS)} to kinds."
            )
        if self.rate < MIN_RATE or self.seconds < MIN_SECONDS:
            raise InputError(
                f"{self.seconds} s at {self.rate} Hz is too little: use at least {MIN_SECONDS:g} s at "
                f"{MIN_RATE} Hz."
            )
        if self.first < 0 or self.length < 0 or self.first + self.length > len(SPLITS[self.split]):
            raise InputError(
                f"Items {self.first} to {self.first + self.length} are outside the split, which has "
                f"{len(SPLITS[self.split])} items."
            )

    def __len__(self) -> int:
        """The number of items."""
        return self.length

    def __getitem__(self, index: int) -> Item:
        """Make an item."""
        scene = self.scene(index)
        return Item(
            number=self.first + index,
            scene=scene,
            caption=self.caption(index),
            waveform=render(scene, self.rate),
            frames=self.frames(index),
        )

    def scene(self, index: int) -> Scene:
        """The scene of an item.

        Args:
            index: Position in this dataset.

        Raises:
            IndexError: The index is past the end.
        """
        random = self._random(index, 0)
        draws = random.random(2)
        film_kinds = [kind for kind in self.kinds if kind in FILM_KINDS]
        seed = self._seed(index)
        if film_kinds and draws[0] < self.film_fraction:
            scene = draw_scene(seed, seconds=self.seconds, kinds=film_kinds, film=True)
            # The generic prompt says nothing, and loudness cannot be seen in a video.
            return scene.with_description(loudness=None) if self._is_generic(index) else scene
        arrangement: Arrangement = "alone"
        if len(self.kinds) > 1 and draws[1] < self.then_fraction + self.with_fraction:
            arrangement = "then" if draws[1] < self.then_fraction else "with"
        return draw_scene(seed, seconds=self.seconds, kinds=self.kinds, arrangement=arrangement)

    def caption(self, index: int, variant: int = 0) -> str:
        """The caption of an item.

        Args:
            index: Position in this dataset.
            variant: Other numbers give other wordings, which may say more about the same sound.
        """
        scene = self.scene(index)
        if scene.film and self._is_generic(index):
            return GENERIC_PROMPT
        wording: Literal["training", "held out"] = self.split
        if not variant:
            return caption(scene, self._random(index, 2), wording)
        random = keyed_generator(self._seed(index), 102, variant)
        return caption(enrich_description(scene, random), random, wording)

    def frames(self, index: int, indices: Sequence[int] | None = None) -> np.ndarray | None:
        """The video of an item: (T, H, W, 3) uint8, or None if it has none.

        Args:
            index: Position in this dataset.
            indices: The frames to draw; None for all.
        """
        scene = self.scene(index)
        return render_film(scene, size=self.size, fps=self.fps, indices=indices) if scene.film else None

    def _is_generic(self, index: int) -> bool:
        return bool(self._random(index, 3).random() < _GENERIC_FRACTION)

    def _seed(self, index: int) -> int:
        if not 0 <= index < self.length:
            raise IndexError(f"There is no item {index}: the dataset has {self.length} items.")
        return SPLITS[self.split].start + self.first + index

    def _random(self, index: int, purpose: int) -> np.random.Generator:
        return keyed_generator(self._seed(index), 100 + purpose)
