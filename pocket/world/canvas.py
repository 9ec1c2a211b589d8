"""Antialiased shapes on a picture, seen through a camera.

The coverage of a pixel follows from its distance to the edge of the shape.

World coordinates: x to the right, y up, the floor at y = 0. The camera sees about -1 to 1 across.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
Colour = tuple[float, float, float]  # 0 to 255


@dataclass(frozen=True, kw_only=True)
class Camera:
    """The mapping between the world and pixels.

    Attributes:
        width: Pixels.
        height: Pixels.
        scale: Pixels per unit.
        centre: The point in the middle of the picture.
        roll: Radians.
    """

    width: int
    height: int
    scale: float
    centre: Point
    roll: float = 0.0

    def pixel(self, point: Point) -> Point:
        """Convert a point of the world to pixels from the top left corner.

        Args:
            point: (x, y).
        """
        x, y = point[0] - self.centre[0], point[1] - self.centre[1]
        c, s = math.cos(self.roll), math.sin(self.roll)
        return self.width / 2 + self.scale * (c * x - s * y), self.height / 2 - self.scale * (s * x + c * y)

    def world(self) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates x and y of the pixels' centres, each (H, W)."""
        across = (np.arange(self.width) + 0.5 - self.width / 2) / self.scale
        up = (self.height / 2 - np.arange(self.height) - 0.5) / self.scale
        c, s = math.cos(self.roll), math.sin(self.roll)
        x = c * across[None] + s * up[:, None] + self.centre[0]
        y = -s * across[None] + c * up[:, None] + self.centre[1]
        return x.astype(np.float32), y.astype(np.float32)


class Canvas:
    """A picture (H, W, 3) float32 in [0, 255] with drawing methods. Sizes are in world units.

    Args:
        picture: The picture, which is drawn on in place.
        camera: Its camera.
    """

    def __init__(self, picture: np.ndarray, camera: Camera) -> None:
        """See the class."""
        self.picture, self.camera = picture, camera

    def disc(
        self, centre: Point, radius: float, colour: Colour, *, squash: float = 1.0, alpha: float = 1.0
    ) -> None:
        """Draw a disc.

        Args:
            centre: Centre.
            radius: Radius.
            colour: Colour.
            squash: Height as a fraction of the width.
            alpha: Opacity.
        """
        size = radius * self.camera.scale
        area = self._area([centre], size)
        if area is None:
            return
        x, y = self._offsets(area, centre)
        distance = (np.hypot(x, y / squash) - size) * min(1.0, squash)
        self._blend(area, distance, colour, alpha)

    def ring(self, centre: Point, radius: float, width: float, colour: Colour) -> None:
        """Draw a circle.

        Args:
            centre: Centre.
            radius: Radius.
            width: Width of the line.
            colour: Colour.
        """
        size, half = radius * self.camera.scale, width * self.camera.scale / 2
        area = self._area([centre], size + half)
        if area is not None:
            x, y = self._offsets(area, centre)
            self._blend(area, np.abs(np.hypot(x, y) - size) - half, colour, 1.0)

    def line(self, start: Point, end: Point, width: float, colour: Colour, *, alpha: float = 1.0) -> None:
        """Draw a line with round ends.

        Args:
            start: One end.
            end: The other end.
            width: Width.
            colour: Colour.
            alpha: Opacity.
        """
        half = max(0.5, width * self.camera.scale / 2)
        area = self._area([start, end], half)
        if area is None:
            return
        x, y = self._offsets(area, start)
        p, q = self.camera.pixel(start), self.camera.pixel(end)
        dx, dy = q[0] - p[0], q[1] - p[1]
        fraction = np.clip((x * dx + y * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        self._blend(area, np.hypot(x - fraction * dx, y - fraction * dy) - half, colour, alpha)

    def box(
        self, centre: Point, size: Point, colour: Colour, *, angle: float = 0.0, alpha: float = 1.0
    ) -> None:
        """Draw a rectangle.

        Args:
            centre: Centre.
            size: (width, height).
            colour: Colour.
            angle: Counter-clockwise rotation in radians.
            alpha: Opacity.
        """
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
        """Add light that falls off with the distance.

        Args:
            centre: Centre.
            radius: Standard deviation of the falloff.
            colour: Colour.
        """
        x, y = self._offsets((0, 0, self.camera.width, self.camera.height), centre)
        fraction = np.exp(-(x * x + y * y) / (2 * (radius * self.camera.scale) ** 2))
        self.picture += fraction[..., None] * np.array(colour, dtype=np.float32)

    def _area(self, points: list[Point], margin: float) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) in pixels of what a shape may cover; None if it is out of sight."""
        pixels = [self.camera.pixel(point) for point in points]
        left = max(0, math.floor(min(p[0] for p in pixels) - margin - 1))
        top = max(0, math.floor(min(p[1] for p in pixels) - margin - 1))
        right = min(self.camera.width, math.ceil(max(p[0] for p in pixels) + margin + 1))
        bottom = min(self.camera.height, math.ceil(max(p[1] for p in pixels) + margin + 1))
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _offsets(self, area: tuple[int, int, int, int], point: Point) -> tuple[np.ndarray, np.ndarray]:
        """Distances of pixels from a point, to the right (1, W) and down (H, 1)."""
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
