"""Loading checkpoints: their layouts, names and precision, and weights in eight bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_copies import folders, read_copies
from golden_cases import golden_path

from audiox_ext.checkpoints.catalog import list_models
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import CheckpointError, InputError
from audiox_ext.networks.operations import PlainOperations


def weights_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value for key, value in model.state_dict().items() if "text_encoder" not in key}


def assert_same_weights(first: torch.nn.Module, second: torch.nn.Module) -> None:
    a, b = weights_of(first), weights_of(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_ckpt_is_read_as_the_safetensors(wrapped: bool, copy_of: Any, golden_model: Any) -> None:
    folder = copy_of("maf")
    state = read_copies(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save({"state_dict": state, "step": 3} if wrapped else state, folder / "model.ckpt")
    assert_same_weights(get_pretrained_model(folder, accept_cc_by_nc=True)[0], golden_model("maf"))


def test_an_unusual_file_name_is_found(copy_of: Any) -> None:
    folder = copy_of("base")
    (folder / "model.safetensors").rename(folder / "my_finetune.safetensors")
    get_pretrained_model(folder, accept_cc_by_nc=True)


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "student.", "student.model."])
@pytest.mark.parametrize("container", [None, "state_dict", "model", "student", "student_state_dict"])
def test_student_keys_in_every_form(
    prefix: str, container: str | None, copy_of: Any, golden_model: Any
) -> None:
    folder = copy_of("turbo")
    path = folder / "audiox_turbo" / "audiox_turbo.ckpt"
    state = read_copies(path, ("state_dict", "model", "student", "student_state_dict"))
    state = {prefix + key.removeprefix("student."): value for key, value in state.items()}
    torch.save(state if container is None else {container: state, "epoch": 1}, path)
    assert_same_weights(get_pretrained_model(folder, accept_cc_by_nc=True)[0], golden_model("turbo"))


def test_the_autoencoder_file_fills_only_what_is_missing(copy_of: Any, golden_model: Any) -> None:
    folder = copy_of("mmdit")
    state = read_copies(folder / "model.safetensors")
    inner = "pretransform.model."
    vae = {key.removeprefix(inner): value.clone() for key, value in state.items() if key.startswith(inner)}
    rest = {key: value for key, value in state.items() if not key.startswith(inner + "decoder")}
    (folder / "model.safetensors").unlink()
    torch.save(rest, folder / "model.ckpt")
    torch.save(vae, folder / "VAE.ckpt")
    assert_same_weights(get_pretrained_model(folder, accept_cc_by_nc=True)[0], golden_model("mmdit"))


def test_a_student_without_configuration_gets_the_bundled_one(copy_of: Any) -> None:
    folder = copy_of("turbo")
    (folder / "config.json").unlink()
    # The tiny golden weights cannot fit the full-size configuration, so the error shows which one is used.
    with pytest.raises(CheckpointError, match="describes a model of at least 452283904 values"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_models_are_found_by_name_and_path(copy_of: Any, tmp_path: Path) -> None:
    folder = copy_of("maf")
    model_folders = folders(tmp_path / "audiox")
    for name in ("maf", str(folder), folder):
        model, config = get_pretrained_model(name, accept_cc_by_nc=True, folders=model_folders)
        assert model.folder == folder
        assert config["sample_rate"] == 8000
    assert list_models(model_folders)[:2] == ["maf", "AudioX"]


def test_precision_applies_to_the_network_alone(copy_of: Any) -> None:
    model, _ = get_pretrained_model(copy_of("maf"), accept_cc_by_nc=True, precision="bf16")
    dtypes = {
        value.dtype for key, value in model.network.state_dict().items() if "timestep_features" not in key
    }
    assert dtypes == {torch.bfloat16}
    assert {value.dtype for value in model.pretransform.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("amx", [False, True, None])
def test_auto_is_bf16_on_a_processor_with_units_for_it(
    amx: bool | None, copy_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if amx is None:  # torch cannot tell
        monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    model, _ = get_pretrained_model(copy_of("maf"), accept_cc_by_nc=True, precision="auto")
    assert model.network.compute_dtype == (torch.bfloat16 if amx else torch.float32)


@pytest.mark.parametrize("form", ["safetensors", "ckpt"])
def test_a_random_checkpoint_in_published_form_loads(form: Any, tmp_path: Path) -> None:
    from tools.random_checkpoint import build_tiny_config, write_random_checkpoint

    encoder = {"d_ff": 32, "d_kv": 16, "d_model": 64, "num_heads": 2, "num_layers": 1}
    write_random_checkpoint(
        tmp_path / "m", build_tiny_config("maf"), form=form, text_encoder=encoder, synchformer_depth=1
    )
    get_pretrained_model(tmp_path / "m")


def test_every_listed_folder_can_be_loaded(copy_of: Any, tmp_path: Path) -> None:
    copy_of("base").rename(tmp_path / "audiox" / "My model (v2)")
    model_folders = folders(tmp_path / "audiox")
    name = list_models(model_folders)[0]
    model, _ = get_pretrained_model(name, accept_cc_by_nc=True, folders=model_folders, allow_paths=False)
    assert model.folder is not None
    assert model.folder.name == name == "My model (v2)"


EIGHT_BITS: dict[str, Any] = {
    "operations": PlainOperations,
    "dtype": torch.bfloat16,
    "block_dtype": torch.float8_e4m3fn,
}


def test_weights_in_eight_bits_are_rounded_to_the_nearest(copy_of: Any) -> None:
    model, _ = get_pretrained_model(copy_of("mmdit"), accept_cc_by_nc=True, **EIGHT_BITS)
    full = read_tensors(golden_path("mmdit") / "model.safetensors")
    matrices = 0
    for key, weight in model.network.named_parameters():
        inside = key.startswith("transformer.layers.") and weight.dim() > 1
        assert (weight.dtype == torch.float8_e4m3fn) == inside, key
        if inside:
            stored = full[f"model.model.{key}"]
            assert torch.equal(weight.float(), stored.to(torch.float8_e4m3fn).float()), key
            matrices += 1
    assert matrices


def test_values_beyond_eight_bits_are_an_error(copy_of: Any) -> None:
    folder = copy_of("maf")
    state = read_copies(folder / "model.safetensors")
    key = "model.model.transformer.layers.0.ff.ff.2.weight"
    state[key][0, 0] = -448.0
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "model.ckpt")
    get_pretrained_model(folder, accept_cc_by_nc=True, **EIGHT_BITS)
    state[key][0, 0] = -512.0
    torch.save(state, folder / "new.ckpt")
    (folder / "new.ckpt").replace(folder / "model.ckpt")
    with pytest.raises(CheckpointError, match=rf"{key} holds a value beyond 448, which fp8 cannot hold"):
        get_pretrained_model(folder, accept_cc_by_nc=True, **EIGHT_BITS)
    get_pretrained_model(folder, accept_cc_by_nc=True, precision="bf16")


def test_eight_bits_need_layers_that_cast(copy_of: Any) -> None:
    folder, eight_bits = copy_of("maf"), torch.float8_e4m3fn
    with pytest.raises(InputError, match=r"fp8 works only in ComfyUI.*Choose auto, fp32, bf16 or fp16"):
        get_pretrained_model(folder, accept_cc_by_nc=True, precision="fp8")
    with pytest.raises(InputError, match=r"torch\.float8_e4m3fn, but .*ComfyUI's"):
        get_pretrained_model(folder, accept_cc_by_nc=True, block_dtype=eight_bits)
