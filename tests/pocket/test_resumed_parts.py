"""Every part of the pocket training resumed at every tenth: each step is run once, the result is the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from resumed_runs import check_every_resume, record_training
from training_miniature import miniature
from training_runs import copy_trained, needs_lightning, quietly, with_steps

from audiox_ext.errors import InputError, TrainingError
from pocket.pipeline import train_autoencoder, train_diffusion, train_sync

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow, needs_lightning]

STEPS = 10
KINDS = {
    "autoencoder": "AutoencoderTraining",
    "sync": "SyncTraining",
    "diffusion": "DiffusionTraining",
    "captions": "CaptionTraining",
    "teacher": "DiffusionTraining",
    "initial model": "DiffusionTraining",
}


@pytest.mark.parametrize("part", KINDS)
def test_a_part_resumed_at_every_tenth_is_the_same(
    part: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pocket.diffusion.caption_pretraining._CHECKPOINT_EVERY", 1)
    section = part if part in ("autoencoder", "sync") else "diffusion"
    folder = "captions" if part == "captions" else section
    values: dict[str, Any] = {"steps": STEPS, "checkpoint_every": 1, "validate_every": 5}
    options: dict[str, Any] = {}
    if part == "captions":
        values |= {"steps": 1, "caption_steps": STEPS}
    elif part in ("teacher", "initial model"):
        options = {"teacher" if part == "teacher" else "start": trained / "model"}
    config = miniature()
    config = replace(config, **{section: replace(getattr(config, section), **values)})

    def train(output: Path) -> bytes:
        if part in ("autoencoder", "sync"):
            run = train_autoencoder if part == "autoencoder" else train_sync
            return run(config, output, device="cpu", report=quietly).read_bytes()
        model = train_diffusion(config, output, device="cpu", report=quietly, **options)
        return (model / "model.safetensors").read_bytes()

    def prepare(output: Path) -> Path:
        shutil.rmtree(output, ignore_errors=True)
        copy_trained(trained, output)
        if section != "diffusion":
            shutil.rmtree(output / section)
        return output

    recorder = record_training(monkeypatch, tmp_path / "checkpoints")
    expected = train(prepare(tmp_path / "whole"))

    def resume(checkpoint: Path) -> tuple[bytes, Path]:
        output = prepare(tmp_path / "resumed")
        (output / folder).mkdir(exist_ok=True)
        shutil.copyfile(checkpoint, output / folder / "last.ckpt")
        result = train(output)
        assert result == expected
        return result, output / section / "last.ckpt"

    check_every_resume(recorder, KINDS[part], STEPS, resume)


def test_another_set_of_data_or_part_does_not_resume(trained: Path, tmp_path: Path) -> None:
    copy_trained(trained, tmp_path)
    config = with_steps(miniature(), "diffusion", 2)
    train_diffusion(config, tmp_path, device="cpu", report=quietly)
    longer = with_steps(config, "diffusion", 3)
    other = replace(longer, data=replace(longer.data, with_fraction=0.2))
    with pytest.raises(TrainingError, match="started with another data section"):
        train_diffusion(other, tmp_path, device="cpu", report=quietly)
    with pytest.raises(TrainingError, match="started with another teacher"):
        train_diffusion(longer, tmp_path, device="cpu", report=quietly, teacher=trained / "model")
    with pytest.raises(TrainingError, match="started with another initial model"):
        train_diffusion(longer, tmp_path, device="cpu", report=quietly, start=trained / "model")
    changed = train_sync(
        replace(config, sync=replace(config.sync, seed=1)), tmp_path / "other", device="cpu", report=quietly
    )
    shutil.copyfile(changed, tmp_path / "sync" / changed.name)
    with pytest.raises(TrainingError, match="started with another sync encoder"):
        train_diffusion(longer, tmp_path, device="cpu", report=quietly)


def test_a_result_from_elsewhere_is_not_replaced(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "model", tmp_path / "model")
    for name in ("autoencoder", "sync"):
        (tmp_path / name).mkdir()
        for file in (trained / name).glob("*.safetensors"):
            shutil.copy(file, tmp_path / name)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for train in (train_autoencoder, train_sync, train_diffusion):
        with pytest.raises(InputError, match=r"exists, and no training in .* wrote it"):
            train(miniature(), tmp_path, device="cpu", report=quietly)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
