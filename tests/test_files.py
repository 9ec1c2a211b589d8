"""The atomic writer: complete files, or the previous ones."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from unprivileged import read_only_folder

from audiox_ext import files
from audiox_ext.errors import InputError, MediaError
from audiox_ext.files import (
    check_file_writable,
    check_folder_writable,
    check_space,
    explain_os_error,
    is_temporary,
    try_to_write,
    write_atomically,
)


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
    monkeypatch.setattr(files, "_exchange", lambda first, second: False)  # as on other systems

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


@pytest.mark.parametrize("check", [check_file_writable, check_folder_writable])
def test_places_that_can_be_written_stay_as_they_are(tmp_path: Path, check: Callable[[Path], None]) -> None:
    check(tmp_path / "new" / "folder" / "a.txt")
    (tmp_path / "other").mkdir()
    check(tmp_path / "other" / "a.txt")
    assert names(tmp_path) == ["other"]
    assert names(tmp_path / "other") == []


def test_what_cannot_become_a_file_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    long = tmp_path / ("x" * 300 + ".wav")
    for path, message in (
        (tmp_path / "folder", r"folder is a folder\. Give the name of a file in it"),
        (tmp_path / "file" / "a.txt", r"a\.txt cannot be written \(.*\)\. A part of the path is a file"),
        (tmp_path / "file" / "deeper" / "a.txt", r"A part of the path is a file"),
        (tmp_path / "link" / "a.txt", r"a\.txt cannot be written"),
        (long, r"\(File name too long\)\. Choose a shorter name"),
    ):
        with pytest.raises(InputError, match=message):
            check_file_writable(path)
    with pytest.raises(InputError, match="A part of the path is a file"):
        check_folder_writable(tmp_path / "file")
    assert names(tmp_path) == ["file", "folder", "link"]


def test_a_read_only_folder_is_refused_beforehand() -> None:
    with read_only_folder() as folder:
        for check in (check_file_writable, check_folder_writable):
            with pytest.raises(InputError, match=r"Permission denied\)\. Choose another folder, or mend"):
                check(folder / "new.wav")
        assert names(folder) == ["old.wav"]


def test_a_read_only_file_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.wav").touch()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may change every file
    with pytest.raises(InputError, match=r"a\.wav exists and is read-only\. Choose another name"):
        check_file_writable(tmp_path / "a.wav")


def test_a_full_disk_is_noticed_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise full_disk()

    monkeypatch.setattr(Path, "open", fail)
    with pytest.raises(InputError, match=r"The disk of .* is full .*No space left.*Free some space"):
        check_file_writable(tmp_path / "a.txt")


@pytest.mark.skipif(os.name == "nt", reason="NO FILE NAMES outside UTF-8 on Windows")
def test_paths_of_models_are_valid_utf8(tmp_path: Path) -> None:
    for check, name in ((check_folder_writable, "caf\udce9"), (check_file_writable, "caf\udce9.safetensors")):
        with pytest.raises(InputError, match=r"caf\\udce9.* is not valid UTF-8, as the path of a model file"):
            check(tmp_path / name)
    check_file_writable(tmp_path / "caf\udce9.wav")
    with pytest.raises(InputError, match="is not a possible name on this system"):
        check_file_writable(tmp_path / "caf\ud800.wav")


def test_missing_space_is_said_in_gigabytes(tmp_path: Path) -> None:
    check_space(tmp_path / "new" / "folder", 1)
    with pytest.raises(InputError, match=r"has .* GB free, but 1000000000\.00 GB are needed"):
        check_space(tmp_path / "new", 10**18)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "is full"),
        (errno.EDQUOT, "is full"),
        (errno.EROFS, "can only be read"),
        (errno.EACCES, "permissions"),
        (errno.EFBIG, "files of this size"),
        (errno.EIO, "Choose another folder"),
    ],
)
def test_each_cause_has_its_own_advice(number: int, advice: str) -> None:
    sentence = explain_os_error(Path("a.wav"), OSError(number, os.strerror(number)))
    assert advice in sentence
    assert os.strerror(number) in sentence
    assert ("full" in sentence) == (number in (errno.ENOSPC, errno.EDQUOT))


def test_a_parent_that_is_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="A part of the path is a file"),
        write_atomically(tmp_path / "file" / "a.txt") as temporary,
    ):
        temporary.touch()


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 240 + ".wav")
    check_file_writable(path)
    with write_atomically(path) as temporary:
        temporary.touch()
    assert path.is_file()


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "disk" / "target.txt"
    link.symlink_to(target)
    check_file_writable(link)
    for text in ("first", "second"):  # the target is missing at first
        with write_atomically(link) as temporary:
            temporary.write_text(text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["target.txt"]


def test_links_that_lead_to_each_other_are_explained(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with (
        pytest.raises(InputError, match="leads back to itself"),
        write_atomically(tmp_path / "a") as temporary,
    ):
        temporary.write_text("text")
