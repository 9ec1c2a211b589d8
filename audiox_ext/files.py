"""Writes files and folders atomically: readers find the complete old version or the complete new one."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import AudioXError, InputError

log = logging.getLogger(__name__)

_MARK = ".partial"


@contextmanager
def write_atomically(path: Path, error: type[AudioXError] = InputError) -> Iterator[Path]:
    """Write a file or a folder beside its place, and rename it when the block ends.

    An existing file or folder is replaced. If the block fails, it stays as it was and nothing else is left.

    Args:
        path: The final place. Missing parent folders are created.
        error: The class of the error that an OSError becomes.

    Yields:
        The temporary path to write to, with the suffix of `path`. Nothing exists there yet.

    Raises:
        AudioXError: The disk is full or the place cannot be written to. The class is `error`.
    """
    temporary = _hidden(path, _MARK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush(temporary)
        if path.is_dir():
            _replace_folder(path, temporary)
        else:
            os.replace(temporary, path)
    except AudioXError:
        raise
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            message = f"The disk of {path} is full ({problem}). Free some space, or choose another folder."
        else:
            message = f"{path} cannot be written ({problem}). Choose another folder, or mend its permissions."
        raise error(message) from None
    finally:
        _remove(temporary)


def try_to_write(path: Path, write: Callable[[Path], None]) -> bool:
    """Write a checkpoint of a training atomically; if that fails, only log it and keep the older file.

    Args:
        path: The final place.
        write: Writes to the temporary path that it is called with.

    Returns:
        Whether the file was written.
    """
    try:
        with write_atomically(path) as temporary:
            write(temporary)
        return True
    except (AudioXError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
        older = "The previous one is kept" if path.exists() else "There is no previous one"
        log.warning("The checkpoint %s cannot be written (%s). %s; training continues.", path, error, older)
        return False


def is_temporary(path: Path) -> bool:
    """Whether a path is one of `write_atomically`; such files remain after a crash."""
    return _MARK in path.suffixes


def _hidden(path: Path, mark: str) -> Path:
    """A unique hidden name beside `path`, because several processes may write to the same place."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{mark}{path.suffix}")


def _replace_folder(path: Path, replacement: Path) -> None:
    """Rename a folder into the place of another; only a file can be replaced in one step."""
    old = _hidden(path, f".old{_MARK}")
    path.rename(old)
    try:
        replacement.rename(path)
    except OSError:
        old.rename(path)
        raise
    _remove(old)


def _flush(path: Path) -> None:
    """Wait until the content is on the disk, so that the final name never leads to an incomplete file."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with suppress(PermissionError), file.open("rb+") as opened:  # a copy may be read-only
                os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
