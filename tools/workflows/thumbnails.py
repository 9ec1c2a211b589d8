"""Pictures for ComfyUI's list of templates: the input of a workflow and its output."""

from __future__ import annotations

import math
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL

from .parts import Workflow

WIDTH, HEIGHT = 480, 300
_SHARPER = 3  # drawn larger and scaled down, for smooth edges
_CARD_WIDTH, _CARD_GAP, _MARGIN = 150, 14, 22
_BACKGROUND, _CARD, _EDGE = "#1b1d22", "#2b2f38", "#4a5160"
_PALE, _BLUE, _ORANGE, _GREEN = "#d8dee9", "#6cb6ff", "#ffb454", "#7fd6a4"

Box = tuple[float, float, float, float]


def draw_thumbnail(workflow: Workflow) -> Image.Image:
    """Draw the thumbnail of a workflow, 480 x 300 pixels, RGB."""
    image = Image.new("RGB", (WIDTH * _SHARPER, HEIGHT * _SHARPER), _BACKGROUND)
    pen = _Pen(ImageDraw.Draw(image))
    inputs, outputs = workflow.thumbnail
    left, right = _MARGIN, WIDTH - _MARGIN - _CARD_WIDTH
    _draw_cards(pen, inputs, left)
    _draw_cards(pen, outputs, right)
    own = "pocket" if workflow.model == DEFAULT_MODEL else "AudioX"
    names = ("SelVA", own) if "SelVA" in workflow.purpose else (own,)
    _draw_arrow(pen, left + _CARD_WIDTH + 12, right - 12, names)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


class _Pen:
    """Draws in pixels of the finished picture."""

    def __init__(self, draw: ImageDraw.ImageDraw) -> None:
        self._draw = draw

    def box(self, box: Box, colour: str, radius: float = 0, edge: str | None = None) -> None:
        """A filled rectangle with round corners."""
        scaled = [value * _SHARPER for value in box]
        self._draw.rounded_rectangle(
            scaled, radius * _SHARPER, fill=colour, outline=edge, width=2 * _SHARPER if edge else 0
        )

    def disc(self, x: float, y: float, radius: float, colour: str, flat: float = 1.0) -> None:
        """A filled circle, or an ellipse where `flat` is below 1."""
        box = [x - radius, y - radius * flat, x + radius, y + radius * flat]
        self._draw.ellipse([value * _SHARPER for value in box], fill=colour)

    def shape(self, points: list[tuple[float, float]], colour: str) -> None:
        """A filled polygon."""
        self._draw.polygon([(x * _SHARPER, y * _SHARPER) for x, y in points], fill=colour)

    def words(self, text: str, x: float, y: float, size: float, colour: str) -> None:
        """Words in the middle of (x, y)."""
        font = ImageFont.load_default(size * _SHARPER)
        self._draw.text((x * _SHARPER, y * _SHARPER), text, colour, font, anchor="mm")


def _draw_cards(pen: _Pen, kinds: tuple[str, ...], left: float) -> None:
    """One card below the other, in the middle of the height."""
    space = HEIGHT - 2 * _MARGIN - _CARD_GAP * (len(kinds) - 1)
    height = min(112, space / len(kinds))
    top = (HEIGHT - height * len(kinds) - _CARD_GAP * (len(kinds) - 1)) / 2
    for number, kind in enumerate(kinds):
        y = top + number * (height + _CARD_GAP)
        pen.box((left, y, left + _CARD_WIDTH, y + height), _CARD, radius=10, edge=_EDGE)
        _DRAWINGS[kind](pen, (left + 14, y + 12, left + _CARD_WIDTH - 14, y + height - 12), number)


def _draw_arrow(pen: _Pen, left: float, right: float, names: tuple[str, ...]) -> None:
    y = HEIGHT / 2
    pen.box((left, y - 3, right - 12, y + 3), _EDGE, radius=3)
    pen.shape([(right, y), (right - 16, y - 11), (right - 16, y + 11)], _EDGE)
    middle = (left + right) / 2 - 4
    for number, name in enumerate(names):
        above = y + (number - (len(names) - 1) / 2) * 44
        pen.box((middle - 42, above - 19, middle + 42, above + 19), _ORANGE, radius=19)
        pen.words(name, middle, above, 18, _BACKGROUND)


def _text(pen: _Pen, box: Box, number: int) -> None:
    left, top, right, bottom = box
    pen.words('"', left + 8, top + 14, 38, _ORANGE)
    for line, length in enumerate((0.95, 0.8, 0.9, 0.5)):
        y = top + 6 + line * (bottom - top - 8) / 4
        start = left + 24
        pen.box((start, y, start + (right - start) * length, y + 7), _PALE, radius=3)


def _timeline(pen: _Pen, box: Box, number: int) -> None:
    left, top, right, bottom = box
    parts, colours = ((0, 0.3), (0.3, 0.65), (0.65, 1)), (_GREEN, _BLUE, _ORANGE)
    for row, ((start, end), colour) in enumerate(zip(parts, colours, strict=True)):
        y = top + row * (bottom - top) / 3.4
        width = right - left
        pen.box((left + start * width, y, left + end * width - 2, y + 14), colour, radius=4)
    pen.box((left, bottom - 5, right, bottom - 3), _EDGE)


def _video(pen: _Pen, box: Box, number: int) -> None:
    left, top, right, bottom = box
    x, y, size = (left + right) / 2, (top + bottom) / 2, min(22, (bottom - top) / 3)
    pen.box(box, "#11141a", radius=4)
    for hole in range(8):
        at = left + 5 + hole * (right - left - 8) / 8
        for edge in (top + 3, bottom - 9):
            pen.box((at, edge, at + 8, edge + 6), _EDGE, radius=1)
    pen.shape([(x - size * 0.7, y - size), (x + size, y), (x - size * 0.7, y + size)], _BLUE)


def _picture(pen: _Pen, box: Box, number: int) -> None:
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    pen.box(box, ("#29425c", "#5c3a29", "#2f4d33")[number % 3], radius=4)
    pen.disc(left + width * (0.25 + 0.25 * number), top + height * 0.3, height * 0.15, _ORANGE)
    for peak, high in ((0.3, 0.45), (0.7, 0.65)):
        x = left + width * peak
        pen.shape(
            [(x - width * 0.28, bottom), (x, bottom - height * high), (x + width * 0.28, bottom)], _PALE
        )


def _mask(pen: _Pen, box: Box, number: int) -> None:
    left, top, right, bottom = box
    pen.box(box, "#000000", radius=4)
    x, y, size = left + (right - left) * 0.6, (top + bottom) / 2, (bottom - top) * 0.3
    pen.disc(x, y, size, "#ffffff")
    pen.disc(x - size * 0.9, y + size * 0.6, size * 0.6, "#ffffff")


def _levels(count: int, seed: int) -> list[float]:
    """Heights of a waveform's bars, 0..1."""
    return [
        0.15 + 0.85 * abs(math.sin(index * 0.9 + seed) * math.cos(index * 0.37 + 2.1 * seed))
        for index in range(count)
    ]


def _wave(pen: _Pen, box: Box, number: int, colour: Callable[[float], str]) -> None:
    """A waveform; `colour` of the place along it, 0..1."""
    left, top, right, bottom = box
    count, middle = 20, (top + bottom) / 2
    for index, level in enumerate(_levels(count, number)):
        x, half = left + index * (right - left) / count, level * (bottom - top) / 2
        pen.box((x, middle - half, x + 4, middle + half), colour(index / count), radius=2)


def _sound(pen: _Pen, box: Box, number: int) -> None:
    _wave(pen, box, number, lambda place: _GREEN)


def _in_regions(place: float) -> bool:
    return 0.2 <= place < 0.4 or 0.65 <= place < 0.85


def _holes(pen: _Pen, box: Box, number: int) -> None:
    _wave(pen, box, number, lambda place: _EDGE if _in_regions(place) else _GREEN)


def _filled(pen: _Pen, box: Box, number: int) -> None:
    _wave(pen, box, number, lambda place: _ORANGE if _in_regions(place) else _GREEN)


def _longer(pen: _Pen, box: Box, number: int) -> None:
    _wave(pen, box, number, lambda place: _ORANGE if place >= 0.4 else _GREEN)


def _part(pen: _Pen, box: Box, number: int) -> None:
    _wave(pen, box, number, lambda place: _EDGE if place >= 0.4 else _GREEN)


def _music(pen: _Pen, box: Box, number: int) -> None:
    left, top, right, bottom = box
    size = bottom - top
    x, head = (left + right) / 2, size * 0.16
    for offset in (-size * 0.3, size * 0.3):
        pen.disc(x + offset, bottom - head, head, _GREEN, flat=0.8)
        stem = x + offset + head
        pen.box((stem - 5, top + 4, stem, bottom - head), _GREEN)
    pen.box((x - size * 0.3 + head - 5, top, x + size * 0.3 + head, top + size * 0.16), _GREEN, radius=2)


_DRAWINGS: dict[str, Callable[[_Pen, Box, int], None]] = {
    "filled": _filled,
    "holes": _holes,
    "longer": _longer,
    "mask": _mask,
    "music": _music,
    "part": _part,
    "picture": _picture,
    "sound": _sound,
    "text": _text,
    "timeline": _timeline,
    "video": _video,
}
