"""Pictures that are played as a video: batches of images, and animated image files (GIF, WebP, APNG).

Transparent pixels may hide colours that nobody sees, so they are black here, as they are in films.

N images, H height, W width, C channels.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..errors import InputError, MediaError, is_number, quote_value
from ..utf8 import get_logger
from .containers import MediaSource, check_picture_size, source_name

if TYPE_CHECKING:
    from PIL.Image import Image

log = get_logger(__name__)

_ORIENTATION = 0x0112  # the tag of Exif

# Browsers show a frame without a time, or with one this short, for a tenth of a second.
_SHORTEST_FRAME, _UNTIMED_FRAME = 0.0101, 0.1
# Pixels of all frames of an animation together, such as 4000 frames in full HD. All are decoded to know when
# the last is shown.
_MOST_ANIMATED_PIXELS = 1 << 33


@dataclass(frozen=True)
class ImageSequence:
    """A batch of images that is played as a video.

    Attributes:
        images: (N, H, W, C) floating point, 0..1 (clamped); C is 1 (grey), 3 (RGB) or 4 (RGBA over black).
        fps: Frames per second; for a slideshow, 1 / the seconds that each image is shown.
    """

    images: Tensor
    fps: float

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return len(self.images) / self.fps

    def check(self) -> None:
        """Check shape, type and frame rate.

        Raises:
            InputError: The images cannot be played as a video.
        """
        images, fps = self.images, self.fps
        if not isinstance(images, Tensor):
            raise InputError(
                f"The images are a {type(images).__name__}, not a tensor. Connect images, or decode latents."
            )
        if not (is_number(fps) and fps > 0):
            raise InputError(f"fps of the images is {quote_value(fps)}. Give a frame rate above 0.")
        if images.ndim != 4 or 0 in images.shape or images.shape[-1] not in (1, 3, 4):
            raise InputError(
                f"The images have shape {tuple(images.shape)}. Connect a batch of shape (count, height, "
                "width, channels) with at least one image and 1, 3 or 4 channels."
            )
        if not images.is_floating_point():
            raise InputError(f"The images are {images.dtype}. Convert them to floating point in 0..1.")

    def read_frames(
        self, check_cancelled: Callable[[], None] | None = None, start: float = 0.0
    ) -> Iterator[tuple[float, Tensor]]:
        """Iterate over the images from the one on screen at `start` on.

        Args:
            check_cancelled: Called for every image; may raise.
            start: Seconds.

        Yields:
            (seconds, image) pairs.
        """
        for index in range(math.floor(start * self.fps), len(self.images)):
            if check_cancelled is not None:
                check_cancelled()
            yield index / self.fps, self.images[index]


@dataclass(frozen=True, kw_only=True)
class Animation:
    """An animated image file. FFmpeg reads no animated WebP, so Pillow reads all of them.

    Attributes:
        source: The file.
        times: Seconds at which each frame appears, ascending from 0.
        duration: Seconds until the last frame ends; the animation is played once.
        width: Pixels.
        height: Pixels.
    """

    source: MediaSource
    times: tuple[float, ...]
    duration: float
    width: int
    height: int

    @property
    def fps(self) -> float:
        """Average frames per second."""
        return len(self.times) / self.duration

    def read_frames(
        self, check_cancelled: Callable[[], None] | None = None, start: float = 0.0
    ) -> Iterator[tuple[float, Image]]:
        """Decode the frames one by one, so that memory does not grow with their number.

        Args:
            check_cancelled: Called for every frame; may raise.
            start: Seconds; unused, because a frame is a change to the one before it.

        Yields:
            (seconds, picture) pairs; the pictures are RGB, upright, transparent pixels black.
        """
        frames = _decode(self.source)
        for time, (_, frame) in zip(self.times, frames, strict=False):
            if check_cancelled is not None:
                check_cancelled()
            yield time, flatten_image(frame, "RGB")


def open_animation(source: Any) -> Animation | None:
    """Read the times of the frames of an animated image file.

    Args:
        source: A path, a seekable binary file, or anything else, for which the result is None.

    Returns:
        The animation; None for videos, for still images, and for what cannot be read.

    Raises:
        MediaError: The animation is too large.
    """
    if isinstance(source, str | Path) and not os.path.isfile(source):  # a pipe would wait for ever
        return None
    try:
        if isinstance(source, str | Path):
            stat = Path(source).stat()
            times = _read_times_of_file(str(source), stat.st_size, stat.st_mtime_ns)
        elif hasattr(source, "seek"):
            times = _read_times(source)
        else:
            return None
    except OSError:
        return None  # whoever reads the file gives the reason
    if times is None:
        return None
    starts, duration, (width, height) = times
    return Animation(source=source, times=starts, duration=duration, width=width, height=height)


def check_film(source: MediaSource) -> None:
    """Check that a video is not an animated WebP, whose pictures cannot be copied into a film.

    Raises:
        MediaError: It is one.
    """
    if open_animation(source) is not None and _find_format(source) == "WEBP":
        raise MediaError(
            f"{source_name(source)} is an animated WebP, which FFmpeg cannot read, so no sound can be put on "
            "it. Convert it to .mp4 first, or write a sound file."
        )


def flatten_image(image: Image, mode: str) -> Image:
    """Turn an image upright, lay transparent pixels over black, and convert it to a mode of Pillow."""
    from PIL import Image as PilImage
    from PIL import ImageOps

    is_turned = image.getexif().get(_ORIENTATION, 1) != 1
    upright = ImageOps.exif_transpose(image) if is_turned else image
    if "A" in upright.getbands() or "transparency" in upright.info:
        black = PilImage.new("RGBA", upright.size, (0, 0, 0, 255))
        upright = PilImage.alpha_composite(black, upright.convert("RGBA"))
    return upright.convert(mode)


def lay_over_black(images: Tensor) -> Tensor:
    """Convert grey or RGBA images to RGB; transparent pixels become black.

    Args:
        images: (..., C) floating point in 0..1, C 1 (grey), 3 (RGB) or 4 (RGBA).

    Returns:
        (..., 3), the same tensor if it is RGB.
    """
    if images.shape[-1] == 4:
        return images[..., :3] * images[..., 3:]
    return images.expand(*images.shape[:-1], 3)


_Times = tuple[tuple[float, ...], float, tuple[int, int]]
"""(start of each frame in seconds, seconds in all, (width, height))."""


@lru_cache(maxsize=64)
def _read_times_of_file(path: str, size: int, mtime_ns: int) -> _Times | None:
    """As `_read_times`, once while the file's size and modification time stay the same."""
    return _read_times(path)


def _read_times(source: MediaSource) -> _Times | None:
    """Read when each frame appears; Pillow knows it only when it has decoded the frame."""
    starts, end, size = [], 0.0, (0, 0)
    for seconds, frame in _decode(source):
        starts.append(end)
        end += seconds
        size = flatten_image(frame, "L").size if len(starts) == 1 else size
    return (tuple(starts), end, size) if len(starts) > 1 else None


def _decode(source: MediaSource) -> Iterator[tuple[float, Image]]:
    """(seconds on screen, frame) pairs of an animation; none for another file.

    A frame is valid until the next.
    """
    from PIL import Image, UnidentifiedImageError

    kind = _find_format(source)
    if kind is None:
        return
    try:
        with Image.open(source, formats=[kind]) as image:
            check_picture_size(source, *image.size)
            count = getattr(image, "n_frames", 1)
            # The default image of an APNG is for programs that show no animations.
            first = int(bool(getattr(image, "default_image", False)))
            if count - first < 2:
                return
            for index in range(first, count):
                if image.width * image.height * (index - first) > _MOST_ANIMATED_PIXELS:
                    raise MediaError(
                        f"{source_name(source)} has more than {index - first} frames of {image.width} x "
                        f"{image.height} pixels, too many for an animated picture. Convert it to .mp4."
                    )
                image.seek(index)
                image.load()
                seconds = image.info.get("duration", 0) / 1000
                yield (seconds if seconds > _SHORTEST_FRAME else _UNTIMED_FRAME), image
    except UnidentifiedImageError:
        return
    except MediaError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaError(f"{source_name(source)} is too large ({error}). Make it smaller.") from None
    except Exception as error:  # Pillow raises many types for damaged files, such as struct.error
        log.warning("%s is damaged (%s). Using the frames before the damage.", source_name(source), error)


def _find_format(source: MediaSource) -> str | None:
    """Tell a format that has animations by the first bytes, so that Pillow is not tried on every film."""
    if isinstance(source, str | Path):
        with open(source, "rb") as file:
            start = file.read(12)
    else:
        source.seek(0)
        start = source.read(12)
        source.seek(0)
    if start.startswith(b"GIF8"):
        return "GIF"
    if start.startswith(b"\x89PNG"):
        return "PNG"
    return "WEBP" if start.startswith(b"RIFF") and start.endswith(b"WEBP") else None
