"""The parts of fine-tuning: clips, batches, the trained target, adapters and settings."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import Field, fields
from typing import Any

import pytest
import torch
from quick_finetuning import Folder, needs_training

from audiox_ext import get_pretrained_model
from audiox_ext.errors import ConfigError
from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.training.clip_dataset import ClipBatches, make_validation_batches, split_clips
from audiox_ext.training.clip_encoder import EncodedClip, PackedContext
from audiox_ext.training.settings import LoraSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def make_clip(name: str, file: str = "") -> EncodedClip:
    one = torch.ones(1, 1)
    return EncodedClip(name=name, file=file or name, caption="", mean=one, deviation=one, contexts={})


def test_every_sound_comes_once_a_round_and_each_round_is_another() -> None:
    clips = [make_clip(f"{number}.wav") for number in range(7)]
    batches = ClipBatches(clips, 3, 1, [make_clip("kept.wav"), make_clip("too.wav")], 1)
    names = [batches[step].numbers for step in range(7)]
    own = [name for batch in names for name in batch[:2]]
    assert sorted(own[:7]) == sorted(own[7:]) == sorted(clip.name for clip in clips)
    assert own[:7] != own[7:]
    assert [batch[2] for batch in names].count("kept.wav") in (3, 4)
    assert batches[5].numbers == names[5]
    assert ClipBatches(clips, 3, 2)[0].numbers != ClipBatches(clips, 3, 1)[0].numbers


def test_parts_of_a_file_are_on_one_side_of_the_split() -> None:
    clips = [make_clip(f"{file}.wav from {part}", f"{file}.wav") for file in range(10) for part in range(3)]
    training, held_out = split_clips(clips, 0.2, 0)
    assert len(held_out) == 6
    assert not {clip.file for clip in training} & {clip.file for clip in held_out}
    assert [clip.name for clip in split_clips(clips, 0.2, 0)[1]] == [clip.name for clip in held_out]
    assert len(split_clips(clips[:9], 0.9, 0)[1]) == 0  # three files are too few
    assert len(split_clips(clips, 0.0, 0)[1]) == 0
    batches = make_validation_batches(held_out, 4, 10)
    counts = Counter(name for batch in batches for name in batch.numbers)
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


NUMBERS = [field for field in fields(LoraSettings) if str(field.type).startswith(("int", "float"))]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "10", b"1", [1], True], ids=str)
@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_every_number_of_a_training_is_a_finite_number(field: Field[Any], value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{field.name} must be"):
        LoraSettings(**{field.name: value})


@pytest.mark.parametrize(
    "field", [field for field in NUMBERS if field.type == "int"], ids=lambda field: field.name
)
@pytest.mark.parametrize("value", [1.5, 10**30])
def test_every_count_of_a_training_is_a_whole_number_that_can_be_meant(
    field: Field[Any], value: object
) -> None:
    with pytest.raises(ConfigError, match=f"{field.name} must be a whole number of at most \\d+, got"):
        LoraSettings(**{field.name: value})
