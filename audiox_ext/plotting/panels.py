"""The parts of a sound's picture, each drawn into its place on a canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .colormap import Floats, apply_colormap
from .film_strip import TimedFrame
from .layout import Box, Layout, draw_text, frequency_ticks, shorten, text_width, time_ticks, to_ascii
from .spectrogram import FLOOR, Columns, Outline

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

PAGE = (18, 16, 24)
_WELL, _FRAME, _LINES = (8, 7, 12), (84, 80, 98), (34, 31, 44)
_BRIGHT, _FAINT = (232, 230, 238), (160, 156, 172)
_GRID, _PLATE = (255, 255, 255, 28), (0, 0, 0, 150)
_PEAKS, _RMS, _CLIPPED = (118, 82, 190), (196, 164, 255), (255, 92, 80)
_NEARLY_NOTHING = 1e-4  # what rounding may add to full scale


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """The picture, what draws on it (with transparency), and the places on it."""

    image: Image
    draw: ImageDraw
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class View:
    """What is looked at: seconds from the start of the sound, and the same as columns of samples."""

    start: float
    end: float
    columns: Columns

    def x(self, box: Box, time: float) -> int:
        """The column of pixels in which a second lies."""
        return box.left + math.floor((time - self.start) / (self.end - self.start) * box.width + 1e-6)


def frequency_row(box: Box, frequency: float, *, lowest: float, highest: float) -> int:
    """The row of pixels in which a frequency (hertz) lies."""
    above = math.log(frequency / lowest) / math.log(highest / lowest)
    return min(box.bottom - 1, box.bottom - 1 - math.floor(above * box.height))


def draw_spectrum(canvas: Canvas, levels: Floats, *, lowest: float, highest: float) -> None:
    """levels: (rows, columns) of the box, from lowest to highest frequency (hertz), in dBFS."""
    box, unit = canvas.layout.spectrum, canvas.layout.unit
    _paste(canvas, box, levels[::-1])
    below = math.inf
    for frequency, label in frequency_ticks(lowest, highest):
        y = frequency_row(box, frequency, lowest=lowest, highest=highest)
        room = below - y > 1.25 * unit
        _tick(canvas, box, y, label if room else "")
        below = y if room else below
    _outline(canvas, box)


def draw_bar(canvas: Canvas) -> None:
    """The scale of colours from 0 dBFS down to the floor."""
    box, unit = canvas.layout.bar, canvas.layout.unit
    levels = FLOOR * (np.arange(box.height) + 0.5) / box.height
    _paste(canvas, box, np.repeat(levels[:, None], box.width, axis=1))
    _outline(canvas, box)
    step = 10 if box.height > 20 * unit else 20 if box.height > 8 * unit else 50
    for level in range(0, int(FLOOR) - 1, -step):
        y = min(box.bottom - 1, box.top + round(level / FLOOR * box.height))
        canvas.draw.line([(box.right, y), (box.right + unit // 3, y)], fill=_FRAME)
        _label(canvas, (box.right + round(0.8 * unit), y), str(level), anchor="lm")
    _label(canvas, (box.left, box.top - unit), "dBFS", anchor="lb")


def draw_track(canvas: Canvas, box: Box, part: Outline, *, highest: float, name: str) -> None:
    """One channel. highest: the amplitude at the edges of the box."""
    from PIL import Image

    unit = canvas.layout.unit
    middle, reach = (box.height - 1) / 2, (box.height - 1) / 2 / highest
    rows = np.arange(box.height)[:, None]

    def between(low: Any, high: Any) -> Any:
        return (rows >= np.rint(middle - high * reach)) & (rows <= np.rint(middle - low * reach))

    pixels = np.full((box.height, box.width, 3), _WELL, dtype=np.uint8)
    for amplitude, label in _marks(box.height / unit):
        row = round(middle - amplitude * reach)
        pixels[row] = _LINES
        # The label of the very edge stands a little inside, where no neighbour's is.
        at = min(max(row, unit / 2), box.height - unit / 2)
        _tick(canvas, box, box.top + row, label, at=box.top + at)
    peaks = between(part.low, part.high)
    pixels[peaks] = _PEAKS
    rms = np.minimum(part.rms, np.maximum(np.abs(part.low), np.abs(part.high)))
    pixels[peaks & between(-rms, rms)] = _RMS
    full = 1 + _NEARLY_NOTHING
    below, above = (part.low < -full) & between(part.low, -1.0), (part.high > full) & between(1.0, part.high)
    pixels[peaks & (below | above)] = _CLIPPED
    canvas.image.paste(Image.fromarray(pixels), (box.left, box.top))
    _outline(canvas, box)
    if name and box.height > unit:
        right, bottom = box.left + 3 + text_width(name, unit) + unit // 2, box.top + 3 + unit
        if box.height > 2 * unit:
            canvas.draw.rectangle((box.left + 3, box.top + 3, right, bottom), fill=_PLATE)
        centre = (box.left + 3 + right) / 2, (box.top + 3 + bottom) / 2
        draw_text(canvas.draw, centre, name, size=unit, anchor="mm", fill=_BRIGHT)


def _marks(height: float) -> list[tuple[float, str]]:
    """(amplitude, label) for a track as many lines of text high."""
    if height > 7:
        return [(1.0, "0 dB"), (0.5, "-6 dB"), (-0.5, "-6 dB"), (-1.0, "0 dB")]
    return [(1.0, "0 dB"), (-1.0, "0 dB")] if height > 2.6 else []


def draw_times(canvas: Canvas, view: View) -> None:
    """The time axis below the spectrum, and its lines through everything above."""
    box, unit, draw = canvas.layout.spectrum, canvas.layout.unit, canvas.draw
    for time, label in time_ticks(view.start, view.end, most=max(2, box.width // (5 * unit))):
        x = min(box.right - 1, view.x(box, time))
        for part in (*canvas.layout.tracks, box):
            if box.left < x < box.right - 1:
                draw.line([(x, part.top + 1), (x, part.bottom - 2)], fill=_GRID)
        draw.line([(x, box.bottom), (x, box.bottom + unit // 3)], fill=_FRAME)
        _label(canvas, (x, box.bottom + 0.6 * unit), label, anchor="mt")


def draw_strip(canvas: Canvas, frames: Sequence[TimedFrame], view: View) -> None:
    """Each frame from its own time on, its middle where the next one leaves less room than it is wide."""
    from PIL import Image

    box, draw = canvas.layout.strip, canvas.draw
    draw.rectangle((box.left, box.top, box.right - 1, box.bottom - 1), fill=_WELL)
    ordered = sorted(frames, key=lambda frame: frame.time)
    lefts = [view.x(box, view.start + frame.time) for frame in ordered]
    for frame, left, following in zip(ordered, lefts, [*lefts[1:], box.right], strict=True):
        width = max(1, round(frame.image.width * box.height / frame.image.height))
        room = min(width, min(following, box.right) - left)
        if room < 1 or left < box.left:
            continue
        whole = frame.image.convert("RGB").resize((width, box.height), Image.Resampling.LANCZOS)
        skipped = (width - room) // 2
        canvas.image.paste(whole.crop((skipped, 0, skipped + room, box.height)), (left, box.top))
        draw.line([(left, box.top), (left, box.bottom - 1)], fill=PAGE)
    _outline(canvas, box)


def draw_caption(canvas: Canvas, facts: Sequence[str], title: str) -> None:
    """The facts at the right; the title at the left, shortened to what room they leave, if any."""
    layout = canvas.layout
    left, unit, middle = layout.title.left, layout.unit, layout.title.bottom / 2
    right = layout.bar.right + round(2.5 * unit)
    text = "   ".join(facts)
    room = right - left - text_width(text, unit) - 2 * unit
    title = shorten(to_ascii(title), unit, room) if room > 0 else ""
    if title:
        draw_text(canvas.draw, (left, middle), title, size=unit, anchor="lm", fill=_BRIGHT)
        _label(canvas, (right, middle), text, anchor="rm")
        return
    if text_width(text, unit) > right - left:
        left, text = unit, shorten(text, unit, right - unit)
    _label(canvas, (left, middle), text, anchor="lm")


def _paste(canvas: Canvas, box: Box, levels: Floats) -> None:
    from PIL import Image

    canvas.image.paste(Image.fromarray(apply_colormap(1 - levels / FLOOR)), (box.left, box.top))


def _label(canvas: Canvas, place: tuple[float, float], text: str, *, anchor: str) -> None:
    draw_text(canvas.draw, place, text, size=canvas.layout.unit, anchor=anchor, fill=_FAINT)


def _tick(canvas: Canvas, box: Box, y: int, label: str, at: float | None = None) -> None:
    """A mark at the left of a box, and its label beside it, or at another height."""
    unit = canvas.layout.unit
    canvas.draw.line([(box.left - unit // 3, y), (box.left - 1, y)], fill=_FRAME)
    _label(canvas, (box.left - 0.5 * unit, y if at is None else at), label, anchor="rm")


def _outline(canvas: Canvas, box: Box) -> None:
    canvas.draw.rectangle((box.left - 1, box.top - 1, box.right, box.bottom), outline=_FRAME)
