"""Whole trainings of a miniature: what they need, prepare and train."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_miniature import miniature, miniature_values, modulated_values, strengths_values
from training_runs import copy_trained, needs_lightning, quietly, weights_of, with_steps

from audiox_ext import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import InputError, TrainingError
from pocket import pipeline as fitting
from pocket.autoencoder.latent_scale import DEVIATION
from pocket.pipeline import train_autoencoder, train_diffusion, train_sync
from pocket.training.batches import CropBatches

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


@needs_lightning
def test_the_diffusion_wants_autoencoder_and_sync_encoder_first(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"autoencoder\.safetensors is missing: train the autoencoder"):
        train_diffusion(miniature(), tmp_path, device="cpu", report=quietly)
    copy_trained(trained, tmp_path)
    shutil.rmtree(tmp_path / "sync")
    with pytest.raises(InputError, match=r"synchformer\.safetensors is missing: train the sync encoder"):
        train_diffusion(miniature(), tmp_path, device="cpu", report=quietly)


@needs_lightning
def test_items_are_prepared_once_and_anew_for_other_weights(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_trained(trained, tmp_path)
    config = with_steps(miniature(), "diffusion", 1)
    sounds = tmp_path / "prepared" / "training" / "sounds" / "00000.safetensors"
    before = sounds.stat().st_mtime_ns
    lines: list[str] = []
    train_diffusion(config, tmp_path, device="cpu", report=lines.append)
    assert sounds.stat().st_mtime_ns == before
    assert not [line for line in lines if line.endswith("prepared")]
    shutil.rmtree(tmp_path / "sync")
    shutil.rmtree(tmp_path / "diffusion")
    other = replace(config, sync=replace(config.sync, seed=1, steps=1))
    train_sync(other, tmp_path, device="cpu", report=quietly)
    train_diffusion(other, tmp_path, device="cpu", report=lines.append)
    assert sounds.stat().st_mtime_ns == before
    assert [line for line in lines if line.endswith("prepared")] == [
        "films: 3 of 3 prepared",
        "films: 2 of 2 prepared",
    ]


@needs_lightning
def test_half_precision_trains_too(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audiox_ext.training.trainer.multiplies_bf16", lambda: True)
    config = miniature()
    config = replace(
        config,
        autoencoder=replace(config.autoencoder, precision="bf16", steps=2),
        diffusion=replace(config.diffusion, precision="bf16", steps=2),
    )
    copy_trained(trained, tmp_path)
    shutil.rmtree(tmp_path / "autoencoder")
    train_autoencoder(config, tmp_path, device="cpu", report=quietly)
    train_diffusion(config, tmp_path, device="cpu", report=quietly)
    for part in ("autoencoder", "diffusion"):
        for key, value in weights_of(tmp_path / part).items():
            assert value.dtype != torch.bfloat16, key
            assert bool(torch.isfinite(value).all()), key


@needs_lightning
@pytest.mark.parametrize("values_of", [miniature_values, modulated_values])
def test_every_part_is_trained_but_what_is_frozen(
    values_of: Callable[[], dict[str, Any]], trained: Path, tmp_path: Path
) -> None:
    values = values_of()
    values["data"] |= {"film_fraction": 1.0, "sounds": 0}
    values["diffusion"] |= {
        "audio_dropout": 0.0,
        "video_dropout": 0.0,
        "context_dropout": 0.0,
        "checkpoint_every": 1,
    }
    config = with_steps(miniature(values), "diffusion", 1)
    copy_trained(trained, tmp_path)
    train_diffusion(config, tmp_path, device="cpu", report=quietly)
    before = weights_of(tmp_path / "diffusion")
    train_diffusion(with_steps(config, "diffusion", 4), tmp_path, device="cpu", report=quietly)
    after = weights_of(tmp_path / "diffusion")
    parts = ("pretransform", "visual_encoder", "synchformer")
    frozen = {key for key in after if any(part in key for part in parts)}
    for part in ("model.pretransform.", "visual_encoder_model.", "synchformer."):
        assert any(part in key for key in frozen), part
    assert all(torch.equal(after[key], before[key]) for key in frozen)
    # What no video, or no more than one key, leaves without influence.
    still = {key for key, value in after.items() if torch.equal(value, before[key])}
    still = {key for key in still - frozen if "beta" not in key}
    assert still <= {"model.conditioner.conditioners.video_prompt.empty_visual_feat"}


@needs_lightning
def test_a_few_hundred_steps_from_nothing_teach_the_miniature_something(tmp_path: Path) -> None:
    values = miniature_values()
    values["data"] = {"kinds": ["tone"], "sounds": 150}
    for part, steps in (("autoencoder", 150), ("diffusion", 420)):
        values[part] |= {"steps": steps, "warmup_steps": 20, "report_every": 100, "checkpoint_every": steps}
    values["autoencoder"] |= {"learning_rate": 3e-3}
    values["diffusion"] |= {"batch_size": 4, "validation_items": 32, "ema_decay": 0.98}
    config = miniature(values)
    lines: list[str] = []
    train_autoencoder(config, tmp_path, device="cpu", report=lines.append)
    train_sync(miniature(), tmp_path, device="cpu", report=quietly)  # of tones alone there are no films
    train_diffusion(config, tmp_path, device="cpu", report=lines.append)
    autoencoder, diffusion = (line.split("items ")[1] for line in lines if "held-out" in line)
    convergence = float(autoencoder.split("convergence ")[1].split(",")[0])
    velocity = float(diffusion.split("loss ")[1].split(",")[0])
    # Silence has a convergence of 1. A model that knows only the deviation d of the latents loses d on
    # average over the times: the mean of d^2 / (cos^2 d^2 + sin^2).
    assert convergence < 0.75
    assert velocity < 0.8 * DEVIATION, velocity


@needs_lightning
def test_latents_that_are_strengths(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An autoencoder is made of one of waves, the same each time; items hold exact strengths."""
    monkeypatch.setattr(fitting, "_MEASURED_SOUNDS", 8)
    values = strengths_values()
    values["autoencoder"] |= {"steps": 1, "initial_sounds": 8}
    values["diffusion"] |= {"steps": 1}
    config = miniature(values)
    shutil.copytree(trained / "sync", tmp_path / "sync")
    made = read_tensors(train_autoencoder(config, tmp_path, device="cpu", report=quietly))
    shutil.copytree(tmp_path / "waves", tmp_path / "again" / "waves")
    again = read_tensors(train_autoencoder(config, tmp_path / "again", device="cpu", report=quietly))
    assert all(torch.equal(value, again[key]) for key, value in made.items())
    model = train_diffusion(config, tmp_path, device="cpu", report=quietly, dtype=torch.float32)
    rows = read_tensors(tmp_path / "prepared" / "training" / "sounds" / "00000.safetensors")["latents"]
    sounds = CropBatches(config.dataset("training", film_fraction=0), 6, 48000, crops=1)[0].waveforms
    wanted = get_pretrained_model(model)[0].pretransform.posterior(sounds[..., : 2048 * 23])[0]
    torch.testing.assert_close(rows[:, 0].float(), wanted, rtol=1e-3, atol=1e-2)
    assert not rows[:, 1].any()
    with pytest.raises(InputError, match=r"built from one of waves.*leave out --initial-model"):
        train_autoencoder(config, tmp_path / "further", device="cpu", report=quietly, start=model)


@needs_lightning
def test_captions_are_learnt_first_and_once(trained: Path, tmp_path: Path) -> None:
    plain = with_steps(miniature(), "diffusion", 2)
    config = replace(plain, diffusion=replace(plain.diffusion, caption_steps=3))
    first, second = (copy_trained(trained, tmp_path / name) for name in ("first", "second"))
    lines: list[str] = []
    train_diffusion(config, first, device="cpu", report=lines.append)
    assert [line for line in lines if line.startswith("captions, step 3 of 3: loss ")]
    shutil.copytree(first / "captions", second / "captions")
    lines.clear()
    train_diffusion(config, second, device="cpu", report=lines.append)
    assert not [line for line in lines if line.startswith("captions")]
    one, other = weights_of(first / "diffusion"), weights_of(second / "diffusion")
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    path = second / "captions" / "captions.safetensors"
    path.write_bytes((trained / "sync" / "synchformer.safetensors").read_bytes())
    shutil.rmtree(second / "diffusion")
    with pytest.raises(TrainingError, match=r"captions\.safetensors does not fit this configuration"):
        train_diffusion(config, second, device="cpu", report=quietly)


def test_without_lightning_training_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs lightning and tensorboard.*\.\[train\]"):
        train_autoencoder(miniature(), tmp_path, device="cpu", report=quietly)
