"""Extracted video features on disk, so that a second run on the same video starts at once.

One safetensors file a result. Its name is a hash of the video's content and of every setting, so an entry
can be old but never wrong. Files appear by renaming: several processes may share a folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..media.containers import MediaSource
from .feature_file import FORMAT, pack_features, tensor_bytes, unpack_features
from .video_features import ImageSequence, VideoFeatures

if TYPE_CHECKING:
    from ..media.object_mask import ObjectMask

log = logging.getLogger(__name__)

_SUFFIX = ".safetensors"
_PARTIAL = ".partial"
_FORGOTTEN = 3600.0  # seconds after which a partial file is taken for the remains of a crash
_BLOCK = 1 << 20  # bytes


class FeatureCache:
    """A folder of features that never grows beyond a limit; the least recently used ones go first.

    No trouble with the folder ends a run: it is logged, and the features are computed.
    """

    def __init__(self, folder: Path, limit_bytes: int = 2 << 30) -> None:
        self.folder, self.limit_bytes = Path(folder), limit_bytes

    def key(
        self,
        source: MediaSource | ImageSequence,
        settings: Any,
        sync_fingerprint: str,
        mask: ObjectMask | None = None,
    ) -> str:
        """Name of the result for this content. settings: anything whose repr tells all that matters.

        Files that cannot be read get a key too: extraction says better what is wrong with them.
        """
        parts: tuple[Any, ...] = (FORMAT, _content(source), settings, sync_fingerprint)
        if mask is not None:
            parts += (_pictures_digest(mask.pictures, ""), float(mask.strength), mask.clip, mask.sync)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def get(self, key: str) -> VideoFeatures | None:
        """The features of `put`, bit by bit, or None. A damaged file is deleted."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("Cached features %s cannot be read: %s", path, error)
            return None
        try:
            features = unpack_features(data)
        except Exception as error:  # whatever a damaged file makes the parsers raise
            log.warning("Cached features %s are damaged (%s); they are made again.", path, error)
            _delete(path)
            return None
        try:
            os.utime(path)  # used just now: last in the queue to be evicted
        except OSError as error:
            log.debug("%s: %s", path, error)
        return features

    def put(self, key: str, features: VideoFeatures) -> None:
        """Store features, then delete the least recently used ones beyond the limit."""
        path = self._path(key)
        partial = self.folder / f"{uuid.uuid4().hex}{_PARTIAL}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_bytes(pack_features(features))
                os.replace(partial, path)
            finally:
                _delete(partial)
            self._evict()
        except OSError as error:
            log.warning("Features are not cached in %s: %s", self.folder, error)

    def _path(self, key: str) -> Path:
        return self.folder / (key + _SUFFIX)

    def _evict(self) -> None:
        entries = sorted(self._entries(_SUFFIX), key=lambda entry: entry[1].st_mtime_ns, reverse=True)
        total = 0
        for path, state in entries:  # the latest first
            total += state.st_size
            if total > self.limit_bytes:
                _delete(path)
        for path, state in self._entries(_PARTIAL):
            if time.time() - state.st_mtime > _FORGOTTEN:
                _delete(path)

    def _entries(self, suffix: str) -> Iterator[tuple[Path, os.stat_result]]:
        for path in list(self.folder.glob("*" + suffix)):
            try:
                yield path, path.stat()
            except OSError:  # another process was faster
                continue


def _content(source: MediaSource | ImageSequence) -> str:
    """A hash of the video itself, which says nothing of where it lies."""
    if isinstance(source, ImageSequence):
        return "images " + _pictures_digest(source.images, f" {source.fps}")
    if isinstance(source, str | Path):
        try:
            state = os.stat(source)
            return "file " + _file_digest(os.path.abspath(source), state.st_size, state.st_mtime_ns)
        except OSError as error:
            return f"unreadable {source} {error}"
    if not hasattr(source, "seek"):
        return f"unreadable {type(source).__name__}"
    source.seek(0)
    return "file " + _stream_digest(source)


def _pictures_digest(pictures: Tensor, about: str) -> str:
    digest = hashlib.sha256(f"{pictures.dtype} {tuple(pictures.shape)}{about}".encode())
    for picture in pictures:  # one by one: no second copy of the whole
        digest.update(tensor_bytes(picture))
    return digest.hexdigest()


@lru_cache(maxsize=256)
def _file_digest(path: str, size: int, mtime_ns: int) -> str:
    """Hash of a file, remembered while its size and time of change stay the same."""
    with open(path, "rb") as file:
        return _stream_digest(file)


def _stream_digest(file: Any) -> str:
    digest = hashlib.sha256()
    while block := file.read(_BLOCK):
        digest.update(block)
    return digest.hexdigest()


def _delete(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # in use on Windows, or read-only: the next run tries again
        log.debug("%s: %s", path, error)
