"""LoRAs and whole networks trained for a few steps, on the processor."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from audiox_ext.training.finetune import TrainingRequest, TrainingResult, train_lora
from audiox_ext.training.settings import LoraSettings

MISSING = [name for name in ("lightning", "tensorboard", "peft") if importlib.util.find_spec(name) is None]
needs_training = pytest.mark.skipif(
    bool(MISSING), reason=f"NO {' AND NO '.join(MISSING)}: pip install .[train] to test the training"
)
Folder = Callable[[str], Path]
QUICK: dict[str, Any] = {
    "steps": 6,
    "batch_size": 2,
    "warmup_steps": 2,
    "rank": 4,
    "learning_rate": 5e-3,
    "ema_decay": 0.5,
    "validation_items": 4,
    "validate_every": 3,
    "checkpoint_every": 2,
    "report_every": 2,
    "preview_every": 0,
    "preview_steps": 2,
}


def quietly(line: str) -> None:
    """Ignore a report."""


def request(model: Path, dataset: Path, output: Path, **changes: Any) -> TrainingRequest:
    return TrainingRequest(model=model, dataset=dataset, output=output, device=torch.device("cpu"), **changes)


def lora(model: Path, dataset: Path, output: Path, report: Any = quietly, **changes: Any) -> TrainingResult:
    """A LoRA of a few steps."""
    keys = ("preservation_dataset", "default_caption", "accept_cc_by_nc", "on_step")
    request_values = {key: changes.pop(key) for key in keys if key in changes}
    callbacks = {"on_step": request_values.pop("on_step")} if "on_step" in request_values else {}
    settings = LoraSettings(**QUICK | changes)
    training_request = request(model, dataset, output, **request_values)
    return train_lora(training_request, settings, path=output / "my.safetensors", report=report, **callbacks)


def read_losses(lines: list[str]) -> list[float]:
    """Return the losses of the validations."""
    return [
        float(line.split("loss ")[1].split(",")[0].split(";")[0]) for line in lines if "sounds loss" in line
    ]
