"""Draws the parts of a sound's picture, each into its area of a canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
_ROUNDING = 1e-4  # that may be added to full scale


@dataclass(frozen=True, kw_only=True)
class Canvas:
    """A picture that is being drawn.

    Attributes:
        image: RGB.
        draw: Draws on the image, with transparency.
        layout: The areas of the picture.
    """

    image: Image
    draw: ImageDraw
    layout: Layout


@dataclass(frozen=True, kw_only=True)
class View:
    """The visible part of a sound.

    Attributes:
        start: Seconds from the start of the sound.
        end: Seconds from the start of the sound.
        columns: The same part in samples.
    """

    start: float
    end: float
    columns: Columns

    def x(self, box: Box, time: float) -> int:
        """The pixel column of a time in seconds."""
        return box.left + math.floor((time - self.start) / (self.end - self.start) * box.width + 1e-6)


def frequency_row(box: Box, frequency: float, *, lowest: float, highest: float) -> int:
    """Compute the pixel row of a frequency in hertz."""
    above = math.log(frequency / lowest) / math.log(highest / lowest)
    return min(box.bottom - 1, box.bottom - 1 - math.floor(above * box.height))


def draw_spectrum(canvas: Canvas, decibels: Floats, *, lowest: float, highest: float) -> None:
    """Draw the spectrogram and its frequency axis.

    Args:
        canvas: The picture.
        decibels: (rows, columns) of the box in dBFS, rows from the lowest to the highest frequency.
        lowest: Hertz.
        highest: Hertz.
    """
    box, unit = canvas.layout.spectrum, canvas.layout.unit
    _paste(canvas, box, decibels[::-1])
    previous = math.inf
    for frequency, label in frequency_ticks(lowest, highest):
        y = frequency_row(box, frequency, lowest=lowest, highest=highest)
        fits = previous - y > 1.25 * unit
        _tick(canvas, box, y, label if fits else "")
        previous = y if fits else previous
    _draw_border(canvas, box)


def draw_bar(canvas: Canvas) -> None:
    """Draw the colour bar, from 0 dBFS down to the floor."""
    box, unit = canvas.layout.bar, canvas.layout.unit
    decibels = FLOOR * (np.arange(box.height) + 0.5) / box.height
    _paste(canvas, box, np.repeat(decibels[:, None], box.width, axis=1))
    _draw_border(canvas, box)
    step = 10 if box.height > 20 * unit else 20 if box.height > 8 * unit else 50
    for tick in range(0, int(FLOOR) - 1, -step):
        y = min(box.bottom - 1, box.top + round(tick / FLOOR * box.height))
        canvas.draw.line([(box.right, y), (box.right + unit // 3, y)], fill=_FRAME)
        _label(canvas, (box.right + round(0.8 * unit), y), str(tick), anchor="lm")
    _label(canvas, (box.left, box.top - unit), "dBFS", anchor="lb")


def draw_track(canvas: Canvas, box: Box, outline: Outline, *, highest: float, name: str) -> None:
    """Draw the waveform of one channel.

    Args:
        canvas: The picture.
        box: The area to draw in.
        outline: The waveform by columns.
        highest: Amplitude at the edges of the box.
        name: Name of the channel; "" for none.
    """
    from PIL import Image

    unit = canvas.layout.unit
    middle, reach = (box.height - 1) / 2, (box.height - 1) / 2 / highest
    rows = np.arange(box.height)[:, None]

    def between(low: Floats | float, high: Floats | float) -> NDArray[np.bool_]:
        return (rows >= np.rint(middle - high * reach)) & (rows <= np.rint(middle - low * reach))

    pixels = np.full((box.height, box.width, 3), _WELL, dtype=np.uint8)
    for amplitude, label in _marks(box.height / unit):
        row = round(middle - amplitude * reach)
        pixels[row] = _LINES
        # Labels at the edges stand a little inside, clear of the neighbouring tracks.
        label_row = min(max(row, unit / 2), box.height - unit / 2)
        _tick(canvas, box, box.top + row, label, label_y=box.top + label_row)
    peaks = between(outline.low, outline.high)
    pixels[peaks] = _PEAKS
    rms = np.minimum(outline.rms, np.maximum(np.abs(outline.low), np.abs(outline.high)))
    pixels[peaks & between(-rms, rms)] = _RMS
    full = 1 + _ROUNDING
    below, above = (
        (outline.low < -full) & between(outline.low, -1.0),
        (outline.high > full) & between(1.0, outline.high),
    )
    pixels[peaks & (below | above)] = _CLIPPED
    canvas.image.paste(Image.fromarray(pixels), (box.left, box.top))
    _draw_border(canvas, box)
    if name and box.height > unit:
        right, bottom = box.left + 3 + text_width(name, unit) + unit // 2, box.top + 3 + unit
        if box.height > 2 * unit:
            canvas.draw.rectangle((box.left + 3, box.top + 3, right, bottom), fill=_PLATE)
        centre = (box.left + 3 + right) / 2, (box.top + 3 + bottom) / 2
        draw_text(canvas.draw, centre, name, size=unit, anchor="mm", fill=_BRIGHT)


def _marks(height: float) -> list[tuple[float, str]]:
    """(amplitude, label) pairs for a track that is `height` lines of text high."""
    if height > 7:
        return [(1.0, "0 dB"), (0.5, "-6 dB"), (-0.5, "-6 dB"), (-1.0, "0 dB")]
    return [(1.0, "0 dB"), (-1.0, "0 dB")] if height > 2.6 else []


def draw_times(canvas: Canvas, view: View) -> None:
    """Draw the time axis below the spectrogram, and its grid lines through all areas above."""
    box, unit, draw = canvas.layout.spectrum, canvas.layout.unit, canvas.draw
    for time, label in time_ticks(view.start, view.end, most=max(2, box.width // (5 * unit))):
        x = min(box.right - 1, view.x(box, time))
        for area in (*canvas.layout.tracks, box):
            if box.left < x < box.right - 1:
                draw.line([(x, area.top + 1), (x, area.bottom - 2)], fill=_GRID)
        draw.line([(x, box.bottom), (x, box.bottom + unit // 3)], fill=_FRAME)
        _label(canvas, (x, box.bottom + 0.6 * unit), label, anchor="mt")


def draw_strip(canvas: Canvas, frames: Sequence[TimedFrame], view: View) -> None:
    """Draw each frame at its time, cropped to its centre if the next frame leaves too little room."""
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
        resized = frame.image.convert("RGB").resize((width, box.height), Image.Resampling.LANCZOS)
        margin = (width - room) // 2
        canvas.image.paste(resized.crop((margin, 0, margin + room, box.height)), (left, box.top))
        draw.line([(left, box.top), (left, box.bottom - 1)], fill=PAGE)
    _draw_border(canvas, box)


def draw_caption(canvas: Canvas, facts: Sequence[str], title: str) -> None:
    """Draw the facts at the right, and the title at the left, shortened to the remaining room."""
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


def _paste(canvas: Canvas, box: Box, decibels: Floats) -> None:
    """Draw values in dBFS as colours."""
    from PIL import Image

    canvas.image.paste(Image.fromarray(apply_colormap(1 - decibels / FLOOR)), (box.left, box.top))


def _label(canvas: Canvas, position: tuple[float, float], text: str, *, anchor: str) -> None:
    draw_text(canvas.draw, position, text, size=canvas.layout.unit, anchor=anchor, fill=_FAINT)


def _tick(canvas: Canvas, box: Box, y: int, label: str, label_y: float | None = None) -> None:
    """Draw a tick at the left of a box, and its label at the same height or at `label_y`."""
    unit = canvas.layout.unit
    canvas.draw.line([(box.left - unit // 3, y), (box.left - 1, y)], fill=_FRAME)
    _label(canvas, (box.left - 0.5 * unit, y if label_y is None else label_y), label, anchor="rm")


def _draw_border(canvas: Canvas, box: Box) -> None:
    canvas.draw.rectangle((box.left - 1, box.top - 1, box.right, box.bottom), outline=_FRAME)
