"""Names in LoRA files, and files that are refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lora_methods import LINEAR, POINTS, Apply, underscores
from safetensors.torch import save_file
from torch import Tensor

from audiox_ext.checkpoints.adapters.names import find_parameters, split_name
from audiox_ext.checkpoints.lora_file import read_lora
from audiox_ext.errors import CheckpointError, InputError
from audiox_ext.model import AudioXModel

A, B = torch.ones(4, 6), torch.ones(5, 4)
PAIR = {"x.lora_A.weight": A, "x.lora_B.weight": B}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({**PAIR, "x.scalar": torch.ones(1)}, "tensors other than .*: x.scalar. These are supported: LoRA"),
        ({**PAIR, "x.diff": torch.ones(5, 6)}, "x has several changes of one weight: LoRA, diff"),
        ({**PAIR, "x.hada_w1_a": B}, "several changes of one weight: LoRA, LoHa"),
        ({"x.diff_b": torch.ones(5), "x.b_norm": torch.ones(5)}, "several changes .*: diff_b, b_norm"),
        ({"x.bias.diff": torch.ones(5), "x.diff_b": torch.ones(5)}, r"several changes of x\.bias"),
        ({"x.hada_w1_a": B, "x.hada_w1_b": A}, "x has no hada_w2_a and no hada_w2_b"),
        ({"x.lokr_w1": B}, "x has no lokr_w2"),
        ({"x.lokr_w1": B, "x.lokr_w2_a": B}, "x has no lokr_w2_b"),
        ({"x.lokr_w1": B, "x.lokr_w2": B, "x.lokr_w2_a": B}, "x has lokr_w2 twice"),
        ({"x.lokr_w1": torch.ones(5), "x.lokr_w2": B}, r"lokr_w1 of x has the shape \(5,\), not a matrix's"),
        ({"x.a1.weight": A}, "x has no a2 and no b1 and no b2"),
        ({"x.oft_blocks": A}, r"oft_blocks of x is \(4, 6\), not three or four axes"),
        ({"x.dora_scale": B}, "x has no lora_A and no lora_B"),
        ({"x.diff": A, "x.dora_scale": B}, "x has dora_scale beside diff, which is not a known form of DoRA"),
        ({**PAIR, "x.lora_mid.weight": A}, r"lora_A is \(4, 6\) and lora_B \(5, 4\) and lora_mid \(4, 6\)"),
        ({**PAIR, "x.reshape_weight": torch.tensor([9, 6])}, r"changes the shape of the weight to \(9, 6\)"),
        ({**PAIR, "x.alpha": torch.tensor(True)}, "alpha of x is of type bool, but must hold"),
        ({**PAIR, "x.alpha": torch.tensor(float("nan"))}, "not finite numbers"),
        ({**PAIR, "x.dora_scale": torch.tensor(1j)}, "dora_scale of x is of type complex64"),
    ],
)
def test_errors_say_what_is_wrong(tensors: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path)
    with pytest.raises(CheckpointError, match=message):
        read_lora(path)


def pair(name: str) -> dict[str, Tensor]:
    return {f"{name}.lora_down.weight": torch.ones(2, 64), f"{name}.lora_up.weight": torch.ones(192, 2)}


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {
                **pair("lora_te_text_model_encoder_layers_0_mlp_fc1"),
                **pair(f"lora_unet_{underscores(LINEAR)}"),
            },
            r"lacks 1 of the LoRA's 2 layers, such as lora_te_text_model_encoder_layers_0_mlp_fc1\. "
            "Names are read as the model's own, with the prefixes diffusion_model., .*lora_unet_",
        ),
        (pair("lora_unet_transformer_layers_9_attn_qkv"), "lacks 1 of the LoRA's 1 layers"),
        (pair("layers.0.attn.qkv"), "lacks 1 of the LoRA's 1 layers"),
        (
            {**pair(f"lora_unet_{underscores(LINEAR)}"), **pair(f"transformer.{LINEAR}")},
            "changes the same weight under several names: lora_unet_transformer_layers_0_attn_qkv, trans",
        ),
        ({f"{POINTS}.diff_b": torch.ones(4)}, "lacks 1 of the LoRA's 1 layers, such as preprocess_conv.bias"),
        ({f"{LINEAR}.diff": torch.ones(192, 63)}, r"\(192, 63\) in the LoRA and \(192, 64\) in the model"),
        ({f"{LINEAR}.diff_b": torch.ones(1)}, r"bias has the shape \(1,\) in the LoRA and \(192,\)"),
        ({f"{LINEAR}.oft_blocks": torch.ones(10, 4, 4)}, r"OFT blocks of the shape \(1, 10, 4, 4\)"),
        ({f"{LINEAR}.oft_blocks": torch.ones(8, 64, 3, 3)}, r"OFT blocks of the shape \(8, 64, 3, 3\)"),
        (
            {**pair(LINEAR), f"{LINEAR}.dora_scale": torch.ones(7, 1)},
            r"DoRA magnitudes of the shape \(7, 1\), which do not fit \(192, 64\) in the model",
        ),
        (
            {f"{LINEAR}.{end}.weight": torch.ones(4, 4) for end in ("a1", "a2", "b1", "b2")},
            r"GLoRA matrices of the shapes \(4, 4\), .*, which do not fit \(192, 64\)",
        ),
        ({f"{LINEAR}.lokr_w1": torch.ones(2, 2), f"{LINEAR}.lokr_w2": torch.ones(2, 2)}, r"shape \(4, 4\)"),
    ],
)
def test_files_that_do_not_fit_the_model(
    tensors: dict[str, Tensor], message: str, lora_target: AudioXModel, apply: Apply
) -> None:
    with pytest.raises(InputError, match=message):
        apply(tensors)


def test_products_are_not_computed_before_they_are_compared(lora_target: AudioXModel, apply: Apply) -> None:
    """Ten megabytes of matrices can stand for terabytes."""
    long, wide = torch.ones(1_000_000, 1), torch.ones(1, 1_000_000)
    tensors = {
        f"{LINEAR}.lokr_w1": torch.ones(1, 1),
        f"{LINEAR}.lokr_w2_a": long,
        f"{LINEAR}.lokr_w2_b": wide,
    }
    with pytest.raises(InputError, match=r"shape \(1000000, 1000000\)"):
        apply(tensors)


def test_names_are_never_guessed() -> None:
    parameters = ["a.b_c.weight", "a_b.c.weight", "d.weight", "transformer.d.weight", "e.bias"]
    names = ["lora_unet_a_b_c", "lora_unet_d", "transformer.d", "unet.transformer.d", "d.bias", "lora_unet_e"]
    names += ["a.b_c", "e.bias"]
    found = find_parameters(names, parameters)
    assert found.ambiguous["lora_unet_a_b_c"] == ["a.b_c.weight", "a_b.c.weight"]
    assert found.ambiguous["transformer.d"] == ["d.weight", "transformer.d.weight"]
    assert found.parameters["lora_unet_d"] == "d.weight"
    assert found.parameters["a.b_c"] == "a.b_c.weight"
    assert found.parameters["e.bias"] == "e.bias"
    assert found.unknown == ["d.bias", "lora_unet_e"]


def test_an_ambiguous_name_is_refused(lora_target: AudioXModel, apply: Apply, monkeypatch: Any) -> None:
    twin = torch.nn.Linear(64, 192)
    monkeypatch.setitem(
        lora_target.network._modules, "transformer_layers_0_attn", torch.nn.ModuleDict({"qkv": twin})
    )
    with pytest.raises(
        InputError, match=r"could be transformer\.layers\.0\.attn\.qkv\.weight or transformer_l"
    ):
        apply(pair(f"lora_unet_{underscores(LINEAR)}"))


@pytest.mark.parametrize(
    "unit", ["model.", "base_model.model.", "transformer.", ".lora_A", "lora_unet_", "_"]
)
def test_long_names_take_linear_time(unit: str) -> None:
    name = unit * (1_000_000 // len(unit))
    started = time.process_time()
    assert split_name(f"{name}.lora_A.weight") is None
    keys = [f"{unit * 20}{i}.lora_A.weight" for i in range(1_000_000 // (20 * len(unit) + 20))]
    layers = [names[0] for key in keys if (names := split_name(key))]
    find_parameters(layers, ["a.weight"])
    assert time.process_time() - started < 1
