"""Fixtures that tests of checkpoints share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from golden_cases import golden_path
from lora_methods import Apply
from safetensors.torch import save_file
from torch import Tensor

from audiox_ext.checkpoints.lora import set_loras
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.model import AudioXModel


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a golden checkpoint that a test may change."""

    def copy(kind: str) -> Path:
        ignore = shutil.ignore_patterns("cases.*")
        return Path(shutil.copytree(golden_path(kind), tmp_path / "audiox" / kind, ignore=ignore))

    return copy


@pytest.fixture(scope="module")
def lora_target() -> AudioXModel:
    """The golden mmdit of one test file, whose LoRAs each test removes."""
    return get_pretrained_model(golden_path("mmdit"), accept_cc_by_nc=True)[0]


@pytest.fixture
def apply(lora_target: AudioXModel, tmp_path: Path) -> Apply:
    """Apply a file of these tensors; returns the differences of the weights that changed, in float64."""
    originals = {name: w.detach() for name, w in lora_target.network.named_parameters()}

    def differences(
        tensors: dict[str, Tensor], strength: float = 1.0, metadata: dict[str, str] | None = None
    ) -> dict[str, Tensor]:
        path = tmp_path / "lora.safetensors"
        save_file({key: tensor.clone() for key, tensor in tensors.items()}, path, metadata)
        set_loras(lora_target, [(path, strength)], accept_cc_by_nc=True)
        after = {name: w.detach() for name, w in lora_target.network.named_parameters()}
        changed = [name for name, w in originals.items() if not torch.equal(after[name], w)]
        result = {name: after[name].double() - originals[name].double() for name in changed}
        set_loras(lora_target)
        return result

    return differences
