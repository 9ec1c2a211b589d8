"""Models that a training writes: used, trained further, and followed as a teacher."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_miniature import RATE, SECONDS, miniature, miniature_values
from training_runs import copy_trained, needs_lightning, quietly, with_steps

from audiox_ext import generate_diffusion_cond, get_pretrained_model
from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import InputError, TrainingError
from pocket import pipeline as fitting
from pocket.__main__ import main
from pocket.diffusion.prompt_dropout import VisiblePrompts
from pocket.diffusion.teacher import read_teacher
from pocket.pipeline import train_autoencoder, train_diffusion
from pocket.training.prepared_batches import PreparedBatch
from pocket.training_file import read_training_config

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]

CONFIG = Path(__file__).parents[2] / "pocket" / "config.json"


@needs_lightning
def test_the_command_line_trains_and_the_model_makes_sound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "miniature.json", tmp_path / "out"
    values = miniature_values()
    values["diffusion"]["workers"] = 1
    file.write_text(json.dumps(values))
    for part in ("autoencoder", "sync", "diffusion"):
        assert main(["train", part, str(file), "--output", str(folder), "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    # Once it is done, it only writes its result again.
    weights = folder / "autoencoder" / "autoencoder.safetensors"
    before = weights.read_bytes()
    weights.unlink()
    assert main(["train", "autoencoder", str(file), "--output", str(folder), "--device", "cpu"]) == 0
    assert weights.read_bytes() == before
    assert "step 4 of 4: loss" in told
    assert "left" in told
    assert str(folder / "model") in told
    assert list((folder / "diffusion" / "events").glob("events.out.tfevents*"))
    model, config = get_pretrained_model(folder / "model")  # strict, and free: its licence is MIT
    assert config["license"] == "MIT"
    assert all(
        tensor.dtype == torch.float16 for tensor in read_tensors(folder / "model/model.safetensors").values()
    )
    synchformer = load_synchformer(folder / "model" / "synchformer_state_dict.safetensors")
    frames = torch.full((1, RATE // RATE * 75, 3, 224, 224), 0.5)
    sync = synchformer(frames)
    video = {"video_tensors": torch.full((1, 15, 3, 224, 224), 100.0), "video_sync_frames": sync}
    sound = generate_diffusion_cond(
        model,
        steps=3,
        conditioning={"text_prompt": "a high tone", "video_prompt": video},
        seed=1,
        device="cpu",
    )
    assert sound.shape == (1, 2, RATE * SECONDS)
    assert bool(torch.isfinite(sound).all())
    assert float(sound.std()) > 0


@needs_lightning
def test_a_training_begins_with_a_model_in_place_of_nothing(trained: Path, tmp_path: Path) -> None:
    """Of it nothing but the model is needed, and a step of next to nothing leaves it as it was."""
    model = trained / "model"
    config = with_steps(miniature(), "diffusion", 1)
    config = replace(config, diffusion=replace(config.diffusion, learning_rate=1e-12, weight_decay=0.0))
    made = train_diffusion(config, tmp_path, device="cpu", report=quietly, start=model, dtype=torch.float32)
    assert (made / "text_encoder/tokenizer.json").read_text() == (
        model / "text_encoder/tokenizer.json"
    ).read_text()
    for name in ("model", "synchformer_state_dict", "text_encoder/model"):
        before, after = (read_tensors(folder / f"{name}.safetensors") for folder in (model, made))
        assert before.keys() == after.keys()
        for key, value in before.items():
            torch.testing.assert_close(after[key], value.float(), rtol=2e-3, atol=1e-6, msg=key)

    other = miniature_values()
    other["model"]["model"]["diffusion"]["config"]["depth"] += 1
    with pytest.raises(
        InputError,
        match=r"configuration of .*model differs from the training file's.*leave out --initial-model",
    ):
        train_diffusion(miniature(other), tmp_path / "b", device="cpu", report=quietly, start=model)
    halved = shutil.copytree(model, tmp_path / "model-without-sync")
    (halved / "synchformer_state_dict.safetensors").unlink()
    with pytest.raises(InputError, match=r"synchformer_state_dict.safetensors is missing"):
        train_diffusion(config, tmp_path / "c", device="cpu", report=quietly, start=halved)


@needs_lightning
def test_a_training_follows_a_teacher(trained: Path, tmp_path: Path) -> None:
    """What begins as its own teacher has nothing to learn of it, and as much as ever of the data."""
    values = miniature_values()
    values["data"] |= {"kinds": ["tone"], "film_fraction": 0.0}
    values["diffusion"] |= {"steps": 2, "learning_rate": 1e-12, "audio_dropout": 1.0, "teacher_fraction": 1.0}
    model = trained / "model"

    def loss(folder: str, **followed: Path) -> float:
        lines: list[str] = []
        train_diffusion(
            miniature(values), tmp_path / folder, device="cpu", report=lines.append, start=model, **followed
        )
        (told,) = (
            float(line.split()[5].rstrip(",")) for line in lines if line.startswith("step 2 of 2: loss")
        )
        return told

    assert loss("with", teacher=model) < 1e-3 < 0.1 < loss("without")
    values["diffusion"] |= {"audio_dropout": 0.0}
    assert loss("heard", teacher=model) > 0.1, "an audio prompt is not the teacher's matter"
    values["model"]["sample_size"] -= 512
    with pytest.raises(InputError, match=r"model cannot be the teacher, because its latents .* sample_size"):
        read_teacher(model, miniature(values), "cpu")


@needs_lightning
def test_the_model_says_what_was_trained(trained: Path, tmp_path: Path) -> None:
    """Loaded and in training, the same weights give the same prediction; float32 keeps every digit."""
    copy_trained(trained, tmp_path)
    config = miniature()
    built: list[Any] = []
    export = fitting.export_model

    def keep(module: Any, folder: Path, dtype: torch.dtype) -> int:
        built.append(module)
        return export(module, folder, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "export_model", keep)
        folder = train_diffusion(config, tmp_path, device="cpu", report=quietly, dtype=torch.float32)
    [module] = built
    model, _ = get_pretrained_model(folder)
    x = torch.randn(1, 8, RATE * SECONDS // 64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.6])
    film = torch.from_numpy(np.full((75, 224, 224, 3), 90, dtype=np.uint8))
    random = torch.Generator().manual_seed(4)
    encoders = module.encoders()
    made = encoders.encode(torch.zeros(1, 2, RATE * SECONDS), [film])
    made = {key: value.float() for key, value in made.items()}
    batch = PreparedBatch(0, (0,), ("a low tone",), **made)
    frames = film.permute(0, 3, 1, 2)[None].float()
    video = {
        "video_tensors": frames[:, ::5],
        "video_sync_frames": module.synchformer(frames.div(255).sub(0.5).div(0.5)),
    }
    with torch.no_grad(), module.average.apply():
        context = module.context(batch, VisiblePrompts.without_audio_prompt(batch.has_film), random)
        wanted = module.model.network(x, t, module.model.network.prepare_context(context))
    from audiox_ext.devices import DevicePlacement

    placement = DevicePlacement("cpu")
    items = [{"text_prompt": "a low tone", "video_prompt": video}]
    with torch.no_grad():
        tokens = model.encode_conditioning(items, placement, torch.Generator().manual_seed(4))
        context = model.assemble_context(tokens, placement)
        got = model.network(x, t, model.network.prepare_context(context))
    # What is prepared is kept in float16.
    torch.testing.assert_close(got, wanted, rtol=2e-3, atol=2e-3)
    waveform = 0.1 * torch.randn(1, 2, 64 * 32, generator=torch.Generator().manual_seed(1))
    ours, theirs = (m.pretransform.posterior(waveform)[0] for m in (module.model, model))
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-5)


@needs_lightning
def test_a_decoder_is_trained_further_under_the_latents_that_there_are(trained: Path, tmp_path: Path) -> None:
    config = with_steps(miniature(), "autoencoder", 3)
    made = train_autoencoder(config, tmp_path, device="cpu", report=quietly, start=trained / "model")
    before = get_pretrained_model(trained / "model", download=False)[0].pretransform.state_dict()
    after = read_tensors(made)
    assert after.keys() == before.keys()
    for key, value in before.items():
        same = torch.allclose(value, after[key], atol=1e-6)
        assert same or key.startswith("model.decoder."), key
    assert any(not torch.allclose(before[key], after[key], atol=1e-5) for key in before)
    with pytest.raises(TrainingError, match=r"started with different parameters.*--initial-model"):
        train_autoencoder(with_steps(config, "autoencoder", 5), tmp_path, device="cpu", report=quietly)
    # The diffusion training then uses it.
    more = copy_trained(trained, tmp_path / "more")
    shutil.copy(made, more / "autoencoder" / made.name)
    model = train_diffusion(
        with_steps(miniature(), "diffusion", 1), more, device="cpu", report=quietly, start=trained / "model"
    )
    held = get_pretrained_model(model, download=False)[0].pretransform.state_dict()
    for key, value in held.items():
        assert torch.allclose(value, after[key], atol=2e-3, rtol=1e-2), key


@needs_lightning
def test_the_pocket_model_is_small_enough_to_be_shipped() -> None:
    from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
    from pocket.diffusion.text_encoder import make_tokenizer
    from pocket.diffusion.training_module import DiffusionTraining
    from pocket.sync.training_module import build_synchformer

    config = read_training_config(CONFIG)
    data = config.dataset("training", film_fraction=config.data.film_fraction)
    tokenizer = make_tokenizer((data.caption(i) for i in range(3000)), config.text_encoder.vocabulary)
    autoencoder = Autoencoder(config.model.autoencoder).state_dict()
    module = DiffusionTraining(config, autoencoder, build_synchformer(config), tokenizer)
    shipped = (module.model, module.synchformer)
    size = sum(parameter.numel() for part in shipped if part for parameter in part.parameters())
    assert 2 * size < 39e6  # bytes in float16
    assert tokenizer.get_vocab_size() == config.text_encoder.vocabulary
    assert config.model.license == "MIT"
    assert config.model.sample_rate == 16000
    assert config.model.fusion is not None
