"""Draws the losses of a training: each step, their moving mean, and the validations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .colormap import Floats
from .layout import Box, draw_text, list_multiples, round_up, shorten, text_width, to_ascii
from .panels import PAGE

if TYPE_CHECKING:
    from PIL.Image import Image

_WELL, _FRAME, _GRID, _LETTERS = (8, 7, 12), (84, 80, 98), (34, 31, 44), (200, 197, 210)
_STEP, _MEAN, _VALIDATION = (74, 56, 110), (196, 164, 255), (252, 137, 97)
_MARGIN = 0.06  # fraction of the range, above and below


def draw_losses(
    steps: Sequence[float],
    validations: Sequence[tuple[int, float]],
    *,
    size: tuple[int, int] = (900, 480),
    title: str = "",
) -> Image:
    """Draw the losses. Values that are not finite are left out.

    Args:
        steps: loss of every step.
        validations: (finished steps, loss) of every validation.
        size: width and height, pixels.
        title: above the plot; shortened where it does not fit.

    Returns:
        An RGB image.
    """
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, PAGE)
    draw = ImageDraw.Draw(image, "RGBA")
    unit = max(11, round(13 * min(size[0] / 900, size[1] / 480)))
    box = Box(left=5 * unit, top=3 * unit, right=size[0] - 2 * unit, bottom=size[1] - 3 * unit)
    draw.rectangle((box.left, box.top, box.right, box.bottom), fill=_WELL, outline=_FRAME)
    losses = np.asarray(steps, dtype=np.float64)
    smoothed = _smooth(losses)
    places = np.asarray([step for step, _ in validations], dtype=np.float64)
    values = np.asarray([loss for _, loss in validations], dtype=np.float64)
    last = max(1, len(losses), *(int(place) for place in places))
    low, high = _find_range(losses, smoothed, values)
    scale = _Scale(box, last, low, high)
    _draw_axes(draw, scale, unit)
    numbers = np.arange(1, len(losses) + 1, dtype=np.float64)
    for points, colour, width in (
        (scale.points(numbers, losses), _STEP, 1),
        (scale.points(numbers, smoothed), _MEAN, 2),
        (scale.points(places, values), _VALIDATION, 2),
    ):
        if len(points) > 1:
            draw.line(points, fill=colour, width=width)
    for x, y in scale.points(places, values):
        draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=_VALIDATION)
    _draw_legend(draw, box, unit, title, bool(len(values)))
    return image


class _Scale:
    """Maps steps and losses to pixels."""

    def __init__(self, box: Box, last: int, low: float, high: float) -> None:
        self.box, self.last, self.low, self.high = box, last, low, high

    def x(self, step: float) -> float:
        """Return the pixel column of a step."""
        return self.box.left + step / self.last * self.box.width

    def y(self, loss: float) -> float:
        """Return the pixel row of a loss, within the box."""
        fraction = (loss - self.low) / (self.high - self.low)
        return self.box.bottom - min(1.0, max(0.0, fraction)) * self.box.height

    def points(self, steps: Floats, losses: Floats) -> list[tuple[float, float]]:
        """Return (x, y) of every finite loss."""
        return [
            (self.x(float(step)), self.y(float(loss)))
            for step, loss in zip(steps, losses, strict=True)
            if math.isfinite(loss)
        ]


def _smooth(losses: Floats) -> Floats:
    """Return the moving mean over the last twentieth of all steps."""
    width = max(1, len(losses) // 20)
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(losses))])
    ends = np.arange(1, len(losses) + 1)
    begins = np.maximum(0, ends - width)
    return np.asarray((sums[ends] - sums[begins]) / (ends - begins))


def _find_range(losses: Floats, smoothed: Floats, validations: Floats) -> tuple[float, float]:
    """Return the range of the loss axis; single outlying steps may leave the plot."""
    single = losses[np.isfinite(losses)]
    ends = [np.percentile(single, (1, 99))] if len(single) else []
    ends += [part[np.isfinite(part)] for part in (smoothed, validations)]
    every = np.concatenate([np.atleast_1d(part) for part in ends]) if ends else np.zeros(0)
    if not len(every):
        return 0.0, 1.0
    low, high = float(every.min()), float(every.max())
    margin = _MARGIN * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _choose_ticks(low: float, high: float, most: int) -> list[float]:
    """Return round numbers in a range, about `most` at the most."""
    return list_multiples(round_up((high - low) / max(1, most)), low, high)


def _draw_axes(draw: Any, scale: _Scale, unit: int) -> None:
    box = scale.box
    for loss in _choose_ticks(scale.low, scale.high, max(2, box.height // (4 * unit))):
        y = scale.y(loss)
        draw.line((box.left + 1, y, box.right - 1, y), fill=_GRID)
        draw_text(draw, (box.left - unit // 2, y), f"{loss:.4g}", size=unit, anchor="rm", fill=_LETTERS)
    for step in _choose_ticks(0, scale.last, max(2, box.width // (8 * unit))):
        x = scale.x(step)
        draw.line((x, box.top + 1, x, box.bottom - 1), fill=_GRID)
        draw_text(draw, (x, box.bottom + unit), f"{step:g}", size=unit, anchor="mt", fill=_LETTERS)


def _draw_legend(draw: Any, box: Box, unit: int, title: str, validated: bool) -> None:
    names = [("loss of a step", _STEP), ("mean", _MEAN)] + ([("validation", _VALIDATION)] * validated)
    x = box.right
    for name, colour in reversed(names):
        draw_text(draw, (x, 1.5 * unit), name, size=unit, anchor="rm", fill=_LETTERS)
        x -= text_width(name, unit) + unit
        draw.line((x - unit, round(1.5 * unit), x, round(1.5 * unit)), fill=colour, width=3)
        x -= 2 * unit
    room = x - box.left
    draw_text(
        draw,
        (box.left, 1.5 * unit),
        shorten(to_ascii(title), unit, room),
        size=unit,
        anchor="lm",
        fill=_LETTERS,
    )
