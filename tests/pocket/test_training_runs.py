"""Whole trainings of a miniature: interrupted and not, gone wrong, written as a model and used."""

from __future__ import annotations

import importlib.util
import json
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_miniature import (
    RATE,
    SECONDS,
    miniature,
    miniature_values,
    modulated_values,
    strengths_values,
)

from audiox_ext import generate_diffusion_cond, get_pretrained_model
from audiox_ext.checkpoints.encoders import load_synchformer
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.errors import InputError, TrainingError
from pocket import pipeline as fitting
from pocket.__main__ import main
from pocket.autoencoder.latent_scale import DEVIATION
from pocket.diffusion.prompt_dropout import VisiblePrompts
from pocket.diffusion.teacher import read_teacher
from pocket.pipeline import train_autoencoder, train_diffusion, train_sync
from pocket.settings import TrainingConfig
from pocket.sync.segments import PatchBatches
from pocket.training.batches import CropBatches
from pocket.training.prepared_batches import PreparedBatch, PreparedBatches
from pocket.training_file import read_training_config

MISSING = [name for name in ("lightning", "tensorboard") if importlib.util.find_spec(name) is None]
needs_lightning = pytest.mark.skipif(
    bool(MISSING), reason=f"NO {' AND NO '.join(MISSING)}: pip install .[train] to test the training"
)
CONFIG = Path(__file__).parents[2] / "pocket" / "config.json"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The miniature's layers are too small to be shared by threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Train = Callable[..., Path]


def quietly(line: str) -> None:
    """Takes a report."""


def with_steps(config: TrainingConfig, part: str, steps: int) -> TrainingConfig:
    return replace(config, **{part: replace(getattr(config, part), steps=steps)})


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "last.ckpt", ("state_dict",))


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the miniature's autoencoder and sync encoder have been trained, for a moment, and its
    items prepared. Do not change it.
    """
    if MISSING:
        pytest.skip(f"NO {' AND NO '.join(MISSING)}: pip install .[train] to test the training")
    folder = tmp_path_factory.mktemp("trained")
    train_autoencoder(miniature(), folder, device="cpu", report=quietly)
    train_sync(miniature(), folder, device="cpu", report=quietly)
    train_diffusion(with_steps(miniature(), "diffusion", 1), folder, device="cpu", report=quietly)
    return folder


def copy_trained(source: Path, folder: Path) -> Path:
    """All but the diffusion."""
    for name in ("autoencoder", "sync", "prepared"):
        shutil.copytree(source / name, folder / name)
    return folder


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
        match=r"configuration of .*model differs from that of the training.*leave out --initial-model",
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


@pytest.mark.slow
@needs_lightning
def test_a_few_hundred_steps_from_nothing_teach_the_miniature_something(tmp_path: Path) -> None:
    values = miniature_values()
    values["data"] = {"kinds": ["tone"], "sounds": 400}
    values["autoencoder"] |= {"steps": 250, "warmup_steps": 20, "report_every": 100, "learning_rate": 3e-3}
    values["diffusion"] |= {"steps": 420, "batch_size": 4, "warmup_steps": 20, "report_every": 100}
    values["diffusion"] |= {"validation_items": 32, "ema_decay": 0.98}
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


def test_without_lightning_training_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs lightning and tensorboard.*\.\[train\]"):
        train_autoencoder(miniature(), tmp_path, device="cpu", report=quietly)
