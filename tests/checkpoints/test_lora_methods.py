"""LoRA files of other programs: every name, alpha and method gives the weights that its formula says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden_cases import golden_path, relative_l2
from lora_methods import FILTERS, LINEAR, POINTS, Apply, MethodFiles, underscores
from safetensors.torch import save_file
from torch import Tensor

from audiox_ext.checkpoints.inspection import describe_lora, inspect_lora
from audiox_ext.checkpoints.lora import set_loras
from audiox_ext.checkpoints.lora_file import read_lora
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.errors import CheckpointError
from audiox_ext.model import AudioXModel


def matrices(lora_target: AudioXModel, layer: str, rank: int = 4) -> tuple[Tensor, Tensor]:
    """A and B of the size of the weight."""
    shape = lora_target.network.get_parameter(f"{layer}.weight").shape
    generator = torch.Generator().manual_seed(1)
    down = torch.randn(rank, *shape[1:], generator=generator)
    return down, torch.randn(shape[0], rank, *(1,) * (len(shape) - 2), generator=generator)


def product(down: Tensor, up: Tensor) -> Tensor:
    """B A, (O, I) or (O, I, K)."""
    return torch.einsum("or,rx->ox", up.double().flatten(1), down.double().flatten(1)).reshape(
        up.shape[0], *down.shape[1:]
    )


PREFIXES: dict[str, Callable[[str], str]] = {
    "none": lambda name: name,
    "comfyui": lambda name: f"diffusion_model.{name}",
    "whole model": lambda name: f"model.diffusion_model.{name}",
    "published": lambda name: f"model.model.{name}",
    "diffusers": lambda name: f"transformer.{name}",
    "unet": lambda name: f"unet.{name}",
    "peft": lambda name: f"base_model.model.{name}",
    "peft, unet": lambda name: f"unet.base_model.model.{name}",
    "kohya": lambda name: f"lora_unet_{underscores(name)}",
    "kohya, wan": lambda name: f"lora_unet__{underscores(name)}",
    "kohya, whole model": lambda name: f"lora_unet_model_model_{underscores(name)}",
    "cascade": lambda name: f"lora_prior_unet_{underscores(name)}",
    "onetrainer": lambda name: f"lora_transformer_{underscores(name)}",
    "lycoris": lambda name: f"lycoris_{underscores(name)}",
}
ENDS = {
    "kohya": (".lora_down.weight", ".lora_up.weight"),
    "peft": (".lora_A.weight", ".lora_B.weight"),
    "peft, named": (".lora_A.default.weight", ".lora_B.default.weight"),
    "mochi": (".lora_A", ".lora_B"),
    "diffusers": (".lora.down.weight", ".lora.up.weight"),
    "old diffusers": ("_lora.down.weight", "_lora.up.weight"),
    "transformers": (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
}
ALPHAS: dict[str, Tensor | None] = {
    "none": None,
    **{str(dtype): torch.tensor(8, dtype=dtype) for dtype in (torch.int64, torch.int32, torch.int8)},
    **{str(dtype): torch.tensor(8, dtype=dtype) for dtype in (torch.uint8, torch.float64, torch.float16)},
    **{str(dtype): torch.tensor(8.0).to(dtype) for dtype in (torch.bfloat16, torch.float8_e4m3fn)},
    "one of an axis": torch.tensor([8]),
}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_with_every_alpha(prefix: str, lora_target: AudioXModel, apply: Apply) -> None:
    layers = [LINEAR, FILTERS, POINTS, LINEAR.replace("0", "1"), FILTERS.replace("0", "1")]
    for start in range(0, len(ALPHAS), len(layers)):
        tensors, expected = {}, {}
        alphas = list(ALPHAS.values())[start : start + len(layers)]
        for layer, alpha, ends in zip(layers, alphas, ENDS.values(), strict=False):
            name, (down, up) = PREFIXES[prefix](layer), matrices(lora_target, layer)
            tensors |= {f"{name}{ends[0]}": down, f"{name}{ends[1]}": up}
            if alpha is not None:
                tensors[f"{name}.alpha"] = alpha
            expected[f"{layer}.weight"] = product(down, up) * (0.7 if alpha is None else 0.7 * 8 / 4)
        differences = apply(tensors, 0.7)
        assert differences.keys() == expected.keys()
        for name, difference in expected.items():
            assert relative_l2(differences[name], difference) < 1e-5, name


@pytest.mark.parametrize("ends", ENDS)
def test_every_end_of_a_name(ends: str, lora_target: AudioXModel, apply: Apply) -> None:
    down, up = matrices(lora_target, LINEAR)
    stem, (down_end, up_end) = f"diffusion_model.{LINEAR}", ENDS[ends]
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        tensors = {f"{stem}{down_end}": down.to(dtype), f"{stem}{up_end}": up.to(dtype)}
        differences = apply({**tensors, f"{stem}.alpha": torch.tensor(2)})
        assert list(differences) == [f"{LINEAR}.weight"]
        expected = product(down.to(dtype), up.to(dtype)) / 2
        assert relative_l2(differences[f"{LINEAR}.weight"], expected) < 1e-5


METHODS = [method.name for method in MethodFiles((16, 8, 3))]


@pytest.mark.parametrize("layer", [LINEAR, FILTERS, POINTS])
def test_every_method_gives_its_formula(layer: str, lora_target: AudioXModel, apply: Apply) -> None:
    weight = lora_target.network.get_parameter(f"{layer}.weight").detach().double()
    names = (layer, f"lora_unet_{underscores(layer)}", f"lycoris_{underscores(layer)}")
    seen = set()
    for axes in (3, 4):
        for method in MethodFiles(tuple(weight.shape), axes=axes):
            if layer == POINTS and method.name.startswith(("BOFT", "GLoRA")):
                continue  # too few channels for two rounds, and for matrices that are not square
            name = names[len(seen) % len(names)]
            tensors = {f"{name}.{end}": tensor for end, tensor in method.tensors.items()}
            change = apply(tensors, -0.7)[f"{layer}.weight"]
            # Relative to the weight, because some changes are small.
            error = (change + 0.7 * method.difference(weight)).norm() / weight.norm()
            assert error < 1e-6, (method.name, float(error))
            seen.add(method.name)
    if layer == FILTERS:
        assert seen == set(METHODS)


def test_biases_and_gains_are_changed(lora_target: AudioXModel, apply: Apply) -> None:
    bias = torch.randn(192)
    weight = torch.randn(192, 64)
    for stem in (f"diffusion_model.{LINEAR}", f"lora_unet_{underscores(LINEAR)}"):
        for parts in (("diff", "diff_b"), ("w_norm", "b_norm")):
            differences = apply({f"{stem}.{parts[0]}": weight, f"{stem}.{parts[1]}": bias}, 0.5)
            assert set(differences) == {f"{LINEAR}.weight", f"{LINEAR}.bias"}
            assert relative_l2(differences[f"{LINEAR}.bias"], bias.double() / 2) < 1e-5
            assert relative_l2(differences[f"{LINEAR}.weight"], weight.double() / 2) < 1e-5
        alone = apply({f"{stem}.diff_b": bias})
        assert list(alone) == [f"{LINEAR}.bias"]
    by_name = apply({f"diffusion_model.{LINEAR}.bias.diff": bias})
    assert relative_l2(by_name[f"{LINEAR}.bias"], bias.double()) < 1e-5
    with_matrices = dict(zip(("lora_A.weight", "lora_B.weight"), matrices(lora_target, LINEAR), strict=True))
    both = {f"{LINEAR}.{end}": tensor for end, tensor in with_matrices.items()}
    assert len(apply({**both, f"{LINEAR}.diff_b": bias})) == 2


def test_gains_of_norms_are_changed(tmp_path: Path) -> None:
    model, _ = get_pretrained_model(golden_path("maf"), accept_cc_by_nc=True)
    name, path = "transformer.layers.1.ff_norm.gamma", tmp_path / "gain.safetensors"
    before, values = model.network.get_parameter(name).detach().clone(), torch.randn(64)
    for part, expected in (("diff", before + values), ("set_weight", values)):
        save_file({f"diffusion_model.{name}.{part}": values}, path)
        set_loras(model, [(path, 1.0)], accept_cc_by_nc=True)
        torch.testing.assert_close(model.network.get_parameter(name).detach(), expected)
    set_loras(model)
    assert torch.equal(model.network.get_parameter(name), before)


def test_magnitudes_of_peft_belong_to_the_changed_direction(lora_target: AudioXModel, apply: Apply) -> None:
    for layer in (LINEAR, FILTERS):
        weight = lora_target.network.get_parameter(f"{layer}.weight").detach().double()
        down, up = matrices(lora_target, layer)
        magnitude = torch.rand(weight.shape[0]) + 0.5
        changed = weight + product(down, up)
        expected = changed * (magnitude.double() / changed.flatten(1).norm(dim=1)).reshape(
            -1, *[1] * (weight.dim() - 1)
        )
        stem = f"base_model.model.{layer}"
        tensors = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
        for end, shape in (
            ("lora_magnitude_vector", (-1,)),
            ("lora_magnitude_vector.weight", (-1,)),
            ("lora_magnitude_vector.default.weight", (1, -1, *[1] * (weight.dim() - 2))),
        ):
            change = apply({**tensors, f"{stem}.{end}": magnitude.reshape(shape)}, 0.5)
            assert relative_l2(change[f"{layer}.weight"], (expected - weight) / 2) < 1e-5


def test_old_names_of_attention_processors(lora_target: AudioXModel, apply: Apply) -> None:
    layer = "transformer.layers.0.cross_attn.to_kv"
    down, up = matrices(lora_target, layer)
    stem = "unet.transformer.layers.0.cross_attn.processor.to_kv_lora"
    differences = apply({f"{stem}.down.weight": down, f"{stem}.up.weight": up})
    assert relative_l2(differences[f"{layer}.weight"], product(down, up)) < 1e-5


def test_the_older_form_of_glora(lora_target: AudioXModel, apply: Apply) -> None:
    weight = lora_target.network.get_parameter(f"{LINEAR}.weight").detach().double()
    a1, a2, b1, b2 = (torch.randn(*s) * 0.1 for s in ((4, 64), (64, 4), (4, 64), (192, 4)))
    tensors = {"a1.weight": a1, "a2.weight": a2, "b1.weight": b1, "b2.weight": b2}
    change = apply({f"{LINEAR}.{end}": tensor for end, tensor in tensors.items()})
    expected = weight @ a2.double() @ a1.double() + b2.double() @ b1.double()
    assert relative_l2(change[f"{LINEAR}.weight"], expected) < 1e-5


@pytest.mark.parametrize(
    ("settings", "factor"),
    [
        ({"transformer.lora_alpha": 8, "transformer.r": 4}, 2.0),
        ({"lora_alpha": 8.0, "use_rslora": True}, 4.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn.qkv": 2, "qkv": 1}}, 0.5),
        ({"text_encoder.lora_alpha": 8}, 1.0),
    ],
)
def test_alphas_in_the_metadata(settings: Any, factor: float, lora_target: AudioXModel, apply: Apply) -> None:
    down, up = matrices(lora_target, LINEAR)
    stem = f"transformer.{LINEAR}"
    tensors = {f"{stem}.lora_A.weight": down, f"{stem}.lora_B.weight": up}
    metadata = {"lora_adapter_metadata": json.dumps(settings), "ss_network_alpha": "1"}
    change = apply(tensors, 1.0, metadata)[f"{LINEAR}.weight"]
    assert relative_l2(change, factor * product(down, up)) < 1e-5
    # An alpha of the layer counts before.
    change = apply({**tensors, f"{stem}.alpha": torch.tensor(12)}, 1.0, metadata)[f"{LINEAR}.weight"]
    assert relative_l2(change, 3 * product(down, up)) < 1e-5


@pytest.mark.parametrize("text", ["[", "[]", '{"lora_alpha": "x"}', '{"lora_alpha": NaN}', "[" * 100_000])
def test_damaged_settings_in_the_metadata(text: str, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    tensors = {"x.lora_A.weight": torch.ones(4, 6), "x.lora_B.weight": torch.ones(5, 4)}
    save_file(tensors, path, {"lora_adapter_metadata": text})
    with pytest.raises(CheckpointError, match=r"metadata of .* is damaged"):
        read_lora(path)


def test_later_changes_apply_to_the_weight_with_earlier_ones(
    lora_target: AudioXModel, tmp_path: Path
) -> None:
    before = lora_target.network.get_parameter(f"{LINEAR}.weight").detach().double()
    methods = {method.name: method for method in MethodFiles((192, 64))}
    used, expected = [], before
    for name, strength in (("LoKr of a product", 0.5), ("OFT", 0.8), ("DoRA of inputs, LoRA", 1.0)):
        path = tmp_path / f"{name}.safetensors"
        save_file({f"{LINEAR}.{end}": t for end, t in methods[name].tensors.items()}, path)
        used.append((path, strength))
        expected = expected + strength * methods[name].difference(expected)
    set_loras(lora_target, used, accept_cc_by_nc=True)
    assert relative_l2(lora_target.network.get_parameter(f"{LINEAR}.weight"), expected) < 1e-6
    set_loras(lora_target)
    assert torch.equal(lora_target.network.get_parameter(f"{LINEAR}.weight").double(), before)


def test_inspection_names_the_method(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    dora = {f"x.{end}": t for end, t in list(MethodFiles((16, 8)))[-6].tensors.items()}
    save_file({**dora, "y.diff": torch.ones(2, 2)}, path)
    report = inspect_lora(path)
    assert report["methods"] == ["DoRA (LoRA)", "diff"]
    assert report["parameters"] == sum(t.numel() for t in dora.values()) + 4
    assert report["rank"] == 4
    assert "method        DoRA (LoRA), diff" in describe_lora(report)
