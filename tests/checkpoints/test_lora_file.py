"""LoRA files: written, read, and refused."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import golden_path
from random_loras import random_lora
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from audiox_ext.checkpoints.adapters.additions import LoraLayer
from audiox_ext.checkpoints.lora_file import LoraInfo, read_lora, write_lora
from audiox_ext.errors import CheckpointError


def test_a_written_lora_reads_the_same(tmp_path: Path, golden_model: Any) -> None:
    captions = ("rain on a tin roof", "грибной дождь")
    lora = random_lora(golden_model("mmdit"), trigger="zx", captions=captions, steps=120, dataset="9 sounds")
    path = tmp_path / "lora.safetensors"
    write_lora(path, lora.layers, lora.info)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    read = read_lora(path)
    assert read.info == lora.info
    assert read.rank == 3
    assert read.layers.keys() == lora.layers.keys()
    for name, layer in lora.layers.items():
        assert torch.equal(read.layers[name].down, layer.down)
        assert torch.equal(read.layers[name].up, layer.up)
        assert read.layers[name].alpha == layer.alpha
    with safe_open(path, framework="pt") as file:
        keys, metadata = set(file.keys()), file.metadata()
    stem = "diffusion_model.transformer.layers.0.attn.qkv"
    assert {f"{stem}.lora_A.weight", f"{stem}.lora_B.weight", f"{stem}.alpha"} <= keys
    assert (metadata["audiox_lora"], metadata["rank"], metadata["kind"]) == ("1", "3", "mmdit")
    write_lora(path, lora.layers, lora.info)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_file_may_be_replaced_while_it_is_in_use(tmp_path: Path, golden_model: Any) -> None:
    lora, path = random_lora(golden_model("maf")), tmp_path / "lora.safetensors"
    write_lora(path, lora.layers, lora.info)
    read = read_lora(path)
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert all(torch.equal(read.layers[name].up, layer.up) for name, layer in lora.layers.items())


@pytest.mark.parametrize(
    ("prefix", "down", "up"),
    [
        ("diffusion_model.", "lora_A.weight", "lora_B.weight"),
        ("diffusion_model.", "lora_down.weight", "lora_up.weight"),
        ("base_model.model.", "lora_A.weight", "lora_B.weight"),
        ("base_model.model.", "lora_A.default.weight", "lora_B.default.weight"),
        ("base_model.model.model.model.", "lora_A.weight", "lora_B.weight"),
        ("", "lora_down.weight", "lora_up.weight"),
    ],
)
def test_names_of_other_programs_are_read(prefix: str, down: str, up: str, tmp_path: Path) -> None:
    path = tmp_path / "rain.safetensors"
    a, b = torch.randn(4, 6), torch.randn(5, 4)
    tensors = {f"{prefix}x.0.y.{down}": a, f"{prefix}x.0.y.{up}": b}
    save_file(tensors, path)
    lora = read_lora(path)
    assert lora.info == LoraInfo(name="rain")
    assert list(lora.layers) == ["x.0.y"]
    # Without alpha nothing is scaled.
    torch.testing.assert_close(lora.layers["x.0.y"].difference(1.0), b @ a)
    save_file({**tensors, f"{prefix}x.0.y.alpha": torch.tensor(2.0)}, path)
    torch.testing.assert_close(read_lora(path).layers["x.0.y"].difference(3.0), 1.5 * (b @ a))


A, B = torch.ones(4, 6), torch.ones(5, 4)


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"model.weight": A}, "is not a LoRA: none of its 1 tensors"),
        ({"x.alpha": torch.ones(3)}, "is not a LoRA"),
        ({"x.lora_A.weight": A}, "incomplete: x has no lora_B"),
        ({"x.lora_B.weight": B, "x.alpha": torch.tensor(1.0)}, "incomplete: x has no lora_A"),
        ({"x.lora_A.weight": A, "x.lora_B.weight": A}, r"lora_A is \(4, 6\) and lora_B \(4, 6\)"),
        ({"x.lora_A.weight": A[:0], "x.lora_B.weight": B[:, :0]}, r"lora_A is \(0, 6\)"),
        ({"x.lora_A.weight": A[..., None], "x.lora_B.weight": B}, r"lora_A is \(4, 6, 1\)"),
        (
            {"x.lora_A.weight": A / 0, "x.lora_B.weight": B},
            "of x contains values that are not finite numbers",
        ),
        (
            {"x.lora_A.weight": A.int(), "x.lora_B.weight": B},
            "lora_A of x is of type int32, but must hold floating",
        ),
        (
            {"x.lora_A.weight": A, "x.lora_B.weight": B, "x.alpha": torch.ones(2)},
            r"alpha of x has the shape \(2,\), not one number",
        ),
        (
            {"x.lora_A.weight": A, "x.lora_B.weight": B, "x.scalar": torch.ones(2)},
            "tensors other than a LoRA's matrices, which are not supported: x.scalar",
        ),
        (
            {"x.lora_A.weight": A, "x.lora_B.weight": B, "x.lora_down.weight": A.clone()},
            "two tensors for the same matrix of x",
        ),
    ],
)
def test_errors_say_what_is_wrong(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path)
    with pytest.raises(CheckpointError, match=message):
        read_lora(path)


def test_files_that_are_damaged_or_of_another_kind(tmp_path: Path, golden_model: Any) -> None:
    lora, path = random_lora(golden_model("maf")), tmp_path / "lora.safetensors"
    with pytest.raises(CheckpointError, match=r"There is no file .* Put the LoRA there"):
        read_lora(path)
    with pytest.raises(CheckpointError, match=r"is not a \.safetensors file"):
        read_lora(golden_path("maf/config.json"))
    with pytest.raises(CheckpointError, match="is not a LoRA"):
        read_lora(golden_path("maf/model.safetensors"))
    write_lora(path, lora.layers, lora.info)
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:100], b"", b"\xff" * 64, b"version https://git-lfs\n"):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="damaged or incomplete"):
            read_lora(path)
    save_file({"x.lora_A.weight": A, "x.lora_B.weight": B}, path, {"audiox_lora": "2"})
    with pytest.raises(CheckpointError, match="format version 2, but only version 1 is supported"):
        read_lora(path)
    save_file({"x.lora_A.weight": A, "x.lora_B.weight": B}, path, {"audiox_lora": "1", "steps": "many"})
    with pytest.raises(CheckpointError, match="metadata"):
        read_lora(path)


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, golden_model: Any) -> None:
    lora, path = random_lora(golden_model("maf")), tmp_path / "lora.safetensors"
    write_lora(path, lora.layers, lora.info)
    before = path.read_bytes()
    broken = {"x": LoraLayer(down=torch.empty(2, 3, device="meta"), up=torch.ones(4, 2), alpha=1)}
    with pytest.raises((NotImplementedError, RuntimeError)):
        write_lora(path, broken, lora.info)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
