"""Maps numbers to colours, from dark violet over red to pale yellow, with evenly rising lightness.

Equal steps of the value look like equal steps, also in black and white and to colour-blind readers. The
anchors are 17 points of "magma" (Smith and van der Walt, for matplotlib; CC0).
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]
Bytes: TypeAlias = NDArray[np.uint8]

_ANCHORS = (
    "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 "
    "d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
).split()


def apply_colormap(values: Floats) -> Bytes:
    """Map values to RGB.

    Args:
        values: Any shape; 0 is dark, 1 is bright. Clipped; NaN counts as 0.

    Returns:
        The shape of the values + (3,).
    """
    scaled = np.nan_to_num(values * 255.0, nan=0.0, posinf=255.0, neginf=0.0)
    return _table()[np.clip(np.rint(scaled), 0, 255).astype(np.uint8)]


@cache
def _table() -> Bytes:
    """(256, 3), linear between the anchors."""
    anchors = np.array([tuple(bytes.fromhex(anchor)) for anchor in _ANCHORS])
    positions = np.linspace(0, 255, len(anchors))
    channels = [np.interp(np.arange(256), positions, anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
