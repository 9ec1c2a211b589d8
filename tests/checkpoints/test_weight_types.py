"""Weights of kinds that a model cannot use are refused by name, and float8 is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from audiox_ext.checkpoints.conversion import convert_checkpoint
from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.lora_file import read_lora
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import CheckpointError, InputError
from tools.random_checkpoint import write_tiny_checkpoint

KEY = "model.model.transformer.layers.0.self_attn.to_qkv.weight"
PAIR = "pretransform.model.decoder.layers.0.weight_v"
Change = Callable[[Tensor], Tensor]


def quantise(tensor: Tensor) -> Tensor:
    return torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.qint8)


def write_with(folder: Path, key: str, change: Change, *, pickled: bool = False) -> Path:
    """Write a model of which one tensor is changed."""
    write_tiny_checkpoint(folder, "base")
    path = folder / "model.safetensors"
    state = {name: value.clone() for name, value in read_tensors(path).items()}
    state[key] = change(state[key])
    if pickled:
        path.unlink()
        torch.save({"state_dict": state}, folder / "model.ckpt")
    else:
        save_file(state, path)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("key", [KEY, PAIR])
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda t: t.to(torch.int8), "of type int8"),
        (lambda t: t > 0, "of type bool"),
        (lambda t: t.to(torch.complex64), "of type complex64"),
        (lambda t: t.to("meta"), "without values"),
        (lambda t: t.to_sparse(), "sparse or nested"),
        (quantise, r"quantised \(qint8\)"),
    ],
    ids=["int8", "bool", "complex", "meta", "sparse", "quantised"],
)
def test_tensors_that_are_no_weights_are_named(key: str, change: Change, kind: str, tmp_path: Path) -> None:
    folder = write_with(tmp_path / "model", key, change, pickled=True)
    with pytest.raises(CheckpointError, match=f"{key} is {kind}.*weights must be dense tensors of float32"):
        get_pretrained_model(folder)
    with pytest.raises(CheckpointError, match=f"{key} is {kind}"):
        convert_checkpoint(str(folder), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("key", [KEY, PAIR])
def test_any_type_of_floating_point_numbers_is_read(key: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = write_with(tmp_path / "model", key, lambda t: t.to(dtype))
    model, _ = get_pretrained_model(folder)
    weights = model.state_dict()
    assert all(bool(value.isfinite().all()) for value in weights.values())
    converted, _ = get_pretrained_model(
        convert_checkpoint(str(folder), tmp_path / "new", precision="fp32").parent
    )
    # `convert` folds float64 pairs in float64.
    for name, value in weights.items():
        torch.testing.assert_close(value, converted.state_dict()[name], rtol=1e-5, atol=1e-6)


def test_values_that_are_not_finite_are_found_in_small_tensors_and_by_convert(tmp_path: Path) -> None:
    def spoil(tensor: Tensor) -> Tensor:
        tensor.view(-1)[0] = float("nan")
        return tensor

    small = "model.model.transformer.layers.0.pre_norm.gamma"
    folder = write_with(tmp_path / "small", small, spoil)
    with pytest.raises(
        CheckpointError, match=f"{small} holds NaN or infinity, as after a training that failed"
    ):
        get_pretrained_model(folder)
    folder = write_with(tmp_path / "large", KEY, spoil)
    with pytest.raises(InputError, match=f"{KEY} holds NaN or infinity"):
        convert_checkpoint(str(folder), tmp_path / "new", precision="fp32")
    assert not (tmp_path / "new").exists()


def test_a_synchformer_of_whole_numbers_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "model", "maf")
    path = folder / "synchformer_state_dict.safetensors"
    state = {name: value.to(torch.int8) for name, value in read_tensors(path).items()}
    save_file(state, path)
    with pytest.raises(CheckpointError, match="is of type int8, but weights must be"):
        load_synchformer(path)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_a_lora_of_other_numbers_is_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({"x.lora_A.weight": torch.ones(1, 2, dtype=dtype), "x.lora_B.weight": torch.ones(2, 1)}, path)
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(CheckpointError, match=f"lora_A of x is of type {name}, but must hold floating-point"):
        read_lora(path)


def test_a_refused_pickle_does_not_advise_to_switch_safety_off(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.zeros(1), "b": Path("x")}, path)
    with pytest.raises(CheckpointError) as error:
        read_tensors(path)
    message = str(error.value)
    assert "could run code" in message
    assert "weights_only" not in message
    assert "Posix" in message, "it names what the file asks for"
