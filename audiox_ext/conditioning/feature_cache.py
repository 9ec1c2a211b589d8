"""Stores extracted video features on disk: as a file of the user's choice, and in a cache folder.

Each result is one safetensors file. In the cache its name is a hash of the video's content and of every
setting, so an entry can be old but never wrong. Files are written under another name and then renamed, so
several processes may share a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch
from torch import Tensor

from ..errors import AudioXError, InputError
from ..files import is_temporary, write_atomically
from ..media.frames import VideoSource
from ..media.pictures import ImageSequence
from ..utf8 import get_logger
from .video_features import FRAME_SIZE, VideoFeatures

if TYPE_CHECKING:
    from ..media.object_mask import ObjectMask

log = get_logger(__name__)

FORMAT = 2  # raise it whenever the same settings begin to give other features

_SUFFIX = ".safetensors"
_STALE_AFTER = 3600.0  # seconds; older temporary files are leftovers of a crash
_BLOCK = 1 << 20  # bytes
_LARGEST_FILE = 3 << 30  # bytes: 600 s at 25 frames per second


class FeatureCache:
    """A folder of features with a size limit; the least recently used entries are deleted first.

    A problem with the folder never stops a run: it is logged, and the features are computed.
    """

    def __init__(self, folder: Path, limit_bytes: int = 2 << 30) -> None:
        """Use a folder, which is created when the first entry is stored.

        Args:
            folder: Folder of the entries.
            limit_bytes: Largest size of all entries together.
        """
        self.folder, self.limit_bytes = Path(folder), limit_bytes

    def key(
        self,
        source: VideoSource,
        settings: tuple[float | str, ...],
        sync_fingerprint: str,
        mask: ObjectMask | None = None,
    ) -> str:
        """Name the entry for this content and these settings.

        Unreadable files get a key as well: extraction gives the better error message.

        Args:
            source: The video.
            settings: Every setting that changes the features.
            sync_fingerprint: Identifies the Synchformer weights; "" without them.
            mask: The object mask, if there is one.
        """
        parts: tuple[Any, ...] = (FORMAT, _content(source), settings, sync_fingerprint)
        if mask is not None:
            parts += (_images_digest(mask.masks, ""), float(mask.strength), mask.clip, mask.sync)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def get(self, key: str) -> VideoFeatures | None:
        """Return the stored features, bit for bit, or None. A damaged entry is deleted."""
        path = self._path(key)
        try:
            data = _read(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("Cached features %s cannot be read: %s", path, error)
            return None
        try:
            features = unpack_features(data)
        except Exception as error:  # the parsers raise many types for damaged files
            log.warning("Cached features %s are damaged (%s). Extracting them again.", path, error)
            _delete(path)
            return None
        try:
            os.utime(path)  # marks it as the most recently used
        except OSError as error:
            log.debug("%s: %s", path, error)
        return features

    def put(self, key: str, features: VideoFeatures) -> None:
        """Store features, then delete the least recently used entries beyond the limit."""
        path = self._path(key)
        try:
            with write_atomically(path) as temporary:
                temporary.write_bytes(pack_features(features))
            self._evict()
        except (AudioXError, OSError) as error:
            log.warning("Features are not cached in %s: %s", self.folder, error)

    def _path(self, key: str) -> Path:
        return self.folder / (key + _SUFFIX)

    def _evict(self) -> None:
        """Delete the oldest entries beyond the limit, and leftovers of crashes."""
        entries = [
            entry for entry in self._files() if entry[0].suffix == _SUFFIX and not is_temporary(entry[0])
        ]
        entries.sort(key=lambda entry: entry[1].st_mtime_ns, reverse=True)
        total = 0
        for path, stat in entries:  # the most recently used first
            total += stat.st_size
            if total > self.limit_bytes:
                _delete(path)
        for path, stat in self._files():
            if is_temporary(path) and time.time() - stat.st_mtime > _STALE_AFTER:
                _delete(path)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in list(self.folder.iterdir()):
            try:
                yield path, path.stat()
            except OSError:  # another process has deleted it
                continue


def write_features(path: Path, features: VideoFeatures) -> None:
    """Write features to a .safetensors file, which appears only once it is complete.

    Raises:
        InputError: The file cannot be written.
    """
    data = pack_features(features)
    with write_atomically(path) as temporary:
        temporary.write_bytes(data)


def read_features(path: Path) -> VideoFeatures:
    """Read a file of `write_features`.

    Raises:
        InputError: The file cannot be read, or does not contain intact video features.
    """
    try:
        features = unpack_features(_read(path))
    except OSError as error:
        raise InputError(
            f"The features {path} cannot be read ({error}). Check the path, or extract them again."
        ) from None
    except Exception as error:  # the parsers raise many types for foreign or damaged files
        raise InputError(
            f"{path} does not contain video features, or they are damaged ({error}). Extract them again."
        ) from None
    if features.frames.shape[1:] != (3, FRAME_SIZE, FRAME_SIZE):
        raise InputError(
            f"{path} holds frames of shape {tuple(features.frames.shape)}. They must be (T, 3, {FRAME_SIZE}, "
            f"{FRAME_SIZE}). Extract them again."
        )
    return features


def _read(path: Path) -> bytes:
    """Read a file of features. Raises `OSError` for one that is larger than any features."""
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise OSError(f"{size} bytes are more than the {_LARGEST_FILE} that ten minutes of features take")
    return path.read_bytes()


def pack_features(features: VideoFeatures) -> bytes:
    """Pack features into the bytes of a safetensors file, which `unpack_features` restores bit for bit.

    Equal features give equal bytes.
    """
    from safetensors.torch import save

    tensors = {"frames": features.frames.contiguous()}
    if features.sync is not None:
        tensors["sync"] = features.sync.contiguous()
    about: dict[str, Any] = {"format": FORMAT, "duration": features.duration, "fps": features.fps}
    about["digest"] = _digest(tensors, about)
    # A single text: safetensors writes several in random order.
    return save(tensors, {"features": json.dumps(about)})


def unpack_features(data: bytes) -> VideoFeatures:
    """Restore features from the bytes of a safetensors file.

    Raises:
        ValueError: The file has another format version, or its content has changed.
        Exception: Many types, for a damaged file.
    """
    from safetensors.torch import load

    length = int.from_bytes(data[:8], "little")  # of the JSON header, whose metadata `load` does not return
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    about, tensors = json.loads(metadata["features"]), load(data)
    if about.get("format") != FORMAT:
        raise ValueError(f"its format is {about.get('format', 1)}, not {FORMAT}")
    digest = about.pop("digest")
    if _digest(tensors, about) != digest:
        raise ValueError("its content has changed")
    return VideoFeatures(
        frames=tensors["frames"],
        sync=tensors.get("sync"),
        duration=float(about["duration"]),
        fps=float(about["fps"]),
    )


def _content(source: VideoSource) -> str:
    """Hash the content of the video, wherever it is stored."""
    if isinstance(source, ImageSequence):
        return "images " + _images_digest(source.images, f" {source.fps}")
    if isinstance(source, str | Path):
        try:
            stat = os.stat(source)
            return "file " + _file_digest(os.path.abspath(source), stat.st_size, stat.st_mtime_ns)
        except OSError as error:
            return f"unreadable {source} {error}"
    if not hasattr(source, "seek"):
        return f"unreadable {type(source).__name__}"
    source.seek(0)
    return "file " + _stream_digest(source)


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    """Hash of a file, cached while its size and modification time stay the same."""
    with open(path, "rb") as file:
        return _stream_digest(file)


def _stream_digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _images_digest(images: Tensor, about: str) -> str:
    digest = hashlib.sha256(f"{images.dtype} {tuple(images.shape)}{about}".encode())
    for image in images:  # one at a time: no second copy of the whole batch
        digest.update(_tensor_bytes(image))
    return digest.hexdigest()


def _digest(tensors: dict[str, Tensor], about: dict[str, Any]) -> str:
    """Hash everything that features hold."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(_tensor_bytes(tensor))
    return digest.hexdigest()


def _tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor of any type, as a buffer."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # in use on Windows, or read-only: the next run tries again
        log.debug("%s: %s", path, error)
