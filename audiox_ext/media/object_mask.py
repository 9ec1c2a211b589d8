"""Object masks, which mark the object to score. The rest turns grey before a model sees it.

Grey, not black, because the SelVA extractor fills with grey, and it is the centre of Synchformer's input (0
in -1..1). Frames that are entirely black mean "no video" to the models.

N masks, H height, W width.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..errors import InputError, is_number, quote_value
from ..utf8 import get_logger
from .containers import TOLERANCE
from .frames import Resize, find_centre_square

log = get_logger(__name__)

BACKGROUND = 127.5
"""The grey that replaces the background, in 0..255."""

_SAME_SHAPE = 0.01  # by this fraction the proportions of mask and frame may differ without a warning

Interval = tuple[float, float]
"""(start, end) in seconds."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ObjectMask:
    """Marks the object to score in a video.

    Attributes:
        mask: (H, W), for all frames, or (N, H, W), one per frame; floating point 0..1 (clamped), bool, or
            uint8 0..255. The highest value is the object. It belongs to the upright frame and may have
            another size.
        strength: 0 (no masking) to 1 (the background is replaced entirely).
        clip: Whether the frames for CLIP are masked.
        sync: Whether the frames for Synchformer are masked.

    Raises:
        InputError: The mask has another shape or type or holds NaN, or strength is out of range.
    """

    mask: Tensor
    strength: float = 1.0
    clip: bool = True
    sync: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        if not (is_number(self.strength) and 0 <= self.strength <= 1):
            raise InputError(
                f"mask_strength is {quote_value(self.strength)}. Choose 0 (no masking) to 1 (the "
                "background is replaced entirely)."
            )
        if not isinstance(self.mask, Tensor):
            raise InputError(f"The mask is a {type(self.mask).__name__}. Connect a MASK.")
        if self.mask.ndim not in (2, 3) or 0 in self.mask.shape:
            raise InputError(
                f"The mask has shape {tuple(self.mask.shape)}. Connect one of shape (height, width) or "
                "(count, height, width), with at least one mask."
            )
        if not (self.mask.is_floating_point() or self.mask.dtype in (torch.bool, torch.uint8)):
            raise InputError(f"The mask is {self.mask.dtype}. Convert it to floating point in 0..1.")
        if self.mask.is_floating_point() and any(_has_nan(mask) for mask in self.masks):
            raise InputError("The mask contains NaN. Check the node that made it.")

    @property
    def masks(self) -> Tensor:
        """The masks as (N, H, W)."""
        return self.mask if self.mask.ndim == 3 else self.mask[None]

    def is_idle(self) -> bool:
        """Whether the settings mask nothing."""
        return self.strength == 0 or not (self.clip or self.sync)


class MaskOverlay:
    """Lays the masks over the frames of a video; a `FrameTransform`."""

    def __init__(
        self,
        mask: ObjectMask,
        *,
        times: Sequence[float],
        first: int,
        frame_size: tuple[int, int],
        size: int,
        resize: Resize,
        pixel_aspect: Fraction = Fraction(1),
    ) -> None:
        """Prepare the overlay, and warn of an empty or stretched mask.

        Args:
            mask: The object.
            times: Times of the source's frames in seconds, ascending; unused with a single mask.
            first: Index of the source frame that the first mask belongs to.
            frame_size: (height, width) of the source's frames, upright.
            size: Side of the resized frames in pixels.
            resize: The way the frames are resized.
            pixel_aspect: Width / height of the source's pixels as they are shown.
        """
        self._mask, self._times, self._first = mask, times, first
        self._frame_size, self._size, self._resize = frame_size, size, resize
        self._pixel_aspect = pixel_aspect
        # The current mask: the fraction of each pixel that it keeps, and the grey that it adds. In numpy,
        # which works in this thread: torch would wake its thread pool for each of these small steps.
        self._index = -1
        self._keep: NDArray[np.floating[Any]] = np.empty(0)
        self._add: NDArray[np.floating[Any]] = np.empty(0)
        self._buffer = np.empty((0, 0), np.float32)
        _warn_if_unusual(mask, frame_size)

    def __call__(self, time: float, frame: Tensor) -> Tensor:
        """Mask a frame.

        Args:
            time: Time of the source frame in seconds.
            frame: (3, size, size) uint8.

        Returns:
            Another such frame.
        """
        index = self._index_at(time)
        if index != self._index:
            grey = self._mask.strength * (1 - self._resize_mask(self._mask.masks[index]))
            self._index, self._keep, self._add = index, 1 - grey, grey * BACKGROUND + 0.5  # 0.5: to round
        return torch.from_numpy((frame.numpy() * self._keep + self._add).astype(np.uint8))

    def _index_at(self, time: float) -> int:
        """Index of the mask for the frame at a time."""
        count = len(self._mask.masks)
        if count == 1:
            return 0
        return min(max(0, bisect_right(self._times, time + TOLERANCE) - 1 - self._first), count - 1)

    def _resize_mask(self, mask: Tensor) -> NDArray[np.float32]:
        """(H, W) -> (size, size), 0..1 in steps of 1/255, cropped and resized like the frame."""
        if self._resize == "crop":
            height, width = self._frame_size
            rows, columns = find_centre_square(height, width, self._pixel_aspect)
            rows = _scale_slice(rows, len(mask) / height)
            columns = _scale_slice(columns, mask.shape[1] / width)
            mask = mask[rows, columns]
        small = F.interpolate(
            self._to_bytes(mask)[None, None], size=(self._size, self._size), mode="bilinear", antialias=True
        )
        return np.asarray(small[0, 0].numpy(), np.float32) / np.float32(255)

    def _to_bytes(self, mask: Tensor) -> Tensor:
        """(H, W) uint8 0..255."""
        if mask.dtype == torch.uint8:
            return mask.detach().cpu().contiguous()
        if self._buffer.shape != mask.shape:  # allocating for every mask takes longer than the arithmetic
            self._buffer = np.empty(mask.shape, np.float32)
        values = np.clip(_to_numpy(mask), 0, 1, out=self._buffer)
        values *= 255
        values += 0.5
        return torch.from_numpy(values.astype(np.uint8))


def find_first_frame(count: int, times: Sequence[float], intervals: Sequence[Interval]) -> int | None:
    """Find the frame that the first mask belongs to, if there is one mask per frame of an interval.

    A frame that appeared before an interval and is still on screen at its start may count or not, because
    players treat it differently.

    Args:
        count: Number of masks.
        times: Times of the frames in seconds, ascending.
        intervals: The parts of the video to try, in this order.

    Returns:
        Index of the frame; None if the number of masks fits no interval.
    """
    for interval in intervals:
        visible = _visible_frames(times, interval)
        for first in (visible.start, bisect_left(times, interval[0] - TOLERANCE)):
            if visible.stop - first == count:
                return first
    return None


def mask_count_error(count: int, times: Sequence[float], intervals: Sequence[Interval]) -> InputError:
    """Build the error that states the number of masks and the numbers that fit; see `find_first_frame`."""
    used, *wider = [len(_visible_frames(times, interval)) for interval in intervals]
    others = [number for number in dict.fromkeys(wider) if number != used]
    available = (
        f"{max(wider)} frames, {used} of them in the part that is used" if others else f"{used} frames"
    )
    allowed = " or ".join(map(str, [*others, used]))
    return InputError(
        f"There are {count} masks, but the video has {available}. Give one mask for all frames, or one per "
        f"frame ({allowed}): make the masks from all frames of this video, at its own frame rate, without "
        "skipping any."
    )


def _visible_frames(times: Sequence[float], interval: Interval) -> range:
    """Indices of the frames on screen during the interval."""
    first = max(0, bisect_right(times, interval[0] + TOLERANCE) - 1)
    return range(first, max(first, bisect_left(times, interval[1] - TOLERANCE)))


def _to_numpy(mask: Tensor) -> NDArray[np.float32]:
    """Return the mask (H, W) in float32, not copied if it is float32 already."""
    return np.asarray(mask.detach().to("cpu", torch.float32).numpy(), np.float32)


def _has_nan(mask: Tensor) -> bool:
    values = _to_numpy(mask).reshape(-1)
    return bool(np.isnan(np.dot(values, values)))  # NaN only if a value is NaN


def _scale_slice(part: slice, scale: float) -> slice:
    """Convert a range of the frame's pixels to pixels of the mask; at least one."""
    start = min(round(part.start * scale), max(0, round(part.stop * scale) - 1))
    return slice(start, max(start + 1, round(part.stop * scale)))


def _warn_if_unusual(mask: ObjectMask, frame_size: tuple[int, int]) -> None:
    """Log a warning if the mask has other proportions than the frame, or is empty."""
    height, width = mask.masks.shape[1:]
    frame_height, frame_width = frame_size
    if abs(width * frame_height / (height * frame_width) - 1) > _SAME_SHAPE:
        log.warning(
            "The mask is %d x %d and the video %d x %d. The mask is stretched to fit, which moves its edges.",
            width,
            height,
            frame_width,
            frame_height,
        )
    if not any(_to_numpy(mask).max() > 0 for mask in mask.masks):
        log.warning(
            "The mask is empty (0 everywhere): the whole video counts as background and turns grey. Check "
            "the node that made it, or invert it."
        )
