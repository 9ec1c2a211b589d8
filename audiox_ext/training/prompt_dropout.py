"""What of an item's prompts the model is shown in a step: now and then a modality is left out, so that it
learns to work with any of them, and now and then all, which guidance starts from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .batches import Batch
from .settings import DiffusionSettings


@dataclass(frozen=True)
class Shown:
    """For each of B items: whether its text, its video, its own sound as a prompt, and any context at all."""

    text: Tensor
    video: Tensor
    audio: Tensor
    context: Tensor

    @classmethod
    def draw(cls, settings: DiffusionSettings, batch: Batch, random: torch.Generator) -> Shown:
        """Each (B,) bool, on the CPU."""
        has_film = torch.tensor([film is not None for film in batch.films])
        drawn = torch.rand(4, len(has_film), generator=random)
        text_share = torch.where(has_film, settings.text_with_video_dropout, settings.text_dropout)
        return cls(
            text=drawn[0] >= text_share,
            video=has_film & (drawn[1] >= settings.video_dropout),
            audio=drawn[2] >= settings.audio_dropout,
            context=drawn[3] >= settings.context_dropout,
        )

    @classmethod
    def all_but_audio(cls, batch: Batch) -> Shown:
        """What a user gives: text, and a video where there is one."""
        yes = torch.ones(len(batch.films), dtype=torch.bool)
        has_film = torch.tensor([film is not None for film in batch.films])
        return cls(text=yes, video=has_film, audio=~yes, context=yes)


def prompts_of(batch: Batch, shown: Shown) -> list[dict[str, Any]]:
    """The conditioning of each item, without what is left out; a video as its film (T, H, W, 3)."""
    items: list[dict[str, Any]] = [{} for _ in batch.captions]
    for index, item in enumerate(items):
        if shown.text[index]:
            item["text_prompt"] = batch.captions[index]
        if shown.video[index]:
            item["video_prompt"] = batch.films[index]
        if shown.audio[index]:
            item["audio_prompt"] = batch.waveforms[index]
    return items
