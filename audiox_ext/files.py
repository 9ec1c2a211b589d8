"""Writes files and folders atomically: readers find the complete old version or the complete new one.

What a killed run leaves behind is removed by the next run that writes to the same folder. Checks beforehand
whether a place can be written to, so that long work is not lost, and says why if it cannot.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import AudioXError, InputError
from .utf8 import get_logger, is_valid

log = get_logger(__name__)

_MARK = ".partial"
_OLD = f".old{_MARK}"  # of a folder that is being replaced
_NAME_LENGTH = 40  # characters of a file's name in its temporary name, which must not become too long
_OLD_NAME_BYTES = 190  # the same for folders that are being replaced, whose whole name has to be restored
_LEFTOVER = re.compile(r"\.(?P<name>.*)\.[0-9a-f]{32}(?P<old>\.old)?\.partial(\.[^.]*)?", re.DOTALL)
_LEFTOVER_SECONDS = 3600  # a younger file may be of a program that is still writing
_REPLACEMENTS = 3  # attempts, because another process may put the old folder back in between
_WORKING_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of <linux/fs.h>
_TRIAL_BYTES = 4096  # a full disk still accepts an empty file
# What systems report on disks without hard links, such as FAT and many network folders.
_NO_LINKS = {
    errno.EPERM,
    errno.EACCES,
    errno.ENOSYS,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EMLINK,
    errno.EINVAL,
}
_PERMISSIONS = "Choose another folder, or mend its permissions. Another program may have the file open."
_ADVICE = {
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "Its disk can only be read. Choose another folder.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.EINVAL: "Choose a name without special characters, or another folder.",
    errno.EFBIG: "The disk does not hold files of this size. Choose a folder on another disk.",
    errno.ENOTDIR: "A part of the path is a file. Choose another folder.",
    errno.EEXIST: "A part of the path is a file. Choose another folder.",
    errno.ENOENT: "The folder does not exist any more. Create it, or choose another folder.",
}


@contextmanager
def write_atomically(path: Path, error: type[AudioXError] = InputError) -> Iterator[Path]:
    """Write a file or a folder beside its place, and rename it when the block ends.

    An existing file or folder is replaced. If the block fails, it stays as it was and nothing else is left.

    Args:
        path: The final place. Missing parent folders are created. A link stays: its target is written.
        error: The class of the error that an OSError becomes.

    Yields:
        The temporary path to write to, with the suffix of `path`. Nothing exists there yet.

    Raises:
        AudioXError: The disk is full or the place cannot be written to. The class is `error`.
    """
    with suppress(OSError):
        try:
            path.lstat()
        except ValueError:  # a lone surrogate, or a zero byte
            raise error(_explain_name(path)) from None
    path = _follow(path)
    temporary = _hidden(path, _MARK)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        yield temporary
        _flush(temporary)
        if path.is_dir():
            _replace_folder(path, temporary)
        else:
            os.replace(temporary, path)
    except AudioXError:
        raise
    except OSError as problem:
        raise error(explain_os_error(path, problem)) from None
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


def rename_exclusively(temporary: Path, path: Path) -> bool:
    """Give a complete file its final name, unless another process has taken that name.

    Args:
        temporary: The file, in the same folder.
        path: Its final name.

    Returns:
        Whether it has the name now. Otherwise it stays as it is.

    Raises:
        OSError: The name is impossible, or the folder cannot be written to.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as problem:
        if problem.errno not in _NO_LINKS:
            raise
        # The disk has no links. An empty file reserves the name for the moment until it is replaced.
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
        os.replace(temporary, path)
        return True
    temporary.unlink()
    return True


def check_file_writable(path: Path) -> None:
    """Check that a file can be written or replaced, by writing and deleting a small file beside it.

    Parent folders may be missing, because `write_atomically` creates them.

    Raises:
        InputError: the path is a folder, a pipe or a read-only file, or nothing can be written beside it.
    """
    path = _follow(path)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder. Give the name of a file in it.")
    if os.path.isfile(path) and not os.access(path, os.W_OK):
        raise InputError(
            f"{path} exists and is read-only. Choose another name, or allow changes to the file."
        )
    if path.suffix == ".safetensors":
        _check_encoding(path)
    _check_place(path, path.parent)


def check_folder_writable(folder: Path) -> None:
    """Check that a folder exists or can be created, and that models can be written into it.

    A missing folder is missing afterwards, too.

    Raises:
        InputError: the path is a file or not valid UTF-8, or nothing can be written there.
    """
    _check_encoding(folder)
    _check_place(folder, folder)


def check_space(folder: Path, size: int) -> None:
    """Check that `size` bytes are free in a folder, which may not exist yet.

    Raises:
        InputError: there is less space.
    """
    place = next((place for place in (folder, *folder.absolute().parents) if place.exists()), folder)
    free = shutil.disk_usage(place).free
    if free < size:
        digits = 2 if size > 1e9 else 4
        raise InputError(
            f"{folder} has {free / 1e9:.{digits}f} GB free, but {size / 1e9:.{digits}f} GB are needed. Free "
            "some space, or choose a folder on another disk. Nothing was written."
        )


def find_home() -> Path:
    """Return the home folder, or the working folder for a user without one, as in some containers."""
    try:
        return Path.home()
    except RuntimeError:
        log.warning(
            "Your home folder is unknown, so models are kept below %s. Set HOME or AUDIOX_MODELS.", Path.cwd()
        )
        return Path.cwd()


def expand_home(path: Path) -> Path:
    """Replace `~` at the beginning of a path, unless there is no such user or no home folder."""
    with suppress(RuntimeError):
        return path.expanduser()
    return path


def is_about_disk(problem: OSError) -> bool:
    """Whether an error of the system is about a disk: full, read-only or without permission."""
    return problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS)


def explain_os_error(path: Path, problem: OSError) -> str:
    """Return sentences that say why a file or folder cannot be written, and what to do.

    Args:
        path: the place that the user named.
        problem: the error of the system.
    """
    reason = problem.strerror or problem
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {path} is full ({reason}). Free some space, or choose another folder."
    advice = _ADVICE.get(problem.errno or 0, "Choose another folder.")
    return f"{path} cannot be written ({reason}). {advice}"


def _explain_name(path: Path) -> str:
    """Return a sentence about a name that no file can have."""
    return f"{str(path)!r} is not a possible name on this system. Choose another name."


def is_special(path: Path) -> bool:
    """Whether a path leads to a pipe, a socket or a device, which might be read without end."""
    return path.exists() and not path.is_file() and not path.is_dir()


def is_temporary(path: Path) -> bool:
    """Whether a path is one of `write_atomically`; such files remain after a crash."""
    return _MARK in path.suffixes


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs of `write_atomically` left in a folder, and complete their replacements.

    Only hidden files and folders with the names that `write_atomically` gives are removed, and only an hour
    after their last change: younger ones may be in use.
    """
    restore_replaced(folder)
    for path, _ in _list_leftovers(folder):
        with suppress(OSError):
            if time.time() - path.lstat().st_mtime > _LEFTOVER_SECONDS:
                _remove(path)


def restore_replaced(folder: Path) -> None:
    """Put back the folders whose replacement was killed after the old one had been renamed."""
    replaced = [(path, match["name"]) for path, match in _list_leftovers(folder) if match["old"]]
    with suppress(OSError):  # another process may do the same
        replaced.sort(key=lambda item: item[0].stat().st_mtime, reverse=True)
    for path, name in replaced:
        if name and not os.path.lexists(folder / name):
            with suppress(OSError):
                path.rename(folder / name)
                log.warning("%s was being replaced when a program ended. The old one is back.", folder / name)


def _list_leftovers(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    """List the temporary files and folders of `write_atomically` in a folder."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(".") and _MARK in name]
    except (OSError, ValueError):
        return []
    matches = ((name, _LEFTOVER.fullmatch(name)) for name in names)
    return [(folder / name, match) for name, match in matches if match]


def _follow(path: Path) -> Path:
    """Return the target of a link, because renaming would replace the link itself. Refuse pipes."""
    target = Path(os.path.realpath(path)) if os.path.islink(path) else path
    if os.path.islink(target):
        raise InputError(f"{path} is a link that leads back to itself. Remove it, or choose another name.")
    if os.path.exists(target) and not (os.path.isfile(target) or os.path.isdir(target)):
        raise InputError(f"{path} is a pipe, socket or device. Give the name of a file.")  # it would be gone
    return target


def choose_temporary(path: Path) -> Path:
    """Choose a name beside `path` for an incomplete file, which `is_temporary` knows after a crash."""
    return _hidden(path, _MARK)


def _hidden(path: Path, mark: str) -> Path:
    """A unique hidden name beside `path`, because several processes may write to the same place."""
    name = path.name[:_NAME_LENGTH]
    if mark == _OLD and len(os.fsencode(path.name)) <= _OLD_NAME_BYTES:
        return path.with_name(f".{path.name}.{uuid.uuid4().hex}{mark}")
    return path.with_name(f".{name}.{uuid.uuid4().hex}{_MARK}{path.suffix}")


def _check_encoding(path: Path) -> None:
    """Raise `InputError` for a path of a model that safetensors could not open."""
    if not is_valid(str(path)):
        raise InputError(
            f"{path} is not valid UTF-8, as the path of a model file must be. Choose another name or folder."
        )


def _check_place(path: Path, folder: Path) -> None:
    """Write a small file into a folder, and delete it and the folders that this needed.

    Args:
        path: the place that the user named, which is the folder or a file in it.
        folder: the folder.

    Raises:
        InputError: nothing can be written there.
    """
    missing = _list_missing_folders(folder)
    if not missing:
        remove_leftovers(folder)  # they may be what fills the disk
    trial = _hidden(folder / path.name, _MARK)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            path.lstat()  # fails if the name is too long or not allowed
        with trial.open("xb") as file:
            file.write(bytes(_TRIAL_BYTES))
    except OSError as problem:
        raise InputError(explain_os_error(path, problem)) from None
    except ValueError:  # a lone surrogate, or a zero byte
        raise InputError(_explain_name(path)) from None
    finally:
        _remove(trial)
        for place in missing:
            with suppress(OSError):  # not created, or in use by now
                place.rmdir()


def _list_missing_folders(folder: Path) -> list[Path]:
    """List a folder and those above it that do not exist, from the inside out."""
    places = (folder, *folder.parents)
    return list(itertools.takewhile(lambda place: not os.path.lexists(place), places))


def _replace_folder(path: Path, replacement: Path) -> None:
    """Replace a folder by another. On Linux this is one step; elsewhere only files are replaced in one."""
    if _exchange(path, replacement):
        return  # the old folder now has the temporary name
    old = _hidden(path, _OLD)
    for remaining in reversed(range(_REPLACEMENTS)):
        path.rename(old)
        with suppress(OSError):
            os.utime(old)  # its age as a leftover counts from now
        try:
            replacement.rename(path)
            break
        except OSError:
            if not remaining or not os.path.isdir(path):
                with suppress(FileNotFoundError):  # another process has put it back
                    old.rename(path)
                raise
    _remove(old)


def _exchange(first: Path, second: Path) -> bool:
    """Let two files or folders swap their names in one step; return whether that was possible."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):  # not in every C library
        return False
    names = os.fsencode(first), os.fsencode(second)
    return bool(rename(_WORKING_FOLDER, names[0], _WORKING_FOLDER, names[1], _EXCHANGE) == 0)


def _flush(path: Path) -> None:
    """Wait until the content is on the disk, so that the final name never leads to an incomplete file."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with suppress(PermissionError), file.open("rb+") as opened:  # a copy may be read-only
                os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    """Delete a file or a folder, if there is one."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError, ValueError):  # what remains must not hide the error that is being reported
            path.unlink(missing_ok=True)
