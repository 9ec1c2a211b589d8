"""Layout, axis labels and text of the picture of a sound.

Lengths are in pixels. Text is ASCII, because Pillow's own font has nothing else.
"""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

_FREQUENCIES = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_TIME_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle.

    Attributes:
        left: The first column.
        top: The first row.
        right: The column after the last.
        bottom: The row after the last.
    """

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The areas of a picture.

    Attributes:
        unit: Height of the letters.
        title: The caption at the top.
        strip: The film strip; of height 0 if there is none.
        tracks: The waveform, one box per channel.
        spectrum: The spectrogram.
        bar: The colour bar.
    """

    unit: int
    title: Box
    strip: Box
    tracks: tuple[Box, ...]
    spectrum: Box
    bar: Box


def lay_out(size: tuple[int, int], *, channels: int, strip: bool = False) -> Layout:
    """Compute the areas of a picture.

    Args:
        size: (width, height).
        channels: Number of tracks.
        strip: Whether there is a film strip.
    """
    width, height = size
    unit = max(11, round(13 * min(width / 1100, height / 650)))
    left, right = round(4.6 * unit), width - round(5.2 * unit)
    top, bottom, gap = round(2.4 * unit), height - round(2.2 * unit), round(0.8 * unit)
    strip_end = top + (round(0.15 * (bottom - top)) if strip else 0)
    tracks_top = strip_end + (gap if strip else 0)
    fraction = min(0.5, 0.2 + 0.07 * channels)
    tracks_end = tracks_top + round(fraction * (bottom - tracks_top - gap))
    edges = [
        tracks_top + round(index * (tracks_end - tracks_top) / channels) for index in range(channels + 1)
    ]
    tracks = tuple(
        Box(left=left, top=edges[index], right=right, bottom=edges[index + 1] - (index < channels - 1) * 2)
        for index in range(channels)
    )
    spectrum = Box(left=left, top=tracks_end + gap, right=right, bottom=bottom)
    bar = Box(left=right + gap, top=spectrum.top, right=right + gap + unit, bottom=bottom)
    return Layout(
        unit=unit,
        title=Box(left=left, top=0, right=right, bottom=top),
        strip=Box(left=left, top=top, right=right, bottom=strip_end),
        tracks=tracks,
        spectrum=spectrum,
        bar=bar,
    )


def frequency_ticks(lowest: float, highest: float) -> list[tuple[float, str]]:
    """Ticks within a range of frequencies, as (hertz, label) pairs."""
    return [(tick, _format_hertz(tick)) for tick in _FREQUENCIES if lowest <= tick <= highest]


def _format_hertz(frequency: float) -> str:
    return f"{frequency / 1000:g} kHz" if frequency >= 1000 else f"{frequency:g} Hz"


def time_ticks(start: float, end: float, *, most: int) -> list[tuple[float, str]]:
    """Ticks at round times within a range, as (second, label) pairs.

    Args:
        start: Seconds.
        end: Seconds; from 60 on, labels are minutes and seconds.
        most: Approximate limit on the number of ticks.
    """
    step = _time_step((end - start) / max(1, most))
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    minutes, milliseconds = end >= 60 and digits == 0, end < 1 and digits > 1
    times = list_multiples(step, start, end)
    if milliseconds:
        return [(time, f"{1000 * time:.{max(0, digits - 3)}f} ms") for time in times]
    return [(time, format_clock(time) if minutes else f"{time:.{digits}f} s") for time in times]


def _time_step(least: float) -> float:
    """The smallest round step of at least `least` seconds."""
    if least > 1:
        return next((float(step) for step in _TIME_STEPS if step >= least), math.ceil(least / 3600) * 3600.0)
    return round_up(least)


def round_up(least: float) -> float:
    """Round a number above 0 up to 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def list_multiples(step: float, low: float, high: float) -> list[float]:
    """List the multiples of a step in [low, high]."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def format_clock(seconds: float, digits: int = 0) -> str:
    """Format seconds as a clock: 75 as "1:15", 3675 as "1:01:15"."""
    whole = round(seconds * 10**digits)
    minutes, rest = divmod(whole, 60 * 10**digits)
    text = f"{rest / 10**digits:0{3 + digits if digits else 2}.{digits}f}"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{text}" if hours else f"{minutes}:{text}"


def format_duration(seconds: float) -> str:
    """Format a duration or a time for the caption."""
    if seconds >= 60:
        return format_clock(seconds, 1)
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.4g} ms"


@cache
def font(size: int) -> Any:
    """Load Pillow's own font in a size; before Pillow 10.1 it has only one size."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def to_ascii(text: str) -> str:
    """Replace letters that the font lacks: accents are dropped, other letters become question marks."""
    decomposed = unicodedata.normalize("NFKD", text)
    letters = (letter for letter in decomposed if not unicodedata.combining(letter))
    return "".join(letter if " " <= letter <= "~" else "?" for letter in letters)


def text_width(text: str, size: int) -> int:
    """Width of a line of text."""
    return math.ceil(font(size).getlength(text))


def shorten(text: str, size: int, room: int) -> str:
    """Cut text, with an ellipsis, to at most `room` pixels; "" if not even the ellipsis fits."""
    if text_width(text, size) <= room:
        return text
    while text and text_width(f"{text}...", size) > room:
        text = text[:-1]
    return f"{text.rstrip()}..." if text else ""


def draw_text(
    draw: ImageDraw, position: tuple[float, float], text: str, *, size: int, anchor: str, fill: Any
) -> None:
    """Draw one line of text, aligned by the height of digits so that labels are level with their ticks.

    Args:
        draw: Draws on the picture.
        position: (x, y) of the anchor.
        text: ASCII.
        size: Size of the font.
        anchor: The point of the text that lies at the position: "l", "m" or "r", then "t", "m" or "b".
        fill: Colour.
    """
    letters = font(size)
    _, top, _, bottom = letters.getbbox("0")
    height = bottom - top
    width = letters.getlength(text)
    x = position[0] - {"l": 0.0, "m": width / 2, "r": width}[anchor[0]]
    y = position[1] - {"t": 0.0, "m": height / 2, "b": height}[anchor[1]] - top
    draw.text((round(x), round(y)), text, font=letters, fill=fill)
