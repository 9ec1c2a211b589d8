"""Files that are whole or not there: what is written lies beside its place until it is complete."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

log = logging.getLogger(__name__)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """write(elsewhere), then put it in the place of `path`. What was there stays if that fails.

    For a file or a folder. Raises what `write` raises, after taking away what it had begun.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(f".{path.name}.part{path.suffix}")
    _remove(begun)
    try:
        write(begun)
        _flush(begun)
        if path.is_dir():
            old = path.with_name(f".{path.name}.old")
            _remove(old)
            path.rename(old)
            begun.rename(path)
            _remove(old)
        else:
            os.replace(begun, path)
    finally:
        _remove(begun)


def try_to_write(path: Path, write: Callable[[Path], None]) -> bool:
    """`write_whole`, but a disk that is full, or gone, is only told: training goes on, and the file of an
    earlier step is kept. Returns whether it was written.
    """
    try:
        write_whole(path, write)
        return True
    except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
        kept = "The one before it is kept" if path.exists() else "There is none yet"
        log.warning("The checkpoint %s could not be written (%s). %s; training goes on.", path, error, kept)
        return False


def _flush(path: Path) -> None:
    """So that the name never points to what is not on the disk yet."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
