"""Parsers of text that a user or a file brings take linear time: a megabyte of it less than a second."""

from __future__ import annotations

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.lora_file import read_lora
from audiox_ext.checkpoints.untrusted.json_files import read_config
from audiox_ext.cli.common import read_loras
from audiox_ext.cli.generate import _region
from audiox_ext.errors import AudioXError
from audiox_ext.license import is_non_commercial
from audiox_ext.pipeline.request import AudioRequest

CONFIG = json.loads((Path(__file__).parent / "configs" / "AudioX-MAF.json").read_text())
Parse = Callable[[str, Path], Any]


def parse_conditioner_name(text: str, folder: Path) -> None:
    entry = {"id": text, "type": "t5", "config": {}}
    parse_config(CONFIG | {"model": CONFIG["model"] | {"conditioning": {"configs": [entry], "cond_dim": 8}}})


def parse_config_file(text: str, folder: Path) -> None:
    (folder / "config.json").write_text(text)
    parse_config(read_config(folder / "config.json"))


def read_metadata(name: str) -> Parse:
    def read(text: str, folder: Path) -> None:
        tensors = {"x.lora_A.weight": torch.ones(1, 1), "x.lora_B.weight": torch.ones(1, 1)}
        save_file(tensors, folder / "lora.safetensors", {"audiox_lora": "1", name: text})
        read_lora(folder / "lora.safetensors")

    return read


PARSERS: dict[str, Parse] = {
    "prompt": lambda text, folder: AudioRequest(prompt=text),
    "negative prompt": lambda text, folder: AudioRequest(negative_prompt=text),
    "region": lambda text, folder: _region(text, argparse.Namespace(feather=0, strength=1)),
    "LoRA option": lambda text, folder: read_loras(argparse.Namespace(lora=[text])),
    "config.json": parse_config_file,
    "conditioner's name": parse_conditioner_name,
    "licence": lambda text, folder: is_non_commercial(text),
    **{
        f"LoRA's {name}": read_metadata(name)
        for name in ("steps", "captions", "license", "trigger", "lora_adapter_metadata")
    },
}
UNITS = ("0", "0 ", " ", "-", ":", "_prompt", "[", '"', '{"a":', "9,", "\n0-1 a")


@pytest.mark.parametrize("parser", PARSERS)
def test_a_megabyte_takes_less_than_a_second(parser: str, tmp_path: Path) -> None:
    for unit in UNITS:
        started = time.process_time()
        with contextlib.suppress(AudioXError):
            PARSERS[parser]("0" + unit * (1_000_000 // len(unit)) + "x", tmp_path)
        assert time.process_time() - started < 1, unit
