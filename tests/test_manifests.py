"""Every key and shape of the published checkpoints, from the full-size configurations on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.model import AudioXModel

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["AudioX", "AudioX-MAF", "AudioX-MAF-MMDiT", "AudioX-Turbo"])
def test_published_keys_and_shapes(name: str) -> None:
    config = parse_config(json.loads((HERE / "configs" / f"{name}.json").read_text()))
    manifest = json.loads((HERE / "manifests" / f"{name}.json").read_text())
    with torch.device("meta"):
        shapes = AudioXModel(config).published_shapes()
    assert shapes == {key: tuple(shape) for key, shape in manifest.items()}


def test_the_package_carries_the_configuration_that_is_not_published() -> None:
    carried = HERE.parent / "audiox_ext" / "config" / "AudioX-Turbo.json"
    assert json.loads(carried.read_text()) == json.loads((HERE / "configs" / "AudioX-Turbo.json").read_text())
