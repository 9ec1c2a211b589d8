"""Copies of golden checkpoints, and their folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from audiox_ext.checkpoints.catalog import ModelFolders
from audiox_ext.checkpoints.state_dict import read_tensors


def folders(root: Path) -> ModelFolders:
    return ModelFolders(
        audiox=(root,), synchformer=(root,), text_encoders=(root / "text_encoders",), bundled=()
    )


def read_copies(path: Path, *nested: Any) -> dict[str, torch.Tensor]:
    """Read copies of tensors, so that the test may overwrite the file."""
    return {key: value.clone() for key, value in read_tensors(path, *nested).items()}
