"""Brings pictures upright: files can ask a player to turn or mirror what they store.

H height, W width. Source: ISO/IEC 14496-12, track header box, matrix; FFmpeg, libavutil/display.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    import numpy as np
    from av.video.frame import VideoFrame
    from torch import Tensor

    Picture = TypeVar("Picture", np.ndarray, Tensor)


@dataclass(frozen=True)
class Orientation:
    """How a stored picture is shown: first transposed, then mirrored.

    Attributes:
        transposed: Whether rows become columns.
        mirrored: Whether left and right are then swapped.
        flipped: Whether top and bottom are then swapped.
    """

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    @property
    def is_upright(self) -> bool:
        """Whether pictures are shown as they are stored."""
        return self == Orientation()

    @property
    def is_rotation(self) -> bool:
        """Whether the pictures are only turned, so that text in them stays legible."""
        return (self.transposed + self.mirrored + self.flipped) % 2 == 0

    def apply(self, picture: Picture, height_axis: int = 0) -> Picture:
        """Bring a picture upright.

        Args:
            picture: A numpy array or tensor; its height and width are neighbouring axes.
            height_axis: The axis of the height.

        Returns:
            A view of the picture.
        """
        rows, columns = height_axis, height_axis + 1
        if self.transposed:
            picture = picture.swapaxes(rows, columns)
        axes = [axis for axis, reverse in ((columns, self.mirrored), (rows, self.flipped)) if reverse]
        return _flip(picture, axes) if axes else picture

    def filters(self) -> list[tuple[str, str | None]]:
        """Name and argument of each FFmpeg filter that brings a frame upright."""
        steps: list[tuple[str, str | None, bool]] = [
            ("transpose", "cclock_flip", self.transposed),
            ("hflip", None, self.mirrored),
            ("vflip", None, self.flipped),
        ]
        return [(name, argument) for name, argument, needed in steps if needed]


def read_orientation(frame: VideoFrame) -> Orientation:
    """Read how a decoded frame is shown, to the nearest right angle.

    PyAV keeps a frame in memory after this until the next garbage collection: read one frame of a film.
    """
    from av.sidedata.sidedata import Type

    side_data: Any = frame.side_data
    data = side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return Orientation()
    # A pixel at (x, y) is shown at (a x + c y, b x + d y).
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(transposed=True, mirrored=c < 0, flipped=b < 0)
    return Orientation(mirrored=a < 0, flipped=d < 0)


def _flip(picture: Any, axes: list[int]) -> Any:
    """Reverse axes of a numpy array or a tensor; tensors have no negative strides."""
    import numpy as np
    import torch

    return picture.flip(axes) if isinstance(picture, torch.Tensor) else np.flip(picture, tuple(axes))
