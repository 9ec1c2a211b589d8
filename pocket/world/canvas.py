"""Antialiased shapes on a picture, seen through a camera.

How much of a pixel a shape covers follows from the distance to its edge.

World coordinates: x to the right, y up, the floor at y = 0; the camera sees about -1 to 1 across.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
Colour = tuple[float, float, float]  # 0 to 255


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Where pixels lie in the world. scale: pixels a unit. roll: radians. The centre is what is in the
    middle.
    """

    width: int
    height: int
    scale: float
    centre: Point
    roll: float = 0.0

    def pixel(self, point: Point) -> Point:
        """World -> pixels from the top left corner."""
        x, y = point[0] - self.centre[0], point[1] - self.centre[1]
        c, s = math.cos(self.roll), math.sin(self.roll)
        return self.width / 2 + self.scale * (c * x - s * y), self.height / 2 - self.scale * (s * x + c * y)

    def world(self) -> tuple[np.ndarray, np.ndarray]:
        """The (H, W) coordinates x and y of every pixel's middle."""
        across = (np.arange(self.width) + 0.5 - self.width / 2) / self.scale
        up = (self.height / 2 - np.arange(self.height) - 0.5) / self.scale
        c, s = math.cos(self.roll), math.sin(self.roll)
        x = c * across[None] + s * up[:, None] + self.centre[0]
        y = -s * across[None] + c * up[:, None] + self.centre[1]
        return x.astype(np.float32), y.astype(np.float32)


class Canvas:
    """A picture (H, W, 3) float32 in 0..255 that shapes are drawn on. Sizes are in world units."""

    def __init__(self, picture: np.ndarray, camera: Camera) -> None:
        self.picture, self.camera = picture, camera

    def disc(
        self, centre: Point, radius: float, colour: Colour, *, squash: float = 1.0, alpha: float = 1.0
    ) -> None:
        """A disc; squash: its height as a share of its width, its foot staying where it is not."""
        size = radius * self.camera.scale
        area = self._area([centre], size)
        if area is None:
            return
        x, y = self._offsets(area, centre)
        distance = (np.hypot(x, y / squash) - size) * min(1.0, squash)
        self._blend(area, distance, colour, alpha)

    def ring(self, centre: Point, radius: float, width: float, colour: Colour) -> None:
        """A circle of that radius, drawn with a line of that width."""
        size, half = radius * self.camera.scale, width * self.camera.scale / 2
        area = self._area([centre], size + half)
        if area is not None:
            x, y = self._offsets(area, centre)
            self._blend(area, np.abs(np.hypot(x, y) - size) - half, colour, 1.0)

    def line(self, start: Point, end: Point, width: float, colour: Colour, *, alpha: float = 1.0) -> None:
        """A line with round ends."""
        half = max(0.5, width * self.camera.scale / 2)
        area = self._area([start, end], half)
        if area is None:
            return
        x, y = self._offsets(area, start)
        p, q = self.camera.pixel(start), self.camera.pixel(end)
        dx, dy = q[0] - p[0], q[1] - p[1]
        share = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        self._blend(area, np.hypot(x - share * dx, y - share * dy) - half, colour, alpha)

    def box(
        self, centre: Point, size: Point, colour: Colour, *, angle: float = 0.0, alpha: float = 1.0
    ) -> None:
        """A rectangle of (width, height), turned counter-clockwise by an angle in radians."""
        half = (size[0] * self.camera.scale / 2, size[1] * self.camera.scale / 2)
        area = self._area([centre], math.hypot(*half))
        if area is None:
            return
        x, y = self._offsets(area, centre)
        c, s = math.cos(angle + self.camera.roll), math.sin(angle + self.camera.roll)
        along, across = np.abs(c * x - s * y) - half[0], np.abs(s * x + c * y) - half[1]
        distance = np.hypot(np.maximum(along, 0), np.maximum(across, 0)) + np.minimum(
            np.maximum(along, across), 0
        )
        self._blend(area, distance, colour, alpha)

    def glow(self, centre: Point, radius: float, colour: Colour) -> None:
        """Light that is added, and falls off over the radius."""
        x, y = self._offsets((0, 0, self.camera.width, self.camera.height), centre)
        share = np.exp(-(x * x + y * y) / (2 * (radius * self.camera.scale) ** 2))
        self.picture += share[..., None] * np.array(colour, dtype=np.float32)

    def _area(self, points: list[Point], margin: float) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) in pixels of what may be covered; None if it is out of sight."""
        pixels = [self.camera.pixel(point) for point in points]
        left = max(0, math.floor(min(p[0] for p in pixels) - margin - 1))
        top = max(0, math.floor(min(p[1] for p in pixels) - margin - 1))
        right = min(self.camera.width, math.ceil(max(p[0] for p in pixels) + margin + 1))
        bottom = min(self.camera.height, math.ceil(max(p[1] for p in pixels) + margin + 1))
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _offsets(self, area: tuple[int, int, int, int], point: Point) -> tuple[np.ndarray, np.ndarray]:
        """Pixels from a point, to the right (1, W) and down (H, 1)."""
        px, py = self.camera.pixel(point)
        left, top, right, bottom = area
        x = np.arange(left, right, dtype=np.float32) + np.float32(0.5 - px)
        y = np.arange(top, bottom, dtype=np.float32) + np.float32(0.5 - py)
        return x[None], y[:, None]

    def _blend(
        self, area: tuple[int, int, int, int], distance: np.ndarray, colour: Colour, alpha: float
    ) -> None:
        left, top, right, bottom = area
        cover = (np.clip(0.5 - distance, 0, 1) * np.float32(alpha))[..., None]
        part = self.picture[top:bottom, left:right]
        part += cover * (np.array(colour, dtype=np.float32) - part)
