"""LoRAs and whole networks whose training is resumed: each step is run once, and the result is the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from quick_finetuning import QUICK, Folder, lora, needs_training, quietly, request
from resumed_runs import check_equal, check_every_resume, record_training

from audiox_ext.errors import TrainingError
from audiox_ext.training.finetune import finetune, train_lora
from audiox_ext.training.settings import FinetuneSettings, LoraSettings

pytestmark = [pytest.mark.usefixtures("one_thread"), needs_training]

SETTINGS: dict[str, Any] = {**QUICK, "steps": 20, "checkpoint_every": 1, "validate_every": 5, "patience": 0}


class BrokenError(Exception):
    """Ends a training."""


def break_after(*steps: int) -> Callable[[int, int], None]:
    def on_step(done: int, all_steps: int) -> None:
        if done in steps:
            raise BrokenError

    return on_step


def train(kind: str, model: Path, sounds: Path, output: Path, **changes: Any) -> Path:
    """Train, and return the file with the weights."""
    report = changes.pop("report", quietly)
    callbacks = {"on_step": changes.pop("on_step")} if "on_step" in changes else {}
    values = SETTINGS | changes
    if kind == "lora":
        path = output / "my.safetensors"
        settings = LoraSettings(**values)
        train_lora(request(model, sounds, output), settings, path=path, report=report, **callbacks)
        return path
    values.pop("rank")
    result = finetune(request(model, sounds, output), FinetuneSettings(**values), report=report, **callbacks)
    return result.path / "model.safetensors"


@pytest.mark.slow
def test_a_lora_broken_off_three_times_is_the_same(
    tiny_folder: Folder, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off at once, then while a checkpoint is written, then before its half; each step counts once."""
    from audiox_ext.training import callbacks

    recorder = record_training(monkeypatch, tmp_path / "checkpoints")
    changes = {"steps": 10, "checkpoint_every": 2, "validate_every": 5, "patience": 1}
    whole = lora(tiny_folder("maf"), sounds, tmp_path / "whole", **changes)
    unbroken, recorder.steps = recorder.steps, []
    broken = tmp_path / "broken"
    with pytest.raises(BrokenError):
        lora(tiny_folder("maf"), sounds, broken, on_step=break_after(1), **changes)
    assert recorder.numbers("NetworkTraining") == [0]
    with monkeypatch.context() as patch:

        def write_half(path: Path, write: Callable[[Path], None]) -> bool:
            path.with_name(".half.partial").write_bytes(b"PK")
            raise BrokenError

        patch.setattr(callbacks, "try_to_write", write_half)
        with pytest.raises(BrokenError):
            lora(tiny_folder("maf"), sounds, broken, **changes)
    assert recorder.numbers("NetworkTraining") == [0, 1]  # the second one is in no checkpoint
    recorder.steps.pop()
    with pytest.raises(BrokenError):
        lora(tiny_folder("maf"), sounds, broken, on_step=break_after(4), **changes)
    again = lora(tiny_folder("maf"), sounds, broken, **changes)
    assert recorder.steps == unbroken
    assert again.path.read_bytes() == whole.path.read_bytes()
    one, other = (torch.load(path / "last.ckpt", weights_only=True) for path in (tmp_path / "whole", broken))
    check_equal(one, other, "last.ckpt")
    assert [step for step, _ in one["tuning"]["validations"]] == [0, 5, 10]


@pytest.mark.slow
def test_a_finished_training_only_writes_its_result(
    tiny_folder: Folder, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_training(monkeypatch, tmp_path / "checkpoints")
    first = lora(tiny_folder("maf"), sounds, tmp_path / "out", steps=3).path.read_bytes()
    recorder.steps.clear()
    lines: list[str] = []
    second = lora(tiny_folder("maf"), sounds, tmp_path / "out", lines.append, steps=3)
    assert second.path.read_bytes() == first
    assert not recorder.steps
    assert "All 3 steps are finished. Writing the result." in lines
    with pytest.raises(TrainingError, match=r"has finished 3 steps already, but steps is 2\. Set steps to 3"):
        lora(tiny_folder("maf"), sounds, tmp_path / "out", steps=2)
    lines.clear()
    lora(tiny_folder("maf"), sounds, tmp_path / "out", lines.append, steps=7)
    assert recorder.numbers("NetworkTraining") == [3, 4, 5, 6]
    assert any("was started with steps 3, so its learning rate" in line for line in lines)
    with pytest.raises(TrainingError, match="started with seed 0, but the settings now say 1"):
        lora(tiny_folder("maf"), sounds, tmp_path / "out", steps=7, seed=1)
    torch.save({"global_step": 3, "path": tmp_path}, tmp_path / "out" / "last.ckpt")
    with pytest.raises(TrainingError, match=r"cannot be read \(it holds more than tensors and plain data\)"):
        lora(tiny_folder("maf"), sounds, tmp_path / "out", steps=7)
    torch.save({"global_step": 3}, tmp_path / "out" / "last.ckpt")
    with pytest.raises(TrainingError, match=r"last\.ckpt comes from another program"):
        lora(tiny_folder("maf"), sounds, tmp_path / "out", steps=7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "finetune", "preserving", "stopped early"])
def test_a_training_resumed_at_every_tenth_is_the_same(
    kind: str, tiny_folder: Folder, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = "finetune" if kind == "finetune" else "lora"
    changes: dict[str, Any] = {
        "preserving": {"dropout": 0.3, "ema_decay": 0.9},
        # So large a step does harm from the beginning: training stops after 20 of 40 steps.
        "stopped early": {"steps": 40, "learning_rate": 0.3, "patience": 4, "warmup_steps": 0},
    }.get(kind, {})
    recorder = record_training(monkeypatch, tmp_path / "checkpoints")
    whole = train(method, tiny_folder("maf"), sounds, tmp_path / "whole", **changes)
    expected = whole.read_bytes()

    def resume(checkpoint: Path) -> tuple[bytes, Path]:
        output = tmp_path / "resumed"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        shutil.copyfile(checkpoint, output / "last.ckpt")
        result = train(method, tiny_folder("maf"), sounds, output, **changes).read_bytes()
        assert result == expected
        return result, output / "last.ckpt"

    check_every_resume(recorder, "NetworkTraining", 20, resume)


@pytest.mark.slow
def test_a_training_continues_with_its_memory_of_the_best(
    tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    """More patience continues a training that stopped early, and the best weights stay the best."""
    model = tiny_folder("maf")
    unstable = {"steps": 40, "learning_rate": 0.3, "warmup_steps": 0}
    patient = train("lora", model, sounds, tmp_path / "patient", patience=6, **unstable)
    train("lora", model, sounds, tmp_path / "hasty", patience=2, **unstable)
    again = train("lora", model, sounds, tmp_path / "hasty", patience=6, **unstable)
    assert again.read_bytes() == patient.read_bytes()
    restarted = replace(request(model, sounds, tmp_path / "hasty"), resume=False)
    settings = LoraSettings(**SETTINGS | unstable | {"patience": 6})
    lines: list[str] = []
    train_lora(restarted, settings, path=again, report=lines.append)
    assert not any("Resuming" in line for line in lines)
    assert again.read_bytes() == patient.read_bytes()
