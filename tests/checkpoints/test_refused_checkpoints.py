"""Checkpoints, folders and names that are refused, with the reason."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_copies import folders, read_copies

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import CheckpointError, ConfigError, InputError, ModelNotFoundError


class _Dangerous:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def test_a_malicious_pickle_does_not_run(copy_of: Any, tmp_path: Path) -> None:
    folder = copy_of("maf")
    (folder / "model.safetensors").unlink()
    marker = tmp_path / "touched"
    torch.save({"state_dict": _Dangerous(marker)}, folder / "model.ckpt")
    with pytest.raises(CheckpointError, match="could run code"):
        get_pretrained_model(folder, accept_cc_by_nc=True)
    (folder / "model.ckpt").write_bytes(pickle.dumps(_Dangerous(marker)))
    with pytest.raises(CheckpointError):
        get_pretrained_model(folder, accept_cc_by_nc=True)
    assert not marker.exists()


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.9])
def test_a_truncated_checkpoint_is_reported(suffix: str, fraction: float, copy_of: Any) -> None:
    folder = copy_of("base")
    path = folder / "model.safetensors"
    if suffix == "ckpt":
        state = read_copies(path)
        path.unlink()
        path = folder / "model.ckpt"
        torch.save(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    with pytest.raises(CheckpointError, match="damaged"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_a_checkpoint_of_another_model_is_reported(copy_of: Any) -> None:
    folder, other = copy_of("maf"), copy_of("mmdit")
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        get_pretrained_model(folder, accept_cc_by_nc=True)
    message = str(error.value)
    assert "does not fit its config.json" in message
    for word in ("missing (", "unexpected (", "and ", "more"):
        assert word in message
    assert len(message) < 4000


def test_each_kind_of_difference_is_named(copy_of: Any) -> None:
    from safetensors.torch import save_file

    folder = copy_of("maf")
    state = read_copies(folder / "model.safetensors")
    weight = state.pop("maf_block.norm1.weight")
    state["maf_block.norm9.weight"] = weight
    state["model.model.preprocess_conv.weight"] = torch.zeros(4, 5, 1)
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        get_pretrained_model(folder, accept_cc_by_nc=True)
    message = str(error.value)
    assert "missing (1): maf_block.norm1.weight" in message
    assert "unexpected (1): maf_block.norm9.weight" in message
    assert "model.model.preprocess_conv.weight: file (4, 5, 1), model (4, 4, 1)" in message


def test_a_folder_without_weights(copy_of: Any) -> None:
    folder = copy_of("maf")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match="has no weights"):
        get_pretrained_model(folder, accept_cc_by_nc=True)
    (folder / "model.ckpt.incomplete").touch()
    with pytest.raises(ModelNotFoundError, match="download was left unfinished"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_a_folder_without_configuration(copy_of: Any) -> None:
    folder = copy_of("maf")
    (folder / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


@pytest.mark.parametrize("name", ["../secret", "a/../../b", "/etc", "..", ".hidden", "a/b/c", "", "a b"])
def test_names_with_path_tricks(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a model name"):
        get_pretrained_model(name, accept_cc_by_nc=True, folders=folders(tmp_path), allow_paths=False)


def test_an_unknown_short_name_lists_the_models(copy_of: Any, tmp_path: Path) -> None:
    copy_of("maf")
    with pytest.raises(ModelNotFoundError, match=r"no model 'AudioY'.*maf, AudioX"):
        get_pretrained_model("AudioY", accept_cc_by_nc=True, folders=folders(tmp_path / "audiox"))


def test_a_missing_text_encoder_is_reported_with_its_place(copy_of: Any) -> None:
    folder = copy_of("maf")
    shutil.rmtree(folder / "text_encoder")
    with pytest.raises(ModelNotFoundError, match="text encoder text_encoder is missing"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


def test_a_text_encoder_of_another_size(copy_of: Any) -> None:
    folder = copy_of("maf")
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    (folder / "text_encoder" / "config.json").write_text(json.dumps({**config, "d_ff": 128}))
    with pytest.raises(CheckpointError, match=r"does not fit the config\.json of the T5 encoder"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


@pytest.mark.parametrize("name", ["/etc/t5", "../../t5"])
def test_a_text_encoder_name_cannot_leave_the_folder(name: str, copy_of: Any) -> None:
    folder = copy_of("maf")
    config = json.loads((folder / "config.json").read_text())
    config["model"]["conditioning"]["configs"][1]["config"]["t5_model_name"] = name
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="t5_model_name"):
        get_pretrained_model(folder, accept_cc_by_nc=True)


@pytest.mark.skipif(os.name == "nt", reason="NO FILE NAMES outside UTF-8 on Windows")
def test_a_path_that_is_not_utf8_is_not_called_damaged(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    path = (tmp_path / "x.safetensors").rename(tmp_path / "caf\udce9.safetensors")
    with pytest.raises(
        CheckpointError, match=r"caf\\udce9\.safetensors cannot be read, because its path is not"
    ):
        read_tensors(path)
