"""LoRAs and whole networks trained on a user's sounds, with models of every kind that are small enough."""

from __future__ import annotations

import importlib.util
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from user_sounds import tone, write_sounds

from audiox_ext import generate_diffusion_cond, get_pretrained_model
from audiox_ext.checkpoints.lora_file import kind_of, read_lora
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.cli.main import main
from audiox_ext.errors import ConfigError, InputError, LicenseError, TrainingError
from audiox_ext.media.audio_video import read_audio, write_audio
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.training import finetune as tuning
from audiox_ext.training.clip_dataset import ClipBatches, make_validation_batches, split_clips
from audiox_ext.training.clip_encoder import EncodedClip, PackedContext
from audiox_ext.training.finetune import TrainingRequest, TrainingResult, finetune, train_lora
from audiox_ext.training.settings import FinetuneSettings, LoraSettings

MISSING = [name for name in ("lightning", "tensorboard", "peft") if importlib.util.find_spec(name) is None]
needs_training = pytest.mark.skipif(
    bool(MISSING), reason=f"NO {' AND NO '.join(MISSING)}: pip install .[train] to test the training"
)
Folder = Callable[[str], Path]
QUICK: dict[str, Any] = {
    "steps": 6,
    "batch_size": 2,
    "warmup_steps": 2,
    "rank": 4,
    "learning_rate": 5e-3,
    "ema_decay": 0.5,
    "validation_items": 4,
    "validate_every": 3,
    "checkpoint_every": 2,
    "report_every": 2,
    "preview_every": 0,
    "preview_steps": 2,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """The models' layers are too small to be shared by threads, which would wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five captioned sounds. Do not change them."""
    return write_sounds(tmp_path_factory.mktemp("sounds"))


def quietly(line: str) -> None:
    """Takes a report."""


def request(model: Path, dataset: Path, output: Path, **changes: Any) -> TrainingRequest:
    return TrainingRequest(model=model, dataset=dataset, output=output, device=torch.device("cpu"), **changes)


def lora(model: Path, dataset: Path, output: Path, report: Any = quietly, **changes: Any) -> TrainingResult:
    """A LoRA of a few steps."""
    keys = ("preservation_dataset", "default_caption", "accept_cc_by_nc", "on_step")
    own = {key: changes.pop(key) for key in keys if key in changes}
    watching = {"on_step": own.pop("on_step")} if "on_step" in own else {}
    settings = LoraSettings(**QUICK | changes)
    asked = request(model, dataset, output, **own)
    return train_lora(asked, settings, path=output / "my.safetensors", report=report, **watching)


class BrokenOffError(Exception):
    """Somebody has ended the training."""


def end_after(step: int) -> Callable[[int, int], None]:
    def on_step(done: int, steps: int) -> None:
        if done == step:
            raise BrokenOffError

    return on_step


def losses_told(lines: list[str]) -> list[float]:
    """Of the validations."""
    return [
        float(line.split("loss ")[1].split(",")[0].split(";")[0]) for line in lines if "sounds loss" in line
    ]


@needs_training
@pytest.mark.parametrize("kind", ["base", "maf", "mmdit"])
def test_some_steps_lower_the_loss_and_nothing_else_of_the_model_changes(
    kind: str, tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    folder = tiny_folder(kind)
    before = (folder / "model.safetensors").read_bytes()
    result = lora(folder, sounds, tmp_path, lines.append, steps=12, preview_every=6)
    first, *_, last = losses_told(lines)
    assert last < 0.9 * first
    assert (folder / "model.safetensors").read_bytes() == before
    loaded = read_lora(result.path)
    model, _ = get_pretrained_model(folder)
    assert loaded.info.kind == kind_of(model.config)
    assert loaded.info.license == "MIT"
    assert loaded.info.base == folder.name
    assert loaded.info.captions[0] == "a tone of 300 Hz"
    # Files are given away: nothing of where the sounds lay is in them.
    assert loaded.info.dataset.startswith(f"{sounds.name}: 5 clips")
    assert str(sounds.parent) not in repr(loaded.info)
    assert loaded.rank == 4
    layers = {
        name: tuple(layer.weight.shape)
        for name, layer in model.network.named_modules()
        if hasattr(layer, "weight") and layer.weight.dim() > 1
    }
    blocks = {name for name in layers if name.startswith("transformer.layers.")}
    assert loaded.layers.keys() == blocks
    assert all(layer.shape == layers[name] for name, layer in loaded.layers.items())
    assert all(float(layer.up.abs().max()) > 0 for layer in loaded.layers.values())
    preview, rate = read_audio(tmp_path / "sounds" / "step-000006.wav")
    assert (preview.shape[0], rate) == (2, 16000)
    assert result.sound.shape == (2, model.config.latent_count * 512)
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")
    assert result.curve.size == (900, 480)


@needs_training
def test_what_the_file_says_is_what_was_trained(tiny_folder: Folder, sounds: Path, tmp_path: Path) -> None:
    """The base with the file's matrices added to its weights makes the sound that the training ended with."""
    result = lora(tiny_folder("maf"), sounds, tmp_path, rank=3, alpha=6.0)
    model, _ = get_pretrained_model(tiny_folder("maf"))
    for name, layer in read_lora(result.path).layers.items():
        assert layer.alpha == 6.0
        weight = model.network.get_submodule(name).weight
        weight.data = weight.data + layer.difference(1.0)
    [sound] = generate_diffusion_cond(
        model, steps=2, conditioning={"text_prompt": "a tone of 300 Hz"}, seed=0, device="cpu"
    )
    sound = sound / max(1.0, float(sound.abs().max()))
    # The same products in another order.
    torch.testing.assert_close(result.sound, sound, rtol=1e-3, atol=1e-4)


@needs_training
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_training_that_was_cancelled_gives_what_it_would_have_given(
    dropout: float, tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    model = tiny_folder("maf")
    result = lora(model, sounds, whole, dropout=dropout)
    with pytest.raises(BrokenOffError):
        lora(model, sounds, broken, dropout=dropout, on_step=end_after(3))
    assert not (broken / "my.safetensors").exists()
    lines: list[str] = []
    state = torch.random.get_rng_state()
    again = lora(model, sounds, broken, lines.append, dropout=dropout)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert "Resuming after step 3 of 6." in lines  # the step it was cancelled at, not an earlier checkpoint
    assert again.path.read_bytes() == result.path.read_bytes()
    assert (broken / "losses.png").read_bytes() == (whole / "losses.png").read_bytes()


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


@needs_training
def test_training_ends_when_it_gets_no_better_and_the_best_is_kept(
    tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    model = tiny_folder("maf")
    # So large a step does harm from the beginning: the best is the model as it was.
    wild = {"learning_rate": 0.3, "steps": 20, "patience": 2, "warmup_steps": 0}
    result = lora(model, sounds, tmp_path, lines.append, **wild)
    assert any(
        "no lower loss for 2 validations, so training stops here. The result is that of step 0" in x
        for x in lines
    )
    loaded = read_lora(result.path)
    assert all(float(layer.up.abs().max()) == 0 for layer in loaded.layers.values())
    first = result.path.read_bytes()
    lines.clear()
    lora(model, sounds, tmp_path, lines.append, **wild)
    assert any("Training stopped early after 6 steps" in line for line in lines)
    assert result.path.read_bytes() == first
    lora(model, sounds, tmp_path, lines.append, **wild | {"patience": 3})
    assert any("Resuming after step 6" in line for line in lines)


@needs_training
def test_one_sound_is_enough(tiny_folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_audio(tmp_path / "in" / "my doorbell.wav", tone(500, 1.0), 16000)
    lines: list[str] = []
    result = lora(tiny_folder("maf"), tmp_path / "in", tmp_path / "out", lines.append)
    assert any("No file is held out" in line for line in lines)
    assert any('"my doorbell"' in line for line in lines)
    assert read_lora(result.path).info.captions == ("my doorbell",)


@needs_training
def test_videos_are_shown_to_the_model(tiny_folder: Folder, tmp_path: Path) -> None:
    from videos import frame_times, write_video

    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "film.mp4", frame_times(25, 25), audio_seconds=1.0)
    lora(tiny_folder("maf"), tmp_path / "in", tmp_path / "out", steps=2)
    [clip] = torch.load(tmp_path / "out" / "clips.pt", weights_only=True)["clips"]
    assert clip["contexts"].keys() == {"text", "video", "both"}
    kinds = [draws[0]["tokens"] for draws in clip["contexts"].values()]
    assert len({float(tokens.double().sum()) for tokens in kinds}) == 3


@needs_training
def test_a_loss_that_is_no_number_stops_it_with_step_and_sounds(
    tiny_folder: Folder, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tuning.ClipBatches.__getitem__

    def spoilt(self: Any, number: int) -> Any:
        batch = make(self, number)
        if number == 3:
            batch.clips[0].mean[0, 0] = torch.nan
        return batch

    monkeypatch.setattr(tuning.ClipBatches, "__getitem__", spoilt)
    with pytest.raises(TrainingError, match=r"Step 4: the loss is not finite .*items tone-\d\.wav"):
        lora(tiny_folder("maf"), sounds, tmp_path, validate_every=50)
    state = read_tensors(tmp_path / "last.ckpt", ("state_dict",))
    assert state
    assert all("lora_" in key and bool(torch.isfinite(value).all()) for key, value in state.items())


def encoded(name: str, file: str = "") -> EncodedClip:
    one = torch.ones(1, 1)
    return EncodedClip(name=name, file=file or name, caption="", mean=one, deviation=one, contexts={})


def test_every_sound_comes_once_a_round_and_each_round_is_another() -> None:
    clips = [encoded(f"{number}.wav") for number in range(7)]
    batches = ClipBatches(clips, 3, 1, [encoded("kept.wav"), encoded("too.wav")], 1)
    names = [batches[step].numbers for step in range(7)]
    own = [name for batch in names for name in batch[:2]]
    assert sorted(own[:7]) == sorted(own[7:]) == sorted(clip.name for clip in clips)
    assert own[:7] != own[7:]
    assert [batch[2] for batch in names].count("kept.wav") in (3, 4)
    assert batches[5].numbers == names[5]
    assert ClipBatches(clips, 3, 2)[0].numbers != ClipBatches(clips, 3, 1)[0].numbers


def test_parts_of_a_file_are_on_one_side_of_the_split() -> None:
    clips = [encoded(f"{file}.wav from {part}", f"{file}.wav") for file in range(10) for part in range(3)]
    training, held_out = split_clips(clips, 0.2, 0)
    assert len(held_out) == 6
    assert not {clip.file for clip in training} & {clip.file for clip in held_out}
    assert [clip.name for clip in split_clips(clips, 0.2, 0)[1]] == [clip.name for clip in held_out]
    assert len(split_clips(clips[:9], 0.9, 0)[1]) == 0  # three files are too few
    assert len(split_clips(clips, 0.0, 0)[1]) == 0
    whole = make_validation_batches(held_out, 4, 10)
    counts = Counter(name for batch in whole for name in batch.numbers)
    assert counts == dict.fromkeys((clip.name for clip in held_out), 2)


def test_a_packed_context_is_the_same_context() -> None:
    context = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))[[0, 1, 1, 1, 2, 1, 3, 3]]
    packed = PackedContext.pack(context)
    assert len(packed.tokens) == 5
    assert torch.equal(packed.unpack(), context)


@pytest.mark.parametrize("objective", ["v", "rectified_flow"])
def test_a_network_that_predicts_what_is_wanted_leads_samplers_to_the_latents(objective: Any) -> None:
    """The samplers' own formulas: denoised latents of a prediction at a time."""
    pytest.importorskip("lightning", reason="NO lightning: pip install .[train] to test the training")
    from audiox_ext.sampling.denoiser import VDenoiser
    from audiox_ext.sampling.rectified_flow import sample_few_steps
    from audiox_ext.training.objective import add_noise

    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(2, 3, 4, generator=generator) for _ in range(2))
    times = torch.tensor([0.3, 0.3])
    noisy, target = add_noise(objective, latents, noise, times)
    if objective == "v":
        sigma = torch.tan(times * torch.pi / 2)
        x = noisy * (1 + sigma[0] ** 2).sqrt()
        estimate = VDenoiser(lambda x, t: target)(x, sigma[0])
    else:
        estimate = sample_few_steps(
            lambda x, t: target, noise, steps=1, random=RandomNumbers.from_seed(0), start=0.3, init=latents
        )
    torch.testing.assert_close(estimate, latents, rtol=1e-5, atol=1e-5)


@needs_training
def test_sounds_to_go_on_making_are_a_share_of_every_batch(
    tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    preserved = write_sounds(tmp_path / "kept", 2)
    lines: list[str] = []
    lora(
        tiny_folder("maf"),
        sounds,
        tmp_path / "out",
        lines.append,
        preservation_dataset=preserved,
        batch_size=4,
        preservation_fraction=0.5,
    )
    assert any(line.startswith("To preserve: ") for line in lines)
    with pytest.raises(InputError, match=r"preservation_fraction 0\.1 is 0 clips of a batch of 2"):
        lora(
            tiny_folder("maf"),
            sounds,
            tmp_path / "too few",
            preservation_dataset=preserved,
            preservation_fraction=0.1,
        )


@needs_training
def test_what_is_asked_without_words_stays_as_it_is(
    tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    """Hardly any data teach nothing, and neither do sounds to preserve."""
    preserved = write_sounds(tmp_path / "kept", 2)
    still = lora(
        tiny_folder("maf"),
        sounds,
        tmp_path / "still",
        preservation_dataset=preserved,
        preservation_fraction=0.5,
        context_dropout=0.9999,
    )
    assert all(not bool(layer.up.any()) for layer in read_lora(still.path).layers.values())
    moved = lora(
        tiny_folder("maf"),
        sounds,
        tmp_path / "moved",
        preservation_dataset=preserved,
        preservation_fraction=0.5,
        context_dropout=0.0,
    )
    assert all(bool(layer.up.any()) for layer in read_lora(moved.path).layers.values())


@needs_training
def test_a_network_is_for_a_while_as_if_it_had_no_lora(tiny_folder: Folder) -> None:
    from audiox_ext.training.lora_layers import add_adapters, disable_adapters

    network = get_pretrained_model(tiny_folder("maf"))[0].network
    add_adapters(network, LoraSettings(rank=2))
    [layer, *_] = [module for module in network.modules() if hasattr(module, "lora_B")]
    x = torch.randn(2, layer.in_features)
    plain = layer(x)
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    changed = layer(x)
    with disable_adapters(network):
        assert torch.equal(layer(x), plain)
    assert torch.equal(layer(x), changed)
    assert not torch.equal(changed, plain)


@needs_training
@pytest.mark.parametrize("extra", [{"precision": "bf16"}, {"gradient_checkpointing": True}])
def test_less_memory_trains_nearly_the_same(
    extra: dict[str, Any], tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    plain = read_lora(lora(tiny_folder("maf"), sounds, tmp_path / "plain").path)
    other = read_lora(lora(tiny_folder("maf"), sounds, tmp_path / "other", **extra).path)
    name = "transformer.layers.0.self_attn.to_qkv"
    one, two = (lora_file.layers[name].difference(1.0) for lora_file in (plain, other))
    assert one.dtype == torch.float32
    # Recomputed activations are the same; bf16 has 8 bits, and Adam makes much of small differences.
    assert float((one - two).norm() / one.norm()) < (1e-4 if "gradient_checkpointing" in extra else 0.5)


@needs_training
@pytest.mark.parametrize("kind", ["maf", "mmdit"])
def test_a_whole_network_is_trained_and_written_as_a_model(
    kind: str, tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    values = {key: value for key, value in QUICK.items() if key != "rank"}
    settings = FinetuneSettings(**values | {"learning_rate": 2e-4, "steps": 9})
    result = finetune(request(tiny_folder(kind), sounds, tmp_path), settings, report=lines.append)
    first, *_, last = losses_told(lines)
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


@needs_training
def test_targets_choose_the_layers(tiny_folder: Folder, sounds: Path, tmp_path: Path) -> None:
    result = lora(tiny_folder("maf"), sounds, tmp_path / "a", steps=1, targets=("to_qkv", r"layers\.1\.ff"))
    assert set(read_lora(result.path).layers) == {
        "transformer.layers.0.self_attn.to_qkv",
        "transformer.layers.1.self_attn.to_qkv",
        "transformer.layers.1.ff.ff.0.proj",
        "transformer.layers.1.ff.ff.2",
    }
    with pytest.raises(InputError, match=r"no layer 'to_nowhere'\. .* are cross_attn\.to_kv,"):
        lora(tiny_folder("maf"), sounds, tmp_path / "b", targets=("to_nowhere",))
    with pytest.raises(InputError, match=r"'\(' is not a regular expression"):
        lora(tiny_folder("maf"), sounds, tmp_path / "b", targets=("(",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"alpha": 0.0}, "alpha must be above 0"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1, got 1"),
        ({"held_out_fraction": 1.0}, "held_out_fraction must be"),
        ({"preservation_fraction": -0.1}, "preservation_fraction must be"),
        ({"patience": -1}, "patience must be at least 0"),
        ({"patience": 1, "validation_items": 0}, "patience needs validations"),
        ({"min_seconds": 0.0}, "min_seconds must be above 0"),
        ({"preview_steps": 0}, "preview_steps must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoraSettings(**changes)


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
