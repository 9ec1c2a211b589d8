"""The atomic writer: complete files, or the previous ones."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

import pytest

from audiox_ext.errors import InputError, MediaError
from audiox_ext.files import is_temporary, try_to_write, write_atomically


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_parents_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    with write_atomically(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.suffix == ".txt"
        assert is_temporary(temporary)
    assert path.read_text() == "whole"
    assert not is_temporary(path)
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [InputError, MediaError])
def test_a_full_disk_is_explained_and_leaves_the_previous_file(
    tmp_path: Path, error: type[InputError]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with write_atomically(path, error=error) as temporary:
            temporary.write_text("ha")
            raise full_disk()

    with pytest.raises(error, match=r"The disk of .*a\.txt is full .*No space left.*Free some space"):
        write_half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_other_errors_pass_and_leave_nothing(tmp_path: Path) -> None:
    def fail(error: Exception) -> None:
        with write_atomically(tmp_path / "folder") as temporary:
            temporary.mkdir()
            (temporary / "half").touch()
            raise error

    with pytest.raises(ZeroDivisionError):
        fail(ZeroDivisionError())
    with pytest.raises(InputError, match="cannot be written"):
        fail(PermissionError("read-only"))
    assert names(tmp_path) == []


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with write_atomically(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


def test_a_folder_that_cannot_be_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with write_atomically(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "old").touch()
    rename = Path.rename

    def refuse_the_new_one(path: Path, target: Path) -> Path:
        if (path / "new").exists():
            raise full_disk()
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)

    def replace() -> None:
        with write_atomically(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / "new").touch()

    with pytest.raises(InputError, match="is full"):
        replace()
    assert names(tmp_path / "model") == ["old"]
    assert names(tmp_path) == ["model"]


def test_a_file_that_cannot_be_renamed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise full_disk()

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="is full"), write_atomically(tmp_path / "a.txt") as temporary:
        temporary.touch()
    assert names(tmp_path) == []


def test_a_checkpoint_that_cannot_be_written_leaves_the_previous_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.ckpt"
    assert try_to_write(path, lambda temporary: temporary.write_text("good") and None)

    def on_a_full_disk(temporary: Path) -> None:
        temporary.write_text("ha")
        raise full_disk()

    with caplog.at_level(logging.WARNING):
        assert not try_to_write(path, on_a_full_disk)
    assert "No space left" in caplog.text
    assert "is kept" in caplog.text
    assert path.read_text() == "good"
    assert names(tmp_path) == ["last.ckpt"]
