"""Results of trainings: files of others are never replaced, and a full disk loses nothing that was learnt."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from quick_finetuning import QUICK, Folder, lora, needs_training, quietly, request
from resumed_runs import record_training

from audiox_ext.errors import InputError
from audiox_ext.training.finetune import finetune, train_lora
from audiox_ext.training.results import TrainingResults, TrainingSpace
from audiox_ext.training.settings import FinetuneSettings, LoraSettings
from audiox_ext.training.trainer import _make_event_log

pytestmark = pytest.mark.usefixtures("one_thread")

MakeDisk = Callable[[str, int], Path]


@pytest.fixture
def make_disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Mount a small disk of a number of kilobytes, which is gone after the test."""
    disks: list[Path] = []

    def make(name: str, kilobytes: int) -> Path:
        place = tmp_path / name
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("NO SMALL DISK: run the tests as root on Linux to test a full disk")
        disks.append(place)
        return place

    yield make
    for place in disks:
        subprocess.run(["umount", str(place)], check=False)


def fill(disk: Path) -> Path:
    """Take all space of a disk, to the last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


def train(model: Path, sounds: Path, output: Path, path: Path, **changes: object) -> Path:
    on_step = changes.pop("on_step", lambda step, steps: None)
    settings = LoraSettings(**QUICK | changes)  # type: ignore[arg-type]
    return train_lora(
        request(model, sounds, output),
        settings,
        path=path,
        report=quietly,
        on_step=on_step,  # type: ignore[arg-type]
    ).path


@pytest.mark.slow
@needs_training
def test_a_lora_that_another_made_is_not_replaced(tiny_folder: Folder, sounds: Path, tmp_path: Path) -> None:
    loras, state = tmp_path / "loras", tmp_path / "state"
    loras.mkdir()
    foreign = loras / "my_sound.safetensors"
    foreign.write_bytes(b"another program's")
    with pytest.raises(
        InputError, match=r"my_sound\.safetensors exists, and no training in .*Choose another"
    ):
        train(tiny_folder("maf"), sounds, state, foreign, steps=1)
    assert foreign.read_bytes() == b"another program's"
    assert not state.exists()  # refused before anything was done
    own = train(tiny_folder("maf"), sounds, state, loras / "own.safetensors", steps=1)
    train(tiny_folder("maf"), sounds, state, own, steps=2)  # its own file
    elsewhere = tmp_path / "elsewhere.safetensors"
    shutil.move(own, elsewhere)
    own.symlink_to(elsewhere)
    train(tiny_folder("maf"), sounds, state, own, steps=3)
    assert own.is_symlink()
    own.write_bytes(elsewhere.read_bytes() + b"changed")
    with pytest.raises(InputError, match="or it was changed since"):
        train(tiny_folder("maf"), sounds, state, own, steps=4)

    def replace(step: int, steps: int) -> None:
        (loras / "late.safetensors").write_bytes(b"made meanwhile")

    with pytest.raises(InputError, match=r"nothing that was learnt is lost.*only writes the result"):
        train(tiny_folder("maf"), sounds, tmp_path / "late", loras / "late.safetensors", on_step=replace)
    assert (loras / "late.safetensors").read_bytes() == b"made meanwhile"


@needs_training
def test_a_model_that_another_made_is_not_replaced(tiny_folder: Folder, sounds: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model.safetensors").write_bytes(b"another's")
    with pytest.raises(InputError, match="model exists, and no training in"):
        finetune(request(tiny_folder("maf"), sounds, tmp_path), FinetuneSettings(steps=1), report=quietly)
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == b"another's"


def test_a_record_survives_damage_and_a_crash_between_record_and_file(tmp_path: Path) -> None:
    results, path = TrainingResults(tmp_path / "state"), tmp_path / "a.bin"
    with results.write(path) as temporary:
        temporary.write_bytes(b"one")

    def write_half() -> None:
        with results.write(path) as temporary:
            temporary.write_bytes(b"tw")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    results.check(path)
    folder = tmp_path / "model"
    with results.write(folder) as temporary:
        temporary.mkdir()
        (temporary / "a").write_bytes(b"1")
    results.check(folder)
    (folder / "b").write_bytes(b"2")
    with pytest.raises(InputError, match="was changed since"):
        results.check(folder)
    for text in ("", "[" * 100_000, '{"sha256": 5}', '{"sha256": [5]}', "[]"):
        (tmp_path / "state" / "results.json").write_text(text)
        with pytest.raises(InputError, match="no training in"):
            results.check(path)


@needs_training
def test_a_disk_that_is_too_small_is_named_before_the_training(
    tiny_folder: Folder, sounds: Path, make_disk: MakeDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorder = record_training(monkeypatch, tmp_path / "checkpoints")
    disk, lines = make_disk("small", 300), list[str]()
    with pytest.raises(InputError, match=r"GB free, but .* GB are needed"):
        lora(tiny_folder("maf"), sounds, disk / "out", lines.append)
    assert not recorder.steps
    assert not lines  # not even the sounds were encoded
    assert not list(disk.rglob("*.*"))


@pytest.mark.slow
@needs_training
def test_a_disk_that_others_fill_does_not_stop_a_training(
    tiny_folder: Folder, sounds: Path, make_disk: MakeDisk, tmp_path: Path
) -> None:
    expected = lora(tiny_folder("maf"), sounds, tmp_path / "whole", preview_every=4).path.read_bytes()
    disk = make_disk("disk", 8000)

    def fill_disk(step: int, steps: int) -> None:
        if step == 3:
            fill(disk)

    result = lora(tiny_folder("maf"), sounds, disk / "out", preview_every=4, on_step=fill_disk)
    assert result.path.read_bytes() == expected
    assert not list(disk.rglob(".*"))


@needs_training
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_events_on_a_full_disk_are_given_up(make_disk: MakeDisk, caplog: pytest.LogCaptureFixture) -> None:
    disk = make_disk("disk", 200)
    events = _make_event_log(disk)
    events.log_metrics({"loss": 0.0}, 0)
    fill(disk)
    for step in range(3000):
        events.log_metrics({"loss": 1.0, "gradient": 2.0}, step)
    events.save()
    events.finalize("success")
    assert caplog.text.count("TensorBoard's events cannot be written") == 1


@pytest.mark.slow
@needs_training
def test_a_result_that_does_not_fit_is_written_by_the_next_run(
    tiny_folder: Folder, sounds: Path, make_disk: MakeDisk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = lora(tiny_folder("maf"), sounds, tmp_path / "whole").path.read_bytes()
    recorder = record_training(monkeypatch, tmp_path / "checkpoints")
    disk, state = make_disk("disk", 8000), tmp_path / "state"
    ballast: list[Path] = []

    def fill_disk(step: int, steps: int) -> None:
        if step == 6:
            ballast.append(fill(disk))

    path = disk / "my.safetensors"
    with pytest.raises(InputError, match=r"nothing that was learnt is lost: .*only writes the result"):
        train(tiny_folder("maf"), sounds, state, path, on_step=fill_disk)
    assert [file.name for file in disk.iterdir()] == ["ballast"]
    ballast[0].unlink()
    recorder.steps.clear()
    assert train(tiny_folder("maf"), sounds, state, path).read_bytes() == expected
    assert not recorder.steps


def test_the_reserve_of_a_killed_training_counts_as_free(make_disk: MakeDisk) -> None:
    disk = make_disk("disk", 1000)
    space = TrainingSpace(disk, 400_000)
    with space.hold():
        # Killed here: another process checks the same folder.
        assert sum(file.stat().st_blocks for file in disk.iterdir()) * 512 >= 400_000
        TrainingSpace(disk, 400_000).check()
        with pytest.raises(InputError, match="are needed"):
            TrainingSpace(disk, 600_000).check()
