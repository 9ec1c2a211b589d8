"""Pictures and masks from files: one picture, a folder of them, or, for masks, a video.

N pictures, H height, W width.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..errors import MediaError
from .containers import open_frames, quarter_turns
from .probing import read_packet_times

if TYPE_CHECKING:
    from PIL.Image import Image

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")

_ENOUGH = 448  # pixels of the shorter side that are kept: twice what the encoders see
_ENOUGH_MASK = 224  # a video has thousands of masks: as much as the encoders see


def is_image_path(path: Path) -> bool:
    """Whether a path is a picture or a folder, rather than a video."""
    return path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES


def read_images(path: Path) -> Tensor:
    """A picture, or those of a folder in the order of their names (2 before 10): (N, H, W, 3) float32 0..1.

    Large ones are reduced, those of another size than the first are stretched to its size. Raises MediaError.
    """
    files = _files(path)
    return _stack(_opened(files, "RGB"), len(files), _ENOUGH).float().div_(255)


def read_masks(path: Path) -> Tensor:
    """Masks from a picture, a folder of them, or a video, one a frame: (N, H, W) uint8 0..255, by brightness.

    Their shorter side has at most 224 pixels: a minute at 25 frames a second takes 130 MB. As `read_images`
    otherwise.
    """
    if is_image_path(path):
        files = _files(path)
        return _stack(_opened(files, "L"), len(files), _ENOUGH_MASK)
    return _stack(_frames(path), len(read_packet_times(path)), _ENOUGH_MASK)


def _files(path: Path) -> list[Path]:
    """The picture, or those of a folder in their order. Raises MediaError for a folder without any."""
    files = sorted(_pictures_in(path), key=_natural) if path.is_dir() else [path]
    if not files:
        raise MediaError(f"The folder {path} holds no picture ({', '.join(IMAGE_SUFFIXES)}).")
    return files


def _opened(files: Sequence[Path], mode: str) -> Iterator[Image]:
    from PIL import Image, ImageOps

    for file in files:
        try:
            with Image.open(file) as image:
                upright = ImageOps.exif_transpose(image)
                if "A" in upright.getbands() or "transparency" in upright.info:
                    # or the hidden colours of transparent places would show up
                    black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
                    upright = Image.alpha_composite(black, upright.convert("RGBA"))
                yield upright.convert(mode)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise MediaError(f"{file} cannot be read as a picture ({error}): choose another file.") from None


def _frames(path: Path) -> Iterator[Image]:
    from PIL import Image

    with open_frames(path) as (_, _, shown):
        for _, frame in shown:
            # by way of RGB: grey alone would keep the video's range, where white is 235
            picture = frame.to_ndarray(format="rgb24", dst_colorspace="ITU601")
            upright = np.ascontiguousarray(np.rot90(picture, quarter_turns(frame)))
            yield Image.fromarray(upright).convert("L")


def _stack(pictures: Iterator[Image], expected: int, enough: int) -> Tensor:
    """(N, H, W[, 3]) uint8 of one size, of `enough` pixels on the shorter side at most.

    expected: about how many there are; there is room for so many from the beginning.
    """
    first = next(pictures, None)
    if first is None:
        raise MediaError("There is no picture in it: choose another file.")
    scale = min(1.0, enough / min(first.size))
    size = (round(first.width * scale), round(first.height * scale))
    shape = (size[1], size[0], len(first.getbands()))[: 2 if first.mode == "L" else 3]
    rows = torch.empty((max(1, expected), *shape), dtype=torch.uint8)
    count = 0
    for picture in chain([first], pictures):
        if abs(picture.width / picture.height * first.height / first.width - 1) > 0.01:
            log.warning("Picture %d has other proportions than the first: it is stretched.", count + 1)
        if count == len(rows):  # the video holds more than its packets told
            rows = torch.cat([rows, torch.empty_like(rows[: count // 4 + 1])])
        rows[count] = torch.from_numpy(np.array(picture if picture.size == size else picture.resize(size)))
        count += 1
    return rows[:count]


def _pictures_in(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return [path for path in found if path.is_file() and not path.name.startswith(".")]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sorts numbers in names by their value."""
    parts = re.findall(r"\d+|\D+", path.name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]
