"""One trial: run a writer in a process of its own, kill it, look at what is there, and run it again."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from audiox_ext.files import is_temporary

from .writers import Writer

Digests = dict[str, str]
_OLD = 2 * 3600  # seconds by which leftovers are made older; the next run removes what is over an hour old
_POLL = 0.002  # seconds


@dataclass(frozen=True, kw_only=True)
class Reference:
    """An unbroken run of a writer.

    Attributes:
        seconds: How long it took.
        digests: Digest of each result.
        before: Digest of each result that was there before the run.
    """

    seconds: float
    digests: Digests
    before: Digests


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One kill.

    Attributes:
        moment: Seconds between the start and the kill.
        finished: Whether the run had ended before.
        leftovers: Temporary files and folders after the kill.
        faults: What was wrong after the kill or after the next run; empty if nothing.
    """

    moment: float
    finished: bool
    leftovers: int
    faults: tuple[str, ...]


def run_unbroken(writer: Writer, materials: Path) -> Reference:
    """Run a writer without a kill.

    Args:
        writer: The writer.
        materials: Folder of the materials.

    Returns:
        Its duration and results.

    Raises:
        RuntimeError: It fails, or does not write its results.
    """
    with _trial_folder(writer, materials) as folder:
        before = read_digests(writer, folder)
        start = time.monotonic()
        status, log = _run_until(writer, folder, materials, None)
        seconds = time.monotonic() - start
        digests = read_digests(writer, folder)
        if status != 0 or not digests:
            raise RuntimeError(
                f"{writer.name} ended with status {status} and wrote {sorted(digests)}:\n{log}"
            )
        return Reference(seconds=seconds, digests=digests, before=before)


def run_killed(writer: Writer, materials: Path, reference: Reference, moment: float) -> Trial:
    """Run a writer, kill it, and run it again to its end.

    Args:
        writer: The writer.
        materials: Folder of the materials.
        reference: Its unbroken run.
        moment: Seconds between the start and the kill.

    Returns:
        What was found.
    """
    with _trial_folder(writer, materials) as folder:
        status, log = _run_until(writer, folder, materials, moment)
        faults = [*_find_half_files(folder), *_find_mixtures(writer, folder, reference)]
        if status not in (None, 0):
            faults.append(f"the run ended with status {status} before the kill: {log[-500:]}")
        leftovers = _list_leftovers(folder)
        for path in leftovers:
            _make_older(path)
        whole = read_digests(writer, folder) == reference.digests
        again, log = _run_until(writer, folder, materials, None)
        if again != 0 and not whole:  # a command may refuse to replace a complete result
            faults.append(f"the next run ended with status {again}: {log[-500:]}")
        if read_digests(writer, folder) != reference.digests:
            faults.append("the next run did not give what an unbroken run gives")
        if rest := _list_leftovers(folder):
            faults.append(f"after the next run there is still {rest[0].relative_to(folder)}")
        return Trial(
            moment=round(moment, 3),
            finished=status is not None,
            leftovers=len(leftovers),
            faults=tuple(faults),
        )


def read_digests(writer: Writer, folder: Path) -> Digests:
    """Return the digest of each result that is there, by its path in the folder.

    Args:
        writer: The writer.
        folder: Folder that it writes to.

    Returns:
        The digests.
    """
    paths = {path for pattern in writer.results for path in folder.glob(pattern) if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if not is_temporary(path)
    }


@contextmanager
def _trial_folder(writer: Writer, materials: Path) -> Iterator[Path]:
    """Make a folder with the files of before the run; its path is the same each time."""
    # Files may contain their path, so equal bytes need an equal path.
    folder = materials.parent / "out"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if writer.prepare is not None:
        writer.prepare(folder, materials)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_until(writer: Writer, folder: Path, materials: Path, moment: float | None) -> tuple[int | None, str]:
    """Run a writer in a copy of this process, which is killed after `moment` seconds.

    A copy begins at once, because everything is imported already.

    Returns:
        The exit status, None if it was killed; and what it printed.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        child = os.fork()
        if child == 0:
            _become_writer(writer, folder, materials, log.fileno())
        with suppress(OSError):  # the copy does it as well; whoever comes first
            os.setpgid(child, child)
        deadline = None if moment is None else time.monotonic() + moment
        killed = False
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            if deadline is not None and not killed and time.monotonic() >= deadline:
                os.killpg(child, signal.SIGKILL)
                killed = True
            time.sleep(_POLL)
        log.seek(0)
        code = os.waitstatus_to_exitcode(status)
        return (None if killed and code == -signal.SIGKILL else code), log.read()


def _become_writer(writer: Writer, folder: Path, materials: Path, log: int) -> None:
    """Run a writer in this process, which ends with it."""
    status = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        status = writer.run(folder, materials)
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _find_half_files(folder: Path) -> list[str]:
    """Say which files under a final name cannot be read to their end."""
    faults = []
    for path in folder.rglob("*"):
        if not path.is_file() or any(map(is_temporary, (path, *path.relative_to(folder).parents))):
            continue
        try:
            if path.suffix == ".safetensors":
                with safe_open(path, "pt") as file:
                    list(file.keys())
            elif path.suffix in (".ckpt", ".pt"):
                with zipfile.ZipFile(path) as archive:
                    if archive.testzip() is not None:
                        raise zipfile.BadZipFile
        except (SafetensorError, zipfile.BadZipFile, OSError):
            faults.append(f"{path.relative_to(folder)} is incomplete")
    return faults


def _find_mixtures(writer: Writer, folder: Path, reference: Reference) -> list[str]:
    """Say which results are neither those of before nor those of an unbroken run, or a mixture of both."""
    digests = read_digests(writer, folder)
    faults = [
        f"{name} is neither the old nor the new file"
        for name, digest in digests.items()
        if digest not in (reference.before.get(name), reference.digests.get(name))
    ]
    changed = {
        name for name, digest in digests.items() if reference.before and digest != reference.before.get(name)
    }
    if changed and digests != reference.digests:
        faults.append(f"the folder mixes two results: {', '.join(sorted(changed))} belongs to the new one")
    return faults


def _list_leftovers(folder: Path) -> list[Path]:
    """List temporary files and folders, but not what is inside such folders."""
    paths = [path for path in sorted(folder.rglob("*")) if is_temporary(path)]
    return [path for path in paths if not any(map(is_temporary, path.relative_to(folder).parents))]


def _make_older(path: Path) -> None:
    """Set the time of a leftover back, with all that is in it."""
    moment = time.time() - _OLD
    for each in (*path.rglob("*"), path):
        os.utime(each, (moment, moment))
