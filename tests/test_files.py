"""The atomic writer: complete files, or the previous ones."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
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
    restore_replaced,
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


HEX = "0123456789abcdef" * 2
HOURS_AGO = time.time() - 2 * 3600


def leave(path: Path, *, as_folder: bool = False, age: float = HOURS_AGO) -> Path:
    """Create what a killed run leaves behind."""
    if as_folder:
        path.mkdir()
        (path / "weights").touch()
    else:
        path.touch()
    os.utime(path, (age, age))
    return path


def test_leftovers_of_killed_runs_are_removed_after_an_hour(tmp_path: Path) -> None:
    leave(tmp_path / f".a.wav.{HEX}.partial.wav")
    leave(tmp_path / f".model.{HEX}.partial", as_folder=True)
    (tmp_path / "model").mkdir()
    leave(tmp_path / f".model.{HEX}.old.partial", as_folder=True)
    kept = [
        leave(tmp_path / f".b.wav.{HEX}.partial.wav", age=time.time() - 3000),  # of another program
        leave(tmp_path / f".new.{HEX}.partial", as_folder=True, age=time.time()),
        *(
            leave(tmp_path / name)
            for name in (".notes.partial", "x.partial.wav", f".a.{HEX}.wav", f"a.{HEX}.partial")
        ),
        leave(tmp_path / f".a.{HEX[1:]}.partial"),
    ]
    with write_atomically(tmp_path / "c.txt") as temporary:
        temporary.touch()
    assert names(tmp_path) == sorted([*(path.name for path in kept), "c.txt", "model"])


def test_a_link_with_the_name_of_a_leftover_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tmp_path / "inside").mkdir()
    link = tmp_path / "inside" / f".a.{HEX}.partial"
    link.symlink_to(tmp_path / "outside")
    os.utime(link, (HOURS_AGO, HOURS_AGO), follow_symlinks=False)
    check_folder_writable(tmp_path / "inside")
    assert names(tmp_path / "inside") == []
    assert names(tmp_path / "outside") == ["file"]


def replace_folder(path: Path, name: str) -> None:
    """Write a folder that contains one file."""
    with write_atomically(path) as temporary:
        temporary.mkdir()
        (temporary / name).touch()


def test_a_kill_between_the_renames_is_repaired_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a model.v1"
    replace_folder(path, "old")
    rename = Path.rename

    def die(self: Path, target: Path) -> Path:
        if (self / "new").exists():
            raise SystemExit
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(files, "_exchange", lambda first, second: False)  # as on other systems than Linux
        patch.setattr(Path, "rename", die)
        with pytest.raises(SystemExit):
            replace_folder(path, "new")
    assert not path.exists()
    restore_replaced(tmp_path)
    assert names(path) == ["old"]
    assert names(tmp_path) == [path.name]


def test_a_repair_by_another_process_does_not_disturb_a_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model"
    replace_folder(path, "old")
    rename, repairs = Path.rename, [tmp_path]

    def repair_before(self: Path, target: Path) -> Path:
        if (self / "new").exists() and repairs:
            restore_replaced(repairs.pop())
        return rename(self, target)

    monkeypatch.setattr(files, "_exchange", lambda first, second: False)
    monkeypatch.setattr(Path, "rename", repair_before)
    replace_folder(path, "new")
    assert repairs == []
    assert names(path) == ["new"]
    assert names(tmp_path) == ["model"]


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="NO LINUX: folders are replaced in two steps"
)
def test_a_folder_is_never_missing_while_it_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_folder(tmp_path / "model", "old")
    monkeypatch.delattr(Path, "rename")  # what would need two steps
    replace_folder(tmp_path / "model", "new")
    assert names(tmp_path / "model") == ["new"]
    assert names(tmp_path) == ["model"]


@pytest.mark.parametrize("name", ["a\0b.wav", "caf\ud800.wav"])
def test_a_name_that_no_file_can_have_is_explained(name: str, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is not a possible name on this system"):
        with write_atomically(tmp_path / name, error=MediaError) as temporary:
            temporary.touch()
