"""Trainings that are interrupted, go wrong or are resumed."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_miniature import miniature
from training_runs import Train, copy_trained, needs_lightning, quietly, weights_of, with_steps

from audiox_ext.errors import TrainingError
from pocket import pipeline as fitting
from pocket.pipeline import train_autoencoder, train_diffusion, train_sync
from pocket.sync.segments import PatchBatches
from pocket.training.batches import CropBatches
from pocket.training.prepared_batches import PreparedBatches

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


class BrokenError(Exception):
    """Stands for whatever ends a process."""


KINDS_OF_BATCHES: dict[str, Any] = {
    "autoencoder": CropBatches,
    "sync": PatchBatches,
    "diffusion": PreparedBatches,
}


def stop_at(
    monkeypatch: pytest.MonkeyPatch, part: str, step: int, error: type[BaseException] = BrokenError
) -> None:
    """The training ends abruptly when it is to make the batch of a step."""
    kind = KINDS_OF_BATCHES[part]
    make = kind.__getitem__

    def broken(self: Any, number: int) -> Any:
        if number == step:
            raise error
        return make(self, number)

    monkeypatch.setattr(kind, "__getitem__", broken)


@needs_lightning
@pytest.mark.parametrize("part", ["autoencoder", "sync", "diffusion"])
def test_a_training_that_was_broken_off_gives_what_it_would_have_given(
    part: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train: Train = {"autoencoder": train_autoencoder, "sync": train_sync, "diffusion": train_diffusion}[part]
    whole, broken = (tmp_path / name for name in ("whole", "broken"))
    if part == "diffusion":
        copy_trained(trained, whole)
        copy_trained(trained, broken)
    config = with_steps(miniature(), part, 6)
    result = train(config, whole, device="cpu", report=quietly)
    with monkeypatch.context() as patch:
        stop_at(patch, part, 5)  # after a step that no checkpoint has
        with pytest.raises(BrokenError):
            train(config, broken, device="cpu", report=quietly)
    lines: list[str] = []
    # What else has used torch's generator in the meantime changes nothing.
    torch.manual_seed(123)
    again = train(config, broken, device="cpu", report=lines.append)
    assert "Resuming after step 4 of 6." in lines
    one, other = weights_of(whole / part), weights_of(broken / part)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key
    if part == "diffusion":
        result, again = result / "model.safetensors", again / "model.safetensors"
    assert result.read_bytes() == again.read_bytes()  # the averaged weights


@needs_lightning
def test_an_interrupted_training_keeps_its_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, "autoencoder", 3, KeyboardInterrupt)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(miniature(), tmp_path, device="cpu", report=quietly)
    assert signal.getsignal(signal.SIGINT) is handler
    assert fitting.count_steps(tmp_path / "autoencoder" / "last.ckpt") == 2
    assert not (tmp_path / "autoencoder" / "autoencoder.safetensors").exists()


@needs_lightning
def test_a_loss_that_is_no_number_stops_the_training_with_its_step_and_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = CropBatches.__getitem__

    def spoilt(self: Any, number: int) -> Any:
        batch = make(self, number)
        if number == 3 and self.dataset.split == "training":
            batch.waveforms[1, 0, 5] = torch.nan
        return batch

    monkeypatch.setattr(CropBatches, "__getitem__", spoilt)
    with pytest.raises(TrainingError, match=r"Step 4: the loss is not finite .*items 0, 1, 2, 3\."):
        train_autoencoder(miniature(), tmp_path, device="cpu", report=quietly)
    for key, value in weights_of(tmp_path / "autoencoder").items():
        assert bool(torch.isfinite(value).all()), key


@needs_lightning
def test_another_configuration_does_not_go_on_with_a_training(trained: Path, tmp_path: Path) -> None:
    config = with_steps(miniature(), "autoencoder", 2)
    train_autoencoder(config, tmp_path, device="cpu", report=quietly)
    other = replace(config, autoencoder=replace(config.autoencoder, steps=4, kl_weight=0.5))
    with pytest.raises(TrainingError, match=r"started with kl_weight 0\.0001, .* now say 0\.5"):
        train_autoencoder(other, tmp_path, device="cpu", report=quietly)
    (tmp_path / "autoencoder" / "last.ckpt").write_bytes(b"PK half a file")
    with pytest.raises(TrainingError, match="cannot be read"):
        train_autoencoder(config, tmp_path, device="cpu", report=quietly)
