"""A moving square, masks for it, and the features of a masked video."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiox_ext.conditioning.video_features import VideoFeatures, extract_video_features
from audiox_ext.media.frames import ImageSequence
from audiox_ext.media.object_mask import ObjectMask

WIDTH, HEIGHT = 96, 64
GREY = 128  # 0.5, in bytes


class FakeSync:
    """Stands in for Synchformer and records its frames, as bytes."""

    def __init__(self) -> None:
        self.frames = torch.empty(0)

    def __call__(self, frames: Tensor) -> Tensor:
        self.frames = ((frames[0] + 1) * 127.5).round().to(torch.uint8)
        return frames.mean(dim=(2, 3, 4))[..., None].expand(-1, -1, 16)


def extract(source: Any, mask: Any = None, **settings: Any) -> VideoFeatures:
    """Features of 2 s. mask: a tensor, or an ObjectMask."""
    if isinstance(mask, Tensor):
        mask = ObjectMask(mask=mask)
    source = io.BytesIO(source) if isinstance(source, bytes) else source
    settings = {"encode_sync": None, "seconds": 2} | settings
    return extract_video_features(source, mask=mask, **settings)


def square(index: int, width: int, height: int) -> np.ndarray:
    """A white square of 16 pixels on black, which moves to the right by one pixel per frame."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[24:40, index : index + 16] = 255
    return picture


def square_masks(count: int, margin: int = 0) -> Tensor:
    """(count, HEIGHT, WIDTH): 1 where the square is, and `margin` pixels around it."""
    masks = torch.zeros(count, HEIGHT, WIDTH)
    for index in range(count):
        left = max(0, index - margin)
        masks[index, 24 - margin : 40 + margin, left : index + 16 + margin] = 1
    return masks


def squares(count: int = 50, fps: float = 25) -> ImageSequence:
    """The moving square, exactly as it is drawn."""
    pictures = np.stack([square(index, WIDTH, HEIGHT) for index in range(count)])
    return ImageSequence(torch.from_numpy(pictures).float() / 255, fps)
