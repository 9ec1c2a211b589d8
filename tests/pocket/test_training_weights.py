"""The parts of audiox-pocket that are shipped for training fit its training file and do what they must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL, ModelFolders
from audiox_ext.checkpoints.encoders import convert_synchformer_keys, load_synchformer
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import read_tensors
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.spectral import LatentMap, measure_spectrum
from pocket.autoencoder.latent_scale import DEVIATION
from pocket.autoencoder.spectral_decoder import build_decoder
from pocket.metrics.measures import Score, judge, scores
from pocket.settings import TrainingConfig
from pocket.sync.code import CODE
from pocket.synth.rendering import render
from pocket.training_file import read_training_config
from pocket.world.random_scenes import draw_scene
from pocket.world.scenes import Scene

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[2] / "pocket"
WEIGHTS = PACKAGE / "weights"
Code = Callable[[torch.Tensor], torch.Tensor]
"""(1, 2, S) -> (1, 2, S): a sound after it was encoded and decoded."""


@dataclass(frozen=True, kw_only=True)
class HeldOutSounds:
    """Scenes with their sounds, each (2, S), and how well these are what the scenes describe."""

    scenes: list[Scene]
    sounds: list[np.ndarray]
    rate: int
    scores: dict[str, Score]


@pytest.fixture(scope="module")
def config() -> TrainingConfig:
    return read_training_config(PACKAGE / "config.json")


@pytest.fixture(scope="module")
def waves(config: TrainingConfig) -> Autoencoder:
    assert config.waves is not None
    made = Autoencoder(config.waves, dtype=torch.float32).eval().requires_grad_(False)
    made.load_state_dict(read_tensors(WEIGHTS / "waves" / "autoencoder.safetensors"), strict=True)
    return made


@pytest.fixture(scope="module")
def held_out(config: TrainingConfig) -> HeldOutSounds:
    """Up to 80 sounds of a single kind each, none of them part of the training."""
    rate, data = config.model.sample_rate, config.balanced_dataset("held out")
    scenes = [scene for scene in map(data.scene, range(120)) if scene.arrangement == "alone"][:80]
    sounds = [render(scene, rate)[:, : config.model.sample_size] for scene in scenes]
    findings = [finding for pair in zip(scenes, sounds, strict=True) for finding in judge(*pair, rate)]
    before = scores(findings)
    assert {"count", "pitch class", "register"} <= set(before)
    return HeldOutSounds(scenes=scenes, sounds=sounds, rate=rate, scores=before)


def test_sounds_come_back_from_the_autoencoder_of_waves(waves: Autoencoder, held_out: HeldOutSounds) -> None:
    spreads: list[float] = []

    def code(sound: torch.Tensor) -> torch.Tensor:
        latents, _ = waves.posterior(sound)
        spreads.append(float(latents.std()))
        return waves.decode(latents)

    after = scores_after(held_out, code)
    for measure, score in held_out.scores.items():
        # There is no room for where clicks and hisses come from.
        lost = score.right / 3 if measure == "direction" else max(1, score.right // 7)
        assert after[measure].right >= score.right - lost, measure
    assert DEVIATION / 2 < np.sqrt(np.mean(np.square(spreads))) < DEVIATION * 2


def test_sounds_come_back_from_their_strengths(
    waves: Autoencoder, config: TrainingConfig, held_out: HeldOutSounds
) -> None:
    """By a decoder that is made of theirs, through latents fitted to other sounds."""
    torch.manual_seed(0)
    rate, sizes = config.model.sample_rate, config.model.autoencoder
    ratio = sizes.downsampling_ratio
    data = config.balanced_dataset("training")
    sounds = (
        torch.from_numpy(render(data.scene(index), rate)[:, : config.model.sample_size])
        for index in range(192)
    )
    told = torch.cat([measure_spectrum(sound[None], rate, ratio) for sound in sounds])
    mapped = LatentMap.fit(told, sizes.latent_dim)
    made = Autoencoder(sizes, dtype=torch.float32).eval().requires_grad_(False)
    build_decoder(made, waves, rate, mapped)
    after = scores_after(
        held_out, lambda sound: made.decode(mapped.to_latents(measure_spectrum(sound, rate, ratio)))
    )
    for measure, score in held_out.scores.items():
        # Clicks and hisses, again, hardly come from anywhere.
        assert after[measure].right >= (0.5 if measure == "direction" else 0.7) * score.right, measure


def test_sounds_come_back_from_what_audiox_pocket_measures(held_out: HeldOutSounds) -> None:
    """In half precision, and in time."""
    model = get_pretrained_model(DEFAULT_MODEL, folders=ModelFolders(audiox=()))[0]
    autoencoder = model.pretransform

    def code(sound: torch.Tensor) -> torch.Tensor:
        return autoencoder.decode(autoencoder.posterior(sound)[0])

    after = scores_after(held_out, code)
    for measure, score in held_out.scores.items():
        assert after[measure].right >= (0.4 if measure == "direction" else 0.7) * score.right, measure
    late: list[float | None] = []
    for seed in range(6):
        scene = draw_scene(2**33 + seed, seconds=9.0, kinds=["ball"], film=True)
        sound = torch.from_numpy(render(scene, model.sample_rate)[:, : model.sample_size])
        with torch.no_grad():
            made = code(sound[None])[0].numpy()
        found = judge(scene, made, model.sample_rate)
        late += [finding.error for finding in found if finding.measure == "onsets"]
    assert None not in late
    assert abs(float(np.median(np.array(late, dtype=float)))) < 0.02


def scores_after(held_out: HeldOutSounds, code: Code) -> dict[str, Score]:
    """Judge what comes back of each held-out sound (1, 2, S)."""
    findings = []
    for scene, sound in zip(held_out.scenes, held_out.sounds, strict=True):
        with torch.no_grad():
            decoded = code(torch.from_numpy(sound)[None])[0].numpy()
        findings += judge(scene, decoded, held_out.rate)
    return scores(findings)


def test_the_sync_encoder_sees_when_a_lamp_flashes(config: TrainingConfig) -> None:
    path = WEIGHTS / "sync" / "synchformer.safetensors"
    synchformer = load_synchformer(path, dtype=torch.float32)
    assert synchformer.config.patch_size == config.synchformer.patch_size
    assert "patch_embed_3d.proj.weight" in convert_synchformer_keys(read_tensors(path))
    data = config.dataset("held out", film_fraction=1)
    index, scene = next((i, data.scene(i)) for i in range(40) if data.scene(i).film == "lamp")
    frames = data.frames(index)
    assert frames is not None
    pictures = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float().div(127.5).sub(1)
    with torch.no_grad():
        said = synchformer(pictures)[0]
    seen = flash_curve(said.unflatten(-1, (-1, CODE)).mean(dim=1).numpy(), len(frames))
    is_flash = near_onsets(scene, len(frames))
    assert seen[is_flash].mean() > 0.4
    assert seen[~is_flash].mean() < 0.1


def test_what_was_learnt_of_captions_fits_and_tells_loud_from_quiet(config: TrainingConfig) -> None:
    pytest.importorskip("lightning", reason="NO LIGHTNING: pip install .[train] to test the training")
    from pocket.diffusion.caption_pretraining import caption_parameters
    from pocket.diffusion.text_encoder import read_tokenizer
    from pocket.diffusion.training_module import DiffusionTraining

    autoencoder = Autoencoder(config.model.autoencoder).state_dict()
    tokenizer = read_tokenizer(WEIGHTS / "captions" / "tokenizer.json")
    assert tokenizer.get_vocab_size() == config.text_encoder.vocabulary
    module = DiffusionTraining(config, autoencoder, None, tokenizer)
    found = read_tensors(WEIGHTS / "captions" / "captions.safetensors")
    values = caption_parameters(module)
    assert {key: value.shape for key, value in found.items()} == {k: v.shape for k, v in values.items()}

    def likeness() -> float:
        """How near a loud bell is to a quiet one, against another wording of itself."""
        captions = ("a loud bell rings twice", "A quiet bell rings twice.", "a bell rings loudly, two times")
        with torch.no_grad():
            code = module.text_context(captions, torch.Generator().manual_seed(0)).mean(dim=1)
        return float((code[0] - code[2]).norm() / (code[0] - code[1]).norm())

    untrained = likeness()
    with torch.no_grad():
        for key, value in values.items():
            value.copy_(found[key])
    assert likeness() < 0.5 < untrained


def flash_curve(codes: np.ndarray, frames: int) -> np.ndarray:
    """(S * 8, 16) codes of overlapping segments -> how sure they are of an onset at each picture."""
    total, number = np.zeros(frames), np.zeros(frames)
    for place, code in enumerate(codes):
        segment, step = divmod(place, 8)
        picture = 8 * segment + 2 * step
        total[picture : picture + 2] += code[1:3].max()
        number[picture : picture + 2] += 1
    return total / np.maximum(number, 1)


def near_onsets(scene: Scene, frames: int) -> np.ndarray:
    """Which pictures are within 40 ms of an onset, (frames,) bool."""
    times = (np.arange(frames) + 0.5) / 25
    return np.abs(times[:, None] - np.array(scene.parts[0].onsets)).min(axis=1) <= 0.04
