"""Whole trainings of the miniature: what their tests share."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from audiox_ext.checkpoints.state_dict import read_tensors
from pocket.settings import TrainingConfig

MISSING = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
needs_lightning = pytest.mark.skipif(
    bool(MISSING), reason=f"NO {' AND NO '.join(MISSING)}: pip install .[train] to test the training"
)
Train = Callable[..., Path]


def quietly(line: str) -> None:
    """Ignore a report."""


def with_steps(config: TrainingConfig, part: str, steps: int) -> TrainingConfig:
    return replace(config, **{part: replace(getattr(config, part), steps=steps)})


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "last.ckpt", ("state_dict",))


def copy_trained(source: Path, folder: Path) -> Path:
    """All but the diffusion."""
    for name in ("autoencoder", "sync", "prepared"):
        shutil.copytree(source / name, folder / name)
    return folder
