"""Training a LoRA: cancelled, resumed, stopped early, and stopped at a loss that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from quick_finetuning import Folder, lora, needs_training
from user_sounds import write_sounds

from audiox_ext.checkpoints.lora_file import read_lora
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import TrainingError
from audiox_ext.training import finetune as tuning

pytestmark = pytest.mark.usefixtures("one_thread")


class CancelledError(Exception):
    """Somebody has ended the training."""


def end_after(step: int) -> Callable[[int, int], None]:
    def on_step(done: int, steps: int) -> None:
        if done == step:
            raise CancelledError

    return on_step


@pytest.mark.slow
@needs_training
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_training_that_was_cancelled_gives_what_it_would_have_given(
    dropout: float, tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    uninterrupted, cancelled = tmp_path / "whole", tmp_path / "broken"
    model = tiny_folder("maf")
    result = lora(model, sounds, uninterrupted, dropout=dropout)
    with pytest.raises(CancelledError):
        lora(model, sounds, cancelled, dropout=dropout, on_step=end_after(3))
    assert not (cancelled / "my.safetensors").exists()
    lines: list[str] = []
    state = torch.random.get_rng_state()
    again = lora(model, sounds, cancelled, lines.append, dropout=dropout)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert "Resuming after step 3 of 6." in lines  # the step it was cancelled at, not an earlier checkpoint
    assert again.path.read_bytes() == result.path.read_bytes()
    assert (cancelled / "losses.png").read_bytes() == (uninterrupted / "losses.png").read_bytes()


@needs_training
def test_it_goes_on_only_with_the_same_model_sounds_and_layers(tiny_folder: Folder, tmp_path: Path) -> None:
    dataset, output = write_sounds(tmp_path / "sounds", 2), tmp_path / "out"
    lora(tiny_folder("maf"), dataset, output, steps=2)
    with pytest.raises(TrainingError, match=r"started with rank 4, but the settings now say 8"):
        lora(tiny_folder("maf"), dataset, output, rank=8)
    with pytest.raises(TrainingError, match="started with another model"):
        lora(tiny_folder("base"), dataset, output)
    (dataset / "tone-1.txt").write_text("another caption")
    with pytest.raises(TrainingError, match="started with another set of sounds"):
        lora(tiny_folder("maf"), dataset, output)


@pytest.mark.slow
@needs_training
def test_training_ends_when_it_gets_no_better_and_the_best_is_kept(
    tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    model = tiny_folder("maf")
    # So large a step does harm from the beginning: the best is the model as it was.
    unstable = {"learning_rate": 0.3, "steps": 20, "patience": 2, "warmup_steps": 0}
    result = lora(model, sounds, tmp_path, lines.append, **unstable)
    assert any(
        "no lower loss for 2 validations, so training stops here. The result is that of step 0" in x
        for x in lines
    )
    loaded = read_lora(result.path)
    assert all(float(layer.up.abs().max()) == 0 for layer in loaded.layers.values())
    first = result.path.read_bytes()
    lines.clear()
    lora(model, sounds, tmp_path, lines.append, **unstable)
    assert any("Training stopped early after 6 steps" in line for line in lines)
    assert result.path.read_bytes() == first
    lora(model, sounds, tmp_path, lines.append, **unstable | {"patience": 3})
    assert any("Resuming after step 6" in line for line in lines)


@needs_training
def test_a_loss_that_is_no_number_stops_it_with_step_and_sounds(
    tiny_folder: Folder, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tuning.ClipBatches.__getitem__

    def make_with_nan(self: Any, number: int) -> Any:
        batch = make(self, number)
        if number == 3:
            batch.clips[0].mean[0, 0] = torch.nan
        return batch

    monkeypatch.setattr(tuning.ClipBatches, "__getitem__", make_with_nan)
    with pytest.raises(TrainingError, match=r"Step 4: the loss is not finite .*items tone-\d\.wav"):
        lora(tiny_folder("maf"), sounds, tmp_path, validate_every=50)
    state = read_tensors(tmp_path / "last.ckpt", ("state_dict",))
    assert state
    assert all("lora_" in key and bool(torch.isfinite(value).all()) for key, value in state.items())
