"""Rotary position embedding: the angles, float32 always (Su et al. 2021, arXiv 2104.09864)."""

from __future__ import annotations

import torch
from torch import Tensor


class RotaryTable:
    """Cosines and sines of positions 0, 1, ..., base 10000, for `width` channels; the last ones are kept.

    A half-precision checkpoint holds the frequencies rounded, so they are made anew.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._kept: tuple[int, torch.device, tuple[Tensor, Tensor]] | None = None

    def table(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosines and sines, each (length, width / 2), float32."""
        kept = self._kept
        if kept is None or kept[:2] != (length, device):
            # Outside inference mode, whose tensors could never be used in training.
            with torch.inference_mode(False):
                kept = self._kept = (length, device, self._made(length, device))
        return kept[2]  # and not what another thread may have put in its place

    def _made(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        steps = torch.arange(0, self._width, 2, dtype=torch.float32, device=device)
        inverse = 10000.0 ** (-steps / self._width)
        angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * inverse
        return angles.cos(), angles.sin()
