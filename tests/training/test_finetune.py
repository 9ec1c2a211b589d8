"""Whole networks trained on a user's sounds; the licence, the command line, and missing packages."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from quick_finetuning import QUICK, Folder, lora, needs_training, quietly, read_losses, request
from safetensors import safe_open

from audiox_ext import generate_diffusion_cond, get_pretrained_model
from audiox_ext.checkpoints.lora_file import read_lora
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.cli.main import main
from audiox_ext.errors import InputError, LicenseError
from audiox_ext.training.finetune import finetune
from audiox_ext.training.settings import FinetuneSettings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
@needs_training
@pytest.mark.parametrize("kind", ["maf", "mmdit"])
def test_a_whole_network_is_trained_and_written_as_a_model(
    kind: str, tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    values = {key: value for key, value in QUICK.items() if key != "rank"}
    settings = FinetuneSettings(**values | {"learning_rate": 2e-4, "steps": 9})
    result = finetune(request(tiny_folder(kind), sounds, tmp_path), settings, report=lines.append)
    first, *_, last = read_losses(lines)
    assert last < first
    assert result.path == tmp_path / "model"
    old = read_tensors(tiny_folder(kind) / "model.safetensors")
    new = read_tensors(result.path / "model.safetensors")
    assert old.keys() == new.keys()
    changed = {key for key, value in old.items() if not torch.equal(value, new[key])}
    assert changed
    assert all(key.startswith("model.model.") for key in changed)
    assert (
        "model.model.transformer.layers.0."
        + ("attn.qkv.weight" if kind == "mmdit" else "self_attn.to_qkv.weight")
        in changed
    )
    model, config = get_pretrained_model(result.path)  # strict, with its text encoder
    assert config["license"] == "MIT"
    [sound] = generate_diffusion_cond(
        model, steps=2, conditioning={"text_prompt": "a tone of 300 Hz"}, seed=0, device="cpu"
    )
    torch.testing.assert_close(result.sound, sound / max(1.0, float(sound.abs().max())), rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@needs_training
def test_the_licence_goes_along_and_its_gate_holds(tiny_folder: Folder, sounds: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    for file in tiny_folder("maf").iterdir():
        if file.name != "config.json":
            (base / file.name).symlink_to(file)
    config = json.loads((tiny_folder("maf") / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"license": "cc-by-nc-4.0"}))
    with pytest.raises(LicenseError, match=r"cc-by-nc-4\.0"):
        lora(base, sounds, tmp_path / "out")
    result = lora(base, sounds, tmp_path / "out", steps=1, accept_cc_by_nc=True)
    assert read_lora(result.path).info.license == "cc-by-nc-4.0"
    settings = FinetuneSettings(**{key: QUICK[key] for key in QUICK if key != "rank"} | {"steps": 1})
    fine_request = request(base, sounds, tmp_path / "fine", accept_cc_by_nc=True)
    checkpoint = finetune(fine_request, settings, report=quietly)
    with pytest.raises(LicenseError, match=r"cc-by-nc-4\.0"):
        get_pretrained_model(checkpoint.path)
    assert get_pretrained_model(checkpoint.path, accept_cc_by_nc=True)[1]["license"] == "cc-by-nc-4.0"
    with safe_open(checkpoint.path / "model.safetensors", framework="pt") as file:
        assert file.metadata()["license"] == "cc-by-nc-4.0"
        assert file.metadata()["finetuned_from"] == "base/model.safetensors"


@needs_training
def test_a_few_step_student_is_refused(tiny_folder: Folder, sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"distilled to sample in 4 steps\. .* Choose the model"):
        lora(tiny_folder("turbo"), sounds, tmp_path)


@pytest.mark.slow
@needs_training
def test_the_command_line_trains_both(
    tiny_folder: Folder, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = [
        "--steps",
        "2",
        "--batch-size",
        "1",
        "--preview-steps",
        "2",
        "--preview-every",
        "0",
        "--device",
        "cpu",
    ]
    out = tmp_path / "bells"
    command = ["train", "lora", str(tiny_folder("maf")), str(sounds), "--output", str(out)]
    assert main([*command, "--rank", "2", "--targets", "to_qkv, to_out", *quick]) == 0
    output = capsys.readouterr().out
    assert str(out / "bells.safetensors") in output
    assert "5 clips" in output
    assert read_lora(out / "bells.safetensors").rank == 2
    assert main(["train", "lora", str(tiny_folder("maf")), str(tmp_path), "--output", str(out), *quick]) == 1
    assert "holds no sound and no video" in capsys.readouterr().err
    command = ["train", "finetune", str(tiny_folder("maf")), str(sounds), "--output", str(out / "fine")]
    assert main([*command, "--dtype", "float16", *quick]) == 0
    state = read_tensors(out / "fine" / "model" / "model.safetensors")
    assert state["model.model.transformer.layers.0.self_attn.to_qkv.weight"].dtype == torch.float16
    assert state["maf_block.unified_experts"].dtype == torch.float32


def test_without_peft_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    find = importlib.util.find_spec
    missing: set[str] = {"peft"}
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in missing else find(name) or object()
    )
    with pytest.raises(InputError, match=r"needs peft, .*\.\[train\]"):
        lora(tiny_folder("maf"), sounds, tmp_path)
    missing.add("lightning")
    with pytest.raises(InputError, match="needs lightning"):
        lora(tiny_folder("maf"), sounds, tmp_path)
