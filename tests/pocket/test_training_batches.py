"""Batches of the pocket training: their crops, the prompts that are shown, the times of the noise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from training_miniature import RATE, miniature

from audiox_ext.training.objective import noise_times, stratified_uniform
from pocket.diffusion.prompt_dropout import VisiblePrompts
from pocket.training.batches import CropBatches


def crop_batches(**dataset: Any) -> CropBatches:
    return CropBatches(miniature().dataset("training", film_fraction=0, **dataset), 3, RATE // 2, crops=2)


def test_a_batch_is_the_same_whenever_it_is_made() -> None:
    one, other = crop_batches()[11], crop_batches()[11]
    assert one.numbers == (15, 16, 17)
    assert torch.equal(one.waveforms, other.waveforms)


def test_batches_in_a_row_take_other_crops_of_the_same_sounds() -> None:
    batches = crop_batches()
    assert batches[10].numbers == batches[11].numbers != batches[12].numbers
    assert not torch.equal(batches[10].waveforms, batches[11].waveforms)


def test_batches_begin_again_past_the_end() -> None:
    assert crop_batches(length=4)[2].numbers == (3, 0, 1)


def test_each_prompt_is_left_out_as_often_as_is_said() -> None:
    settings = replace(
        miniature().diffusion,
        text_dropout=0.1,
        text_with_video_dropout=0.4,
        video_dropout=0.2,
        audio_dropout=0.7,
        context_dropout=0.3,
    )
    has_film = torch.arange(20_000) < 10_000
    shown = VisiblePrompts.draw(settings, has_film, torch.Generator().manual_seed(0))
    shares = {
        "text with video": (shown.text[:10_000], 0.6),
        "text alone": (shown.text[10_000:], 0.9),
        "video": (shown.video[:10_000], 0.8),
        "no video": (shown.video[10_000:], 0.0),
        "audio": (shown.audio, 0.3),
        "context": (shown.context, 0.7),
    }
    for name, (values, share) in shares.items():
        assert abs(float(values.float().mean()) - share) < 0.02, name  # four deviations of 10,000 draws


def test_times_are_uniform_and_spread_over_each_batch() -> None:
    places = stratified_uniform(50, torch.Generator().manual_seed(0))
    assert sorted((places * 50).floor().int().tolist()) == list(range(50))
    assert places.tolist() != sorted(places.tolist())
    assert stratified_uniform(4, None).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert torch.equal(noise_times(places, 0.0, 0.7), places)


def test_times_can_be_drawn_wider_and_at_higher_noise() -> None:
    places = stratified_uniform(1000, torch.Generator().manual_seed(0))
    near, wide = noise_times(places, 0.75, 0.0), noise_times(places, 1.2, 0.5)
    assert float((near.sort().values - places.sort().values).abs().max()) < 0.04  # nearly even
    assert float((wide > 0.94).float().mean()) > 2 * float((near > 0.94).float().mean())
    assert 0 < float(wide.min()) < float(wide.max()) < 1
    assert float(noise_times(torch.tensor([0.5]), 1.2, 0.5)) == pytest.approx(
        math.atan(math.exp(0.5)) / math.pi * 2
    )
    assert float(noise_times(torch.tensor([0.0]), 1.2, 0.5)) > 0
