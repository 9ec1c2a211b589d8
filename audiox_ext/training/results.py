"""Results of trainings on the disk: there is room for them, and they replace nothing else.

FOLDER/results.json   digests of the results that the trainings in this folder wrote
FOLDER/.reserve       keeps space free for the next checkpoint and the result while a training runs
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import AudioXError, InputError
from ..files import check_space, write_atomically
from ..utf8 import get_logger

log = get_logger(__name__)

_RECORD = "results.json"
_REMEMBERED = 50  # digests
_CHUNK = 2**22  # bytes


class TrainingResults:
    """Writes the results of the trainings in a folder. It replaces only those that it wrote itself."""

    def __init__(self, folder: Path) -> None:
        """Choose the folder whose record counts; it may not exist yet."""
        self._folder = folder

    def check(self, path: Path) -> None:
        """Check that a result may be written. Call it before the training.

        Args:
            path: file or folder of the result.

        Raises:
            InputError: the path exists, and no training in this folder wrote it as it is now.
        """
        try:
            is_foreign = path.exists() and _compute_digest(path) not in self._read()
        except OSError:  # a file that we may not even read
            is_foreign = True
        if is_foreign:
            raise InputError(
                f"{path} exists, and no training in {self._folder} wrote it, or it was changed since. "
                "Choose another name or folder, or move it away."
            )

    @contextmanager
    def write(self, path: Path) -> Iterator[Path]:
        """Write a result atomically, and remember it.

        Args:
            path: file or folder of the result.

        Yields:
            The temporary path to write to.

        Raises:
            InputError: the result cannot be written, or the path belongs to someone else. The message says
                that the checkpoint is kept.
        """
        try:
            self.check(path)
            with write_atomically(path) as temporary:
                yield temporary
                # Before the file gets its name, so that a crash in between leaves no file without a record.
                digests = [*self._read(), _compute_digest(temporary)][-_REMEMBERED:]
                with write_atomically(self._folder / _RECORD) as record:
                    record.write_text(json.dumps({"sha256": digests}, indent=1) + "\n", encoding="utf-8")
        except AudioXError as error:
            raise type(error)(
                f"{error} The training is finished and nothing that was learnt is lost: its last checkpoint "
                "is kept. Run the same training again afterwards, and it only writes the result."
            ) from None

    def _read(self) -> list[str]:
        """Return the digests of the record; none if it is missing or damaged."""
        try:
            digests = json.loads((self._folder / _RECORD).read_text(encoding="utf-8"))["sha256"]
            return [digest for digest in digests if isinstance(digest, str)]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return []


class TrainingSpace:
    """The folder of a training and the space that it needs. A file keeps that free, if others fill the disk.

    Attributes:
        folder: the folder.

    Systems without `posix_fallocate` (macOS, Windows) may not really reserve the space of that file.
    """

    def __init__(self, folder: Path, checkpoint_bytes: int, result_bytes: int = 0) -> None:
        """Reserve nothing yet.

        Args:
            folder: folder of the training. A checkpoint in it is replaced.
            checkpoint_bytes: size of a checkpoint.
            result_bytes: size of the result, 0 if it lies on another disk.
        """
        self.folder, self._checkpoint_bytes = folder, checkpoint_bytes
        # A new checkpoint lies beside the old one for a moment. Later the result takes the same space.
        self._reserved_bytes = max(checkpoint_bytes, result_bytes)
        self._path = folder / ".reserve"

    @property
    def checkpoint(self) -> Path:
        """File of the checkpoint."""
        return self.folder / "last.ckpt"

    def check(self) -> None:
        """Check that all files of the training will fit. Raises `InputError` if there is less space."""
        self._release()  # a reserve that was left when a training was killed
        has_checkpoint = self.checkpoint.is_file()
        check_space(self.folder, self._reserved_bytes + (0 if has_checkpoint else self._checkpoint_bytes))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Reserve the space for another checkpoint while the context lasts."""
        self._allocate()
        try:
            yield
        finally:
            self._release()

    @contextmanager
    def lend(self) -> Iterator[None]:
        """Free the reserved space for what is written inside the context."""
        self._release()
        try:
            yield
        finally:
            self._allocate()

    def _allocate(self) -> None:
        try:
            with self._path.open("wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, self._reserved_bytes)
                else:
                    file.truncate(self._reserved_bytes)
        except OSError as error:
            self._release()
            log.warning("No space can be reserved for the next checkpoint (%s). Training continues.", error)

    def _release(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _compute_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder."""
    digest = hashlib.sha256()
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(os.fsencode(file.relative_to(path).as_posix()) + b"\0")
        with file.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
