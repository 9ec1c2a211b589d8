"""Commands notice before the work that a place cannot be written to, and finish what they began."""

from __future__ import annotations

import errno
import getpass
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from audiox_ext.checkpoints import conversion
from audiox_ext.cli.main import main
from audiox_ext.devices import provide_compiler_cache
from audiox_ext.media.audio_video import write_audio


@pytest.fixture
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sounds") / "sound.wav"
    write_audio(path, torch.rand(2, 16000, generator=torch.Generator().manual_seed(0)) * 0.1, 16000)
    return path


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a command starts to load, draw or convert."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the work began")

    for place in (
        "audiox_ext.checkpoints.pretrained.get_pretrained_model",
        "audiox_ext.training.finetune.get_pretrained_model",
        "audiox_ext.media.audio_video.read_audio",
        "audiox_ext.conditioning.video_features.extract_video_features",
    ):
        monkeypatch.setattr(place, refuse)
    monkeypatch.setattr(conversion, "_convert_state", refuse)


def command_lines(sound: Path, model: Path, data: Path, folder: Path) -> list[list[str]]:
    """One command line per command that writes, each into the same folder."""
    words: list[list[Any]] = [
        ["generate", "--prompt", "x", "-o", folder / "x.wav"],
        ["generate", "--prompt", "x", "--batch", 3, "-o", folder / "x.flac"],
        ["edit", sound, "--region", "0.1-0.2", "--prompt", "x", "-o", folder / "x.wav"],
        ["extend", sound, "--seconds", 1, "--prompt", "x", "-o", folder / "x.wav"],
        ["extract", "--video", sound, "-o", folder / "x.safetensors"],
        ["convert", model, "-o", folder / "model"],
        ["view", sound, "-o", folder / "x.png"],
        ["level", sound, "--peak", -1, "-o", folder / "x.wav"],
        ["train", "lora", model, data, "--output", folder / "out"],
        ["train", "finetune", model, data, "--output", folder / "out"],
    ]
    return [[str(word) for word in line] for line in words]


@pytest.mark.parametrize("number", range(10))
@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.EACCES, "cannot be written (Permission denied). Choose another folder"),
        (errno.EROFS, "cannot be written (Read-only file system). Its disk can only be read."),
        (errno.ENOSPC, "is full (No space left on device). Free some space"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(
    number: int,
    code: int,
    message: str,
    sound: Path,
    tiny_folder: Any,
    no_work: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if number >= 8:
        pytest.importorskip("lightning", reason="NO LIGHTNING: training was not tested")
        pytest.importorskip("peft", reason="NO PEFT: training was not tested")
    line = command_lines(sound, tiny_folder("maf"), sound.parent, tmp_path)[number]
    open_file = Path.open

    def fail_to_write(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if set(mode) & set("wxa"):
            raise OSError(code, os.strerror(code))
        return open_file(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", fail_to_write)
    assert main(line) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed
    assert list(tmp_path.iterdir()) == []


def test_every_file_of_a_batch_is_checked(
    tmp_path: Path, no_work: None, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x_3.wav").mkdir()
    out = tmp_path / "x.wav"
    assert main(["generate", "--prompt", "x", "--batch", "3", "-o", str(out)]) == 1
    assert "x_3.wav is a folder. Give the name of a file in it." in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["x_3.wav"]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("sound.wav/x.wav", "sound.wav is a file, not a folder. Choose another folder."),
        ("sound.wav/deeper/x.wav", "deeper does not exist. Create it first."),
        ("nowhere/x.wav", "nowhere does not exist. Create it first."),
        ("x" * 300 + ".wav", "(File name too long). Choose a shorter name."),
    ],
)
def test_places_that_do_not_exist_are_refused_before_the_work(
    output: str, message: str, sound: Path, no_work: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["level", str(sound), "--peak", "-1", "-o", str(sound.parent / output)]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert "Traceback" not in printed


def test_missing_space_is_noticed_before_sampling(
    tiny_folder: Any, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = os.statvfs_result((4096, 4096, 10**6, 5, 5, 10, 10, 10, 0, 255))
    monkeypatch.setattr("shutil.os.statvfs", lambda path: usage)  # 20 kB are free
    line = ["generate", "--model", str(tiny_folder("maf")), "--prompt", "x", "--seconds", "2"]
    assert main([*line, "-o", str(tmp_path / "x.wav")]) == 1
    printed = capsys.readouterr().err
    assert "has 0.0000 GB free" in printed
    assert "Sampling" not in printed
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_stdout_cannot_encode_loses_nothing(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(data, encoding="cp1252"))
    line = ["generate", "--model", str(tiny_folder("maf")), "--prompt", "x", "--steps", "1", "--batch", "3"]
    assert main([*line, "--seconds", "0.5", "-o", str(tmp_path / "音.wav")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["音_1.wav", "音_2.wav", "音_3.wav"]
    assert data.getvalue().count(b"\\u97f3_") == 3


@pytest.mark.skipif(os.name == "nt", reason="NO FILE NAMES outside UTF-8 on Windows")
def test_names_that_are_not_utf8_can_be_read_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, picture, result = (tmp_path / f"caf\udce9.{suffix}" for suffix in ("wav", "png", "flac"))
    write_audio(tmp_path / "a.wav", torch.rand(2, 16000) * 0.1, 16000)
    (tmp_path / "a.wav").rename(source)
    assert main(["view", str(source), "-o", str(picture)]) == 0
    assert main(["level", str(source), "--peak", "-3", "-o", str(result)]) == 0
    assert main(["level", str(source), "--peak", "-3", "-o", str(tmp_path / "\udce9" / "x.wav")]) == 1
    printed = capsys.readouterr()
    assert "caf\\udce9.png" in printed.out
    assert "\\udce9 does not exist" in printed.err
    assert picture.is_file()
    assert result.is_file()


def test_half_an_emoji_in_a_prompt_makes_a_sound(tiny_folder: Any, tmp_path: Path) -> None:
    out = tmp_path / "x.wav"
    line = ["generate", "--model", str(tiny_folder("maf")), "--prompt", "a bell \ud83d", "--steps", "1"]
    assert main([*line, "--negative-prompt", "\ude00", "--seconds", "0.5", "-o", str(out)]) == 0
    assert out.is_file()


def test_a_user_without_a_name_or_a_home_can_make_a_sound(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pwd = pytest.importorskip("pwd")

    def fail(*_: object) -> None:
        raise KeyError("uid not found")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pwd, "getpwuid", fail)
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "AUDIOX_MODELS", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    line = ["generate", "--model", str(tiny_folder("maf")), "--prompt", "x", "--steps", "1"]
    assert main([*line, "--seconds", "0.5", "-o", "x.wav"]) == 0
    assert "Your home folder is unknown" in caplog.text
    with pytest.raises(KeyError):
        getpass.getuser()
    provide_compiler_cache()
    assert "torchinductor_" in os.environ["TORCHINDUCTOR_CACHE_DIR"]
    assert main(["inspect", "~nobody-of-this-name/model"]) == 1


def test_errors_of_the_system_are_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/secret")

    monkeypatch.setattr("audiox_ext.checkpoints.inspection.inspect_checkpoint", fail)
    assert main(["inspect", "audiox-pocket"]) == 1
    assert capsys.readouterr().err == "audiox_ext inspect: [Errno 13] Permission denied: '/secret'\n"
