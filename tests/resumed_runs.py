"""Trainings that are resumed from each of their checkpoints, and what is recorded of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch


@dataclass
class Recorder:
    """What the trainings of a test have done.

    Attributes:
        steps: (class of the training, step, learning rates) of every step.
        checkpoints: copies of all checkpoints by (class of the training, finished steps).
    """

    folder: Path
    steps: list[tuple[str, int, tuple[float, ...]]] = field(default_factory=list)
    checkpoints: dict[tuple[str, int], Path] = field(default_factory=dict)

    def numbers(self, kind: str) -> list[int]:
        return [step for name, step, _ in self.steps if name == kind]


def record_training(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Recorder:
    """Record every step and every checkpoint from now on."""
    from audiox_ext.training import callbacks
    from audiox_ext.training.module import TrainingModule

    recorder, folder = Recorder(folder), folder
    folder.mkdir()
    step, write = TrainingModule.training_step, callbacks.TrainingCallback._write_checkpoint

    def recorded_step(self: Any, batch: Any, index: int) -> Any:
        loss = step(self, batch, index)
        rates = tuple(group["lr"] for group in self.optimizers().param_groups)
        recorder.steps.append((type(self).__name__, batch.step, rates))
        return loss

    def recorded_write(self: Any, trainer: Any) -> None:
        write(self, trainer)
        key = (type(trainer.lightning_module).__name__, trainer.global_step)
        recorder.checkpoints[key] = folder / f"{key[0]}-{key[1]}.ckpt"
        shutil.copyfile(self._space.checkpoint, recorder.checkpoints[key])

    monkeypatch.setattr(TrainingModule, "training_step", recorded_step)
    monkeypatch.setattr(callbacks.TrainingCallback, "_write_checkpoint", recorded_write)
    return recorder


def check_every_resume(
    recorder: Recorder, kind: str, steps: int, resume: Callable[[Path], tuple[bytes, Path]]
) -> None:
    """Resume a training from each tenth, and compare its result, checkpoint, steps and learning rates.

    Args:
        recorder: has recorded the unbroken training.
        kind: class of the training.
        steps: its steps.
        resume: resumes a training from a checkpoint; returns its result, and its last checkpoint.
    """
    unbroken = [row for row in recorder.steps if row[0] == kind]
    assert [row[1] for row in unbroken] == list(range(steps))
    expected = None
    for tenth in range(10, -1, -1):
        finished = max(1, steps * tenth // 10)
        checkpoint = recorder.checkpoints[kind, finished]
        recorder.steps.clear()
        result, last = resume(checkpoint)
        assert [row for row in recorder.steps if row[0] == kind] == unbroken[finished:], finished
        state = torch.load(last, weights_only=True)
        if expected is None:
            expected = result, state
        assert result == expected[0], finished
        check_equal(state, expected[1], f"resumed after {finished}")


def check_equal(one: Any, other: Any, place: str) -> None:
    """Compare two checkpoints, except for Lightning's own counters."""
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one.keys() - {"loops"}:
            check_equal(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for number, pair in enumerate(zip(one, other, strict=True)):
            check_equal(*pair, f"{place}[{number}]")
    else:
        assert one == other, place
