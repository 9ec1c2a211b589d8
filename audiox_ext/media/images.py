"""Reads images and masks from files: a single image, a folder of images, or, for masks, a video.

N images, H height, W width.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from ..utf8 import get_logger
from .containers import check_is_file, check_picture_size, open_frames
from .pictures import flatten_image, open_animation
from .probing import read_packet_times
from .tracks.colours import read_pixels

if TYPE_CHECKING:
    from PIL.Image import Image

log = get_logger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# Pillow tells formats by content, and knows some that start other programs (PostScript starts Ghostscript).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF")

# The longest shorter side in pixels; larger images are reduced.
_IMAGE_SIDE = 448  # twice the input of the encoders
_MOST_BYTES = 1 << 31  # of all pictures together, once reduced: 16 minutes of masks at 25 per second
_MASK_SIDE = 224  # the input of the encoders: a video has thousands of masks


def is_image_path(path: Path) -> bool:
    """Whether a path is an image or a folder, rather than a video; an animated image is a video."""
    return os.path.isdir(path) or (path.suffix.lower() in IMAGE_SUFFIXES and open_animation(path) is None)


def read_images(path: Path) -> Tensor:
    """Read an image, or all images of a folder in the order of their names (2 before 10).

    Large images are reduced. Images of another size than the first are stretched to its size. Transparent
    pixels are black. Of a file with several pictures the first is used, with a warning in the log.

    Returns:
        (N, H, W, 3) float32 in 0..1.

    Raises:
        MediaError: A file cannot be read, or the folder has no images.
    """
    files = _list_files(path)
    return _stack(_open_images(files, "RGB"), len(files), _IMAGE_SIDE).float().div_(255)


def read_masks(path: Path) -> Tensor:
    """Read masks by brightness from an image, a folder of images, or a video (one mask per frame).

    Transparent pixels are black, so they belong to the background.

    The shorter side is at most 224 pixels: a minute at 25 frames per second takes 130 MB.

    Returns:
        (N, H, W) uint8 in 0..255.

    Raises:
        MediaError: A file cannot be read, or the folder has no images.
    """
    if is_image_path(path):
        files = _list_files(path)
        return _stack(_open_images(files, "L"), len(files), _MASK_SIDE)
    return _stack(_decode_masks(path), len(read_packet_times(path)), _MASK_SIDE)


def _list_files(path: Path) -> list[Path]:
    """The image, or the images of a folder in order. Raises MediaError for a folder without images."""
    if not os.path.isdir(path):
        return [path]
    files = [
        file
        for file in path.iterdir()
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not file.name.startswith(".")
    ]
    if not files:
        raise MediaError(
            f"The folder {path} contains no images. Put {', '.join(IMAGE_SUFFIXES)} files into it."
        )
    return sorted(files, key=_natural_order)


def _open_images(files: Sequence[Path], mode: str) -> Iterator[Image]:
    """Images of a Pillow mode, upright, transparent pixels over black."""
    from PIL import Image

    for file in files:
        try:
            check_is_file(file)
            with Image.open(file, formats=_FORMATS) as image:
                check_picture_size(file, *image.size)
                # The further pictures in a phone's .jpg (MPO) are other sizes of the first.
                if getattr(image, "is_animated", False) and image.format != "MPO":
                    log.warning("%s has several pictures. Only the first is used.", file)
                yield flatten_image(image, mode)
        except MediaError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise MediaError(f"{file} is too large ({error}). Make it smaller.") from None
        except Exception as error:  # Pillow raises many types for damaged files, such as struct.error
            raise MediaError(f"{file} cannot be read as an image ({error}). Choose another file.") from None


def _decode_masks(path: Path) -> Iterator[Image]:
    """The frames of a video in grey, upright."""
    from PIL import Image

    animation = open_animation(path)
    if animation is not None:
        yield from (picture.convert("L") for _, picture in animation.read_frames())
        return
    with open_frames(path) as film:
        for _, frame in film.frames:
            # By way of RGB: grey alone would keep the video's range, where white is 235.
            upright = np.ascontiguousarray(film.orientation.apply(read_pixels(frame)))
            yield Image.fromarray(upright).convert("L")


def _stack(images: Iterator[Image], expected: int, max_side: int) -> Tensor:
    """(N, H, W[, 3]) uint8 of one size, with a shorter side of at most `max_side` pixels.

    expected: about how many images there are; memory for them is allocated at once.
    """
    first = next(images, None)
    if first is None:
        raise MediaError("The file contains no images. Choose another file.")
    scale = min(1.0, max_side / min(first.size))
    size = (round(first.width * scale), round(first.height * scale))
    if max(expected, 1) * size[0] * size[1] * len(first.getbands()) > _MOST_BYTES:
        raise MediaError(
            f"There are {expected} pictures of {size[0]} x {size[1]} pixels, and at most "
            f"{_MOST_BYTES // (size[0] * size[1] * len(first.getbands()))} fit into memory. Use fewer."
        )
    shape = (size[1], size[0], len(first.getbands()))[: 2 if first.mode == "L" else 3]
    rows = torch.empty((max(1, expected), *shape), dtype=torch.uint8)
    count = 0
    for image in chain([first], images):
        if abs(image.width / image.height * first.height / first.width - 1) > 0.01:
            log.warning("Image %d has other proportions than the first and is stretched.", count + 1)
        if count == len(rows):  # the video has more frames than its packets suggested
            rows = torch.cat([rows, torch.empty_like(rows[: count // 4 + 1])])
        rows[count] = torch.from_numpy(np.array(image if image.size == size else image.resize(size)))
        count += 1
    return rows[:count]


def _natural_order(path: Path) -> list[tuple[int, str]]:
    """Sort key that orders numbers in names by value."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
