"""Two processes that number their files in one folder never replace each other's."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path

import pytest

from audiox_ext.files import choose_temporary, is_temporary, rename_exclusively

FILES = 50


def write_numbered(folder: Path, mark: str) -> None:
    """Write files as a server does: count those in the folder, write beside, take the next free name."""
    for index in range(FILES):
        number = len(list(folder.glob("film_*.mp4"))) + 1
        temporary = choose_temporary(folder / "film.mp4")
        temporary.write_text(f"{mark} {index}")
        while not rename_exclusively(temporary, folder / f"film_{number:05}_.mp4"):
            number += 1


def write_without_links(folder: Path, mark: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    os.link = refuse  # type: ignore[assignment]  # in a process of its own
    write_numbered(folder, mark)


@pytest.mark.parametrize("write", [write_numbered, write_without_links])
def test_two_processes_write_100_files(tmp_path: Path, write: object) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=write, args=(tmp_path, mark)) for mark in "ab"]  # type: ignore[arg-type]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    contents = {path.read_text() for path in tmp_path.iterdir()}
    assert contents == {f"{mark} {index}" for mark in "ab" for index in range(FILES)}


@pytest.mark.parametrize("target", ["elsewhere.mp4", "missing.mp4"])
def test_a_link_with_the_name_is_not_replaced(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere.mp4").write_text("mine")
    (tmp_path / "film.mp4").symlink_to(tmp_path / target)
    temporary = choose_temporary(tmp_path / "film.mp4")
    assert is_temporary(temporary)
    temporary.write_text("new")
    assert not rename_exclusively(temporary, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").is_symlink()
    assert (tmp_path / "elsewhere.mp4").read_text() == "mine"
    assert rename_exclusively(temporary, tmp_path / "other.mp4")
    assert (tmp_path / "other.mp4").read_text() == "new"
    assert not temporary.exists()
