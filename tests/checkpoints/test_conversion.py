"""`convert`: the new file loads as the same model, from published and own formats."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from audiox_ext.checkpoints.catalog import (
    DEFAULT_MODEL,
    ModelFolders,
    find_files,
    find_model_folder,
    list_models,
)
from audiox_ext.checkpoints.conversion import convert_checkpoint
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors, unfolded_shapes
from audiox_ext.cli.main import main
from audiox_ext.errors import CheckpointError, InputError, LicenseError
from audiox_ext.model import AudioXModel
from audiox_ext.pipeline.generate import generate_diffusion_cond
from tools.random_checkpoint import build_tiny_config, write_random_checkpoint, write_tiny_checkpoint

KINDS = ("base", "maf", "mmdit", "turbo")


def sound(model: AudioXModel) -> torch.Tensor:
    # Sums on a processor depend on where in a cache line the weights begin, which differs between files.
    for tensor in weights_of(model).values():
        tensor.data = tensor.data.clone()
    return generate_diffusion_cond(
        model, steps=2, conditioning={"text_prompt": "rain"}, seed=3, device="cpu", cfg_scale=2
    )


def weights_of(model: AudioXModel) -> dict[str, torch.Tensor]:
    model.state_dict()  # folds the weights that wait for their first use
    return dict(sorted([*model.named_parameters(), *model.named_buffers()]))


def header(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as file:
        return file.metadata()


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_converted_model_sounds_the_same(
    kind: str, precision: Any, tiny_folder: Any, tmp_path: Path
) -> None:
    folder = tiny_folder(kind)
    path = convert_checkpoint(str(folder), tmp_path / "new", precision=precision)
    before, _ = get_pretrained_model(folder, precision=precision)
    after, config = get_pretrained_model(tmp_path / "new", precision=precision)
    for (key, old), (also, new) in zip(weights_of(before).items(), weights_of(after).items(), strict=True):
        assert (key, old.dtype) == (also, new.dtype)
        assert torch.equal(old, new), key
    assert torch.equal(sound(before), sound(after))
    assert after.config == before.config
    files = find_files(tmp_path / "new")
    assert (files.weights, files.vae, files.is_student) == (path, None, False)
    assert config["license"] == "MIT"


def test_weights_have_the_types_of_the_loader(tiny_folder: Any, tmp_path: Path) -> None:
    path = convert_checkpoint(str(tiny_folder("maf")), tmp_path / "new", precision="bf16")
    tensors = read_tensors(path)
    low = {key for key, tensor in tensors.items() if tensor.dtype == torch.bfloat16}
    assert low
    assert all(key.startswith("model.model.") for key in low)
    assert "model.model.timestep_features.weight" not in low
    # Loading converts nothing: every weight is a memory-mapped page of the file.
    model, _ = get_pretrained_model(tmp_path / "new", precision="bf16")
    assert {str(t.dtype) for t in weights_of(model).values()} == {"torch.bfloat16", "torch.float32"}
    used = set(weights_of(model)) - {"conditioner.conditioners.text_prompt"}
    assert sum(key in tensors for key in used) > 0.9 * len(used & set(tensors))


@pytest.mark.slow
def test_a_pickle_becomes_safetensors_that_name_their_source(tmp_path: Path) -> None:
    config = {**build_tiny_config("maf"), "license": "cc-by-nc-4.0"}
    small = {"d_ff": 64, "d_kv": 16, "d_model": 64, "num_heads": 4, "num_layers": 2}
    folder = write_random_checkpoint(
        tmp_path / "AudioX-MAF", config, form="ckpt", text_encoder=small, synchformer_depth=1
    )
    with pytest.raises(LicenseError):
        convert_checkpoint(str(folder), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    path = convert_checkpoint(str(folder), tmp_path / "new", accept_cc_by_nc=True)
    assert header(path) == {
        "format": "pt",
        "source": "AudioX-MAF/model.ckpt",
        "license": "cc-by-nc-4.0",
        "dtype": "bf16",
    }
    with pytest.raises(LicenseError):
        get_pretrained_model(tmp_path / "new")
    names = sorted(p.relative_to(tmp_path / "new").as_posix() for p in (tmp_path / "new").rglob("*"))
    assert names == [
        "config.json",
        "model.safetensors",
        "synchformer_state_dict.safetensors",
        "text_encoder",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "text_encoder/tokenizer.json",
    ]
    again = convert_checkpoint(str(folder), tmp_path / "again", accept_cc_by_nc=True)
    assert again.read_bytes() == path.read_bytes()
    # A second conversion changes nothing.
    twice = convert_checkpoint(str(tmp_path / "new"), tmp_path / "twice", accept_cc_by_nc=True)
    assert all(torch.equal(t, read_tensors(path)[key]) for key, t in read_tensors(twice).items())


def test_a_published_name_without_a_licence_is_non_commercial(tmp_path: Path, tiny_folder: Any) -> None:
    folder = tmp_path / "AudioX-Turbo"
    shutil.copytree(tiny_folder("turbo"), folder)
    config = json.loads((folder / "config.json").read_text())
    del config["license"]
    (folder / "config.json").write_text(json.dumps(config))
    path = convert_checkpoint(str(folder), tmp_path / "new", accept_cc_by_nc=True)
    assert header(path)["license"] == "cc-by-nc-4.0"
    written = json.loads((tmp_path / "new" / "config.json").read_text())
    assert written == {"license": "cc-by-nc-4.0", **config}
    model, _ = get_pretrained_model(tmp_path / "new", accept_cc_by_nc=True)
    assert model.config.few_step_count == 4


def test_nothing_is_overwritten_without_force(tiny_folder: Any, tmp_path: Path) -> None:
    folder, new = str(tiny_folder("base")), tmp_path / "new"
    path = convert_checkpoint(folder, new, precision="fp16")
    with pytest.raises(InputError, match="--force"):
        convert_checkpoint(folder, new)
    assert header(path)["dtype"] == "fp16"
    mapped = read_tensors(path)  # as another process would
    copies = {key: tensor.clone() for key, tensor in mapped.items()}
    convert_checkpoint(folder, new, force=True)
    assert header(path)["dtype"] == "bf16"
    assert all(torch.equal(tensor, copies[key]) for key, tensor in mapped.items())
    with pytest.raises(InputError, match="is the source of this conversion"):
        convert_checkpoint(str(new), new, force=True)


def test_another_models_configuration_is_not_overwritten(tiny_folder: Any, tmp_path: Path) -> None:
    other = write_random_checkpoint(tmp_path / "other", build_tiny_config("maf"), form="ckpt")
    before = (other / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"config\.json exists already.*--force"):
        convert_checkpoint(str(tiny_folder("base")), other)
    assert (other / "config.json").read_bytes() == before
    assert not (other / "model.safetensors").exists()
    convert_checkpoint(str(other), other)  # beside its source, config.json is the same file
    assert find_files(other).weights.name == "model.safetensors"


def test_a_configuration_that_cannot_be_written_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_random_checkpoint(tmp_path / "own", build_tiny_config("base"), form="ckpt")
    before = (folder / "config.json").read_bytes()

    def full(path: Path, *arguments: object, **settings: object) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="is full"):
        convert_checkpoint(str(folder), folder)
    assert (folder / "config.json").read_bytes() == before
    assert not list(folder.glob(".config.json.*"))


def test_values_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    folder = write_random_checkpoint(tmp_path / "large", build_tiny_config("base"))
    state = read_tensors(folder / "model.safetensors")
    key = "model.model.transformer.layers.0.self_attn.to_qkv.weight"
    state[key] = state[key].clone()
    state[key][0, 0] = -70000
    save_file(state, folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"{key} contains 70000, more than the 65504 that float16 can hold"):
        convert_checkpoint(str(folder), tmp_path / "new", precision="fp16")
    assert not (tmp_path / "new").exists()
    convert_checkpoint(str(folder), tmp_path / "new", precision="bf16")


def test_a_text_encoder_outside_the_folder_is_not_copied(tiny_folder: Any, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    shutil.copytree(tiny_folder("base"), folder)
    (tmp_path / "elsewhere").mkdir()
    text = (folder / "config.json").read_text(encoding="utf-8")
    assert text.count('"text_encoder"') == 1
    text = text.replace('"text_encoder"', '"../../elsewhere"')
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="t5_model_name"):
        convert_checkpoint(str(folder), tmp_path / "a" / "b" / "c")
    assert not (tmp_path / "a").exists()


def test_a_full_disk_is_reported_before_writing(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, 1000))
    with pytest.raises(InputError, match="GB free"):
        convert_checkpoint(str(tiny_folder("base")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_failed_write_leaves_nothing(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audiox_ext.checkpoints import safetensors_writer

    def full(*arguments: object, **settings: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_writer, "_write", full)
    with pytest.raises(InputError, match="is full"):
        convert_checkpoint(str(tiny_folder("base")), tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folded_weight_of_the_wrong_shape_is_refused() -> None:
    model_shapes = {"a.weight_g": (4, 1, 1), "a.weight_v": (4, 2, 3), "a.bias": (4,)}
    assert unfolded_shapes({"a.weight": (4, 2, 3), "a.bias": (4,)}, model_shapes) == model_shapes
    assert unfolded_shapes({"a.weight": (4, 2, 5)}, model_shapes)["a.weight_v"] == (4, 2, 5)
    assert unfolded_shapes({"a.weight": (1,), "a.weight_g": (4, 1, 1)}, model_shapes) == {
        "a.weight": (1,),
        "a.weight_g": (4, 1, 1),
    }


def test_a_checkpoint_that_does_not_fit_is_not_converted(tiny_folder: Any, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    shutil.copytree(tiny_folder("base"), folder)
    shutil.copyfile(tiny_folder("maf") / "config.json", folder / "config.json")
    with pytest.raises(CheckpointError, match="missing"):
        convert_checkpoint(str(folder), tmp_path / "new")


def test_the_command_converts(tiny_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["convert", str(tiny_folder("mmdit")), "--precision", "fp16", "-o", str(tmp_path / "new")]
    assert main(arguments) == 0
    assert str(tmp_path / "new" / "model.safetensors") in capsys.readouterr().out
    assert main(["inspect", str(tmp_path / "new")]) == 0
    assert main(arguments) == 1
    assert "--force" in capsys.readouterr().err


def contents(folder: Path) -> dict[str, bytes]:
    """The files in a folder by their paths."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_replaced_model_keeps_no_part_of_the_old_one(tmp_path: Path) -> None:
    first, second = (
        write_tiny_checkpoint(tmp_path / name, "maf", seed=seed) for seed, name in enumerate("ab")
    )
    convert_checkpoint(str(first), tmp_path / "new")
    convert_checkpoint(str(second), tmp_path / "new", force=True)
    convert_checkpoint(str(second), tmp_path / "fresh")
    assert contents(tmp_path / "new") == contents(tmp_path / "fresh")
    shutil.rmtree(second / "text_encoder")
    (second / "synchformer_state_dict.safetensors").unlink()
    convert_checkpoint(str(second), tmp_path / "new", force=True)
    assert sorted(contents(tmp_path / "new")) == ["config.json", "model.safetensors"]


def test_other_files_in_a_replaced_folder_stay(tmp_path: Path) -> None:
    model, target = write_tiny_checkpoint(tmp_path / "a", "base"), tmp_path / "new"
    convert_checkpoint(str(model), target)
    (target / "notes.txt").write_text("mine")
    (target / "VAE.ckpt").write_text("of the old model")
    (target / "more").mkdir()
    (target / "more" / "lora.safetensors").write_text("mine")
    (target / "link").symlink_to("notes.txt")
    convert_checkpoint(str(model), target, force=True, precision="fp32")
    assert (target / "notes.txt").read_text() == (target / "link").read_text() == "mine"
    assert (target / "link").is_symlink()
    assert (target / "more" / "lora.safetensors").read_text() == "mine"
    assert not (target / "VAE.ckpt").exists()
    assert header(target / "model.safetensors")["dtype"] == "fp32"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "new"]


def test_parts_of_a_model_are_not_lost_without_force(tiny_folder: Any, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "synchformer_state_dict.pth").touch()
    with pytest.raises(InputError, match=r"synchformer_state_dict\.pth exists already.*--force"):
        convert_checkpoint(str(tiny_folder("base")), tmp_path / "new")


def test_a_failed_replacement_leaves_the_old_model(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_checkpoint(str(tiny_folder("base")), tmp_path / "new")
    before = contents(tmp_path / "new")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)  # the text encoder comes after the weights
    with pytest.raises(InputError, match="is full"):
        convert_checkpoint(str(tiny_folder("mmdit")), tmp_path / "new", force=True)
    assert contents(tmp_path / "new") == before
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_space_for_the_encoders_is_needed_beforehand(
    tiny_folder: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_folder("base")
    path = convert_checkpoint(str(folder), tmp_path / "measured", precision="fp32")
    weights, usage = path.stat().st_size, namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 10, weights + 50_000))
    with pytest.raises(InputError, match=r"GB free, but .* Nothing was written"):
        convert_checkpoint(str(folder), tmp_path / "new", precision="fp32")
    assert not (tmp_path / "new").exists()


def test_a_model_that_was_being_replaced_is_found_again(tiny_folder: Any, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder("base"), tmp_path / "models" / "mine"))
    models = ModelFolders.below(tmp_path / "models")
    hidden = folder.with_name(f".mine.{'0' * 32}.old.partial")
    for find in (
        lambda: find_model_folder("mine", models, False),
        lambda: find_model_folder(str(folder), models, True),
    ):
        folder.rename(hidden)
        assert find() == folder
        assert not hidden.exists()
    folder.rename(hidden)
    assert list_models(models)[0] == "mine"


def test_a_folder_that_is_being_written_is_not_offered(tiny_folder: Any, tmp_path: Path) -> None:
    shutil.copytree(tiny_folder("base"), tmp_path / f".new.{'0' * 32}.partial")
    assert list_models(ModelFolders.below(tmp_path))[0] == DEFAULT_MODEL
