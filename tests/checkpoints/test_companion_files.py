"""Text encoders and Synchformer are found, and an inspection lists the files that are missing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_copies import folders

from audiox_ext.checkpoints.catalog import ModelFolders, find_synchformer, find_text_encoder
from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.inspection import describe, inspect_checkpoint


def test_text_encoders_are_found_in_the_shared_places(tmp_path: Path) -> None:
    shared, tokenizer = tmp_path / "text_encoders", tmp_path / "tok" / "tokenizer.json"
    model_folders = ModelFolders(audiox=(tmp_path,), text_encoders=(shared,), t5_tokenizer=tokenizer)
    assert find_text_encoder("t5-base", model_folders, None) is None
    shared.mkdir()
    (shared / "t5_base.safetensors").touch()
    assert find_text_encoder("t5-base", model_folders, None) == (shared / "t5_base.safetensors", tokenizer)
    (shared / "t5-base").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (shared / "t5-base" / name).touch()
    expected = (shared / "t5-base", shared / "t5-base" / "tokenizer.json")
    assert find_text_encoder("t5-base", model_folders, None) == expected
    assert find_text_encoder("google-t5/t5-base", model_folders, None) == expected


def test_synchformer_is_found_beside_the_model_first(tmp_path: Path) -> None:
    other, model = tmp_path / "selva", tmp_path / "audiox" / "one"
    for folder in (other, model):
        folder.mkdir(parents=True)
    model_folders = ModelFolders(audiox=(tmp_path / "audiox",), synchformer=(other,), bundled=())
    assert find_synchformer(model_folders, model) is None
    (other / "synchformer_state_dict.pth").touch()
    assert find_synchformer(model_folders, model) == other / "synchformer_state_dict.pth"
    (model / "synchformer").mkdir()
    (model / "synchformer" / "synchformer_state_dict.pth").touch()
    assert find_synchformer(model_folders, model) == model / "synchformer" / "synchformer_state_dict.pth"


def test_synchformer_of_a_tiny_checkpoint_loads_in_float32(tiny_folder: Any) -> None:
    synchformer = load_synchformer(tiny_folder("maf") / "synchformer_state_dict.safetensors")
    assert next(synchformer.parameters()).dtype == torch.float32


@pytest.mark.parametrize("kind", ["base", "maf", "mmdit", "turbo"])
def test_inspect_reports_a_complete_model(kind: str, tiny_folder: Any) -> None:
    report = inspect_checkpoint(str(tiny_folder(kind)))
    assert report["complete"], report
    assert report["network"] == ("mmdit" if kind in ("mmdit", "turbo") else "dit")
    assert "complete" in describe(report)


def test_inspect_reports_what_is_missing(copy_of: Any) -> None:
    folder = copy_of("maf")
    shutil.rmtree(folder / "text_encoder")
    report = inspect_checkpoint(str(folder), folders(folder.parent))
    assert not report["complete"]
    assert len(report["missing_files"]) == 2
    assert "not complete" in describe(report)
