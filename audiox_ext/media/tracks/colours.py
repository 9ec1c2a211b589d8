"""Converts decoded pictures to RGB for the models, and to YUV for encoders, without changing their colours.

H height, W width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # PyAV is loaded only when a file is opened
    from av.video.frame import VideoFrame

# FFmpeg's numbers for matrices (AVColorSpace) and ranges (AVColorRange).
_RGB, _BT709 = 0, 1
_LIMITED, _FULL = 1, 2


def read_pixels(frame: VideoFrame) -> np.ndarray:
    """Convert a decoded frame to RGB by its own matrix and range; transparent pixels lie over black.

    Returns:
        (H, W, 3) uint8, as stored: neither turned nor stretched.
    """
    # RGB has no matrix of its own, but older PyAV uses the source's matrix only if another is named here.
    if not _has_alpha(frame):
        return frame.to_ndarray(format="rgb24", dst_colorspace="ITU601")
    pixels = frame.to_ndarray(format="rgba", dst_colorspace="ITU601")
    colour, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:]
    return ((colour * alpha + 127) // 255).astype(np.uint8)


def to_yuv420(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    """Convert a decoded frame to yuv420p of a size.

    YUV keeps its matrix and range. RGB becomes BT.709 of limited range, which every player expects.
    """
    import av

    matrix, colour_range = choose_yuv(frame)
    if _has_alpha(frame):
        frame = av.VideoFrame.from_ndarray(read_pixels(frame), format="rgb24")
    limits: Any = "JPEG" if colour_range == _FULL else "MPEG"
    if _is_rgb(frame):
        yuv = frame.reformat(width, height, "yuv420p", dst_colorspace="ITU709", dst_color_range=limits)
    else:
        yuv = frame.reformat(width, height, "yuv420p", src_color_range=limits, dst_color_range=limits)
    yuv.colorspace, yuv.color_range = matrix, colour_range
    return yuv


def choose_yuv(frame: VideoFrame) -> tuple[int, int]:
    """Choose FFmpeg's numbers of the matrix and the range that `to_yuv420` gives a frame."""
    if _is_rgb(frame) or _has_alpha(frame):
        return _BT709, _LIMITED
    is_full = frame.color_range == _FULL or frame.format.name.startswith("yuvj")
    return frame.colorspace, _FULL if is_full else frame.color_range


def _is_rgb(frame: VideoFrame) -> bool:
    return frame.format.is_rgb or frame.colorspace == _RGB


def _has_alpha(frame: VideoFrame) -> bool:
    """Whether pixels can be transparent; the colours of a palette can be."""
    return frame.format.has_palette or any(component.is_alpha for component in frame.format.components)
