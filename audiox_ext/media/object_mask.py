"""Object masks: the part of the picture whose sound is wanted. The rest turns grey before a model sees it.

Grey and not black: it is what the SelVA extractor fills in, and the middle of what Synchformer takes (0 in
-1..1); and frames that are black all over mean "no video" to the models.

N masks, H height, W width.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError
from .containers import TOLERANCE
from .frames import Resize

log = logging.getLogger(__name__)

NEUTRAL = 127.5
"""What replaces the background, in 0..255."""

_SAME_SHAPE = 0.01  # by how much the proportions of mask and frame may differ without a word

Interval = tuple[float, float]
"""(start, end) in seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectMask:
    """What to score in a video.

    mask: (H, W), for all frames, or (N, H, W), one a frame; floating point 0..1 (clamped), bool, or uint8
    0..255, the most = the object. It belongs to the upright picture, and may be of another size than the
    frames. strength: 0 (no masking) to 1 (nothing left of the background). clip, sync: whether the pictures
    for CLIP and those for Synchformer are masked.

    Raises InputError for other shapes and types, for NaN, and for a strength outside 0..1.
    """

    mask: Tensor
    strength: float = 1.0
    clip: bool = True
    sync: bool = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.strength) and 0 <= self.strength <= 1):
            raise InputError(
                f"mask_strength is {self.strength}: give 0 (no masking) to 1 (the background is replaced)."
            )
        if self.mask.ndim not in (2, 3) or 0 in self.mask.shape:
            raise InputError(
                f"The mask has shape {tuple(self.mask.shape)}: (height, width) or (count, height, width) is "
                "wanted, with at least one mask."
            )
        if not (self.mask.is_floating_point() or self.mask.dtype in (torch.bool, torch.uint8)):
            raise InputError(f"The mask is {self.mask.dtype}: floating point in 0..1 is wanted.")
        if self.mask.is_floating_point() and any(_has_nan(picture) for picture in self.masks):
            raise InputError("The mask holds NaN (no number): check the node that made it.")

    @property
    def masks(self) -> Tensor:
        """The masks as (N, H, W)."""
        return self.mask if self.mask.ndim == 3 else self.mask[None]

    def is_idle(self) -> bool:
        """Whether nothing is masked at all."""
        return self.strength == 0 or not (self.clip or self.sync)


class MaskOverlay:
    """Masks laid over frames: called with (time of a source frame in seconds, (3, size, size) uint8).

    first: which of the source's frames, whose times these are, the first mask belongs to. picture: (height,
    width) of the source, upright.
    """

    def __init__(
        self,
        mask: ObjectMask,
        *,
        times: Sequence[float],
        first: int,
        frame_size: tuple[int, int],
        size: int,
        resize: Resize,
    ) -> None:
        self._mask, self._times, self._first = mask, times, first
        self._frame_size, self._size, self._resize = frame_size, size, resize
        # The mask in use, and how much of each pixel it keeps, and what grey it adds. All in numpy, which
        # works in this thread: torch would wake its pool for each of these small steps.
        self._index = -1
        self._keep: NDArray[np.floating[Any]] = np.empty(0)
        self._add: NDArray[np.floating[Any]] = np.empty(0)
        self._scratch = np.empty((0, 0), np.float32)
        _warn(mask, frame_size)

    def __call__(self, time: float, frame: Tensor) -> Tensor:
        index = self._number(time)
        if index != self._index:
            grey = self._mask.strength * (1 - self._shrink(self._mask.masks[index]))
            self._index, self._keep, self._add = index, 1 - grey, grey * NEUTRAL + 0.5  # 0.5: to round
        return torch.from_numpy((frame.numpy() * self._keep + self._add).astype(np.uint8))

    def _number(self, time: float) -> int:
        count = len(self._mask.masks)
        if count == 1:
            return 0
        return min(max(0, bisect_right(self._times, time + TOLERANCE) - 1 - self._first), count - 1)

    def _shrink(self, mask: Tensor) -> NDArray[np.float32]:
        """(H, W) -> (size, size), 0..1 in steps of 1/255, cut and resized as the frame is."""
        if self._resize == "crop":
            height, width = self._frame_size
            side = min(height, width)
            rows = _scaled(slice((height - side) // 2, (height + side) // 2), len(mask) / height)
            columns = _scaled(slice((width - side) // 2, (width + side) // 2), mask.shape[1] / width)
            mask = mask[rows, columns]
        return self._resized(self._levels(mask))

    def _levels(self, mask: Tensor) -> Tensor:
        """(H, W) uint8 0..255"""
        if mask.dtype == torch.uint8:
            return mask.detach().cpu().contiguous()
        if self._scratch.shape != mask.shape:  # new pages for every mask take longer than the arithmetic
            self._scratch = np.empty(mask.shape, np.float32)
        levels = np.clip(_numbers(mask), 0, 1, out=self._scratch)
        levels *= 255
        levels += 0.5
        return torch.from_numpy(levels.astype(np.uint8))

    def _resized(self, levels: Tensor) -> NDArray[np.float32]:
        small = F.interpolate(
            levels[None, None], size=(self._size, self._size), mode="bilinear", antialias=True
        )
        return np.asarray(small[0, 0].numpy(), np.float32) / np.float32(255)


def find_first_frame(count: int, times: Sequence[float], intervals: Sequence[Interval]) -> int | None:
    """The frame that the first of `count` masks belongs to, if they are one a frame of one of the intervals.

    times: of the frames, ascending. A frame that appeared before an interval and is
    still on screen at its start may count or not: players differ in it. None: they fit no interval.
    """
    for interval in intervals:
        shown = _on_screen(times, interval)
        for first in (shown.start, bisect_left(times, interval[0] - TOLERANCE)):
            if shown.stop - first == count:
                return first
    return None


def mask_count_error(count: int, times: Sequence[float], intervals: Sequence[Interval]) -> InputError:
    """Says how many masks there are, and how many are wanted."""
    used, *wider = [len(_on_screen(times, interval)) for interval in intervals]
    others = [number for number in dict.fromkeys(wider) if number != used]
    whole = f"{max(wider)} frames, {used} of them in the part that is used" if others else f"{used} frames"
    wanted = " or ".join(map(str, [*others, used]))
    return InputError(
        f"There are {count} masks, but the video has {whole}. Give one mask for all frames, or one for "
        f"each ({wanted}): make them from all frames of this video, at its own rate and without skipping any."
    )


def _on_screen(times: Sequence[float], interval: Interval) -> range:
    """Numbers of the frames that are seen from the start of the interval to its end."""
    first = max(0, bisect_right(times, interval[0] + TOLERANCE) - 1)
    return range(first, max(first, bisect_left(times, interval[1] - TOLERANCE)))


def _numbers(mask: Tensor) -> NDArray[np.float32]:
    """(H, W) float32, without a copy where it is that already."""
    return np.asarray(mask.detach().to("cpu", torch.float32).numpy(), np.float32)


def _has_nan(mask: Tensor) -> bool:
    numbers = _numbers(mask).reshape(-1)
    return bool(np.isnan(np.dot(numbers, numbers)))  # a sum of squares is NaN for no other reason


def _scaled(part: slice, scale: float) -> slice:
    """A range of the frame's pixels in those of the mask; at least one."""
    start = min(round(part.start * scale), max(0, round(part.stop * scale) - 1))
    return slice(start, max(start + 1, round(part.stop * scale)))


def _warn(mask: ObjectMask, picture: tuple[int, int]) -> None:
    height, width = mask.masks.shape[1:]
    if abs(width * picture[0] / (height * picture[1]) - 1) > _SAME_SHAPE:
        log.warning(
            "The mask is %d x %d and the video %d x %d: it is stretched to fit, which moves its edges.",
            width,
            height,
            picture[1],
            picture[0],
        )
    if not any(_numbers(one).max() > 0 for one in mask.masks):
        log.warning(
            "The mask is empty (0 everywhere): all of the video counts as background and turns grey. Check "
            "the node that made it, or invert it."
        )
