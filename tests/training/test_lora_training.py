"""LoRAs trained on a user's sounds, with models of every kind that are small enough."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from quick_finetuning import Folder, lora, needs_training, read_losses
from user_sounds import tone, write_sounds

from audiox_ext import generate_diffusion_cond, get_pretrained_model
from audiox_ext.checkpoints.lora_file import kind_of, read_lora
from audiox_ext.errors import InputError
from audiox_ext.media.audio_video import read_audio, write_audio

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.slow
@needs_training
@pytest.mark.parametrize("kind", ["base", "maf", "mmdit"])
def test_some_steps_lower_the_loss_and_nothing_else_of_the_model_changes(
    kind: str, tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    lines: list[str] = []
    folder = tiny_folder(kind)
    before = (folder / "model.safetensors").read_bytes()
    result = lora(folder, sounds, tmp_path, lines.append, steps=12, preview_every=6)
    first, *_, last = read_losses(lines)
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


@pytest.mark.slow
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


@pytest.mark.slow
@needs_training
def test_what_is_asked_without_words_stays_as_it_is(
    tiny_folder: Folder, sounds: Path, tmp_path: Path
) -> None:
    """Hardly any data teach nothing, and neither do sounds to preserve."""
    preserved = write_sounds(tmp_path / "kept", 2)
    always_dropped = lora(
        tiny_folder("maf"),
        sounds,
        tmp_path / "still",
        preservation_dataset=preserved,
        preservation_fraction=0.5,
        context_dropout=0.9999,
    )
    assert all(not bool(layer.up.any()) for layer in read_lora(always_dropped.path).layers.values())
    never_dropped = lora(
        tiny_folder("maf"),
        sounds,
        tmp_path / "moved",
        preservation_dataset=preserved,
        preservation_fraction=0.5,
        context_dropout=0.0,
    )
    assert all(bool(layer.up.any()) for layer in read_lora(never_dropped.path).layers.values())


@pytest.mark.slow
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


@pytest.mark.slow
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
