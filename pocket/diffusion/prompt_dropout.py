"""What of an item's prompts the model is shown in a step: now and then a modality is left out, so that it
learns to work with any of them, and now and then all, which guidance starts from.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import DiffusionSettings


@dataclass(frozen=True)
class VisiblePrompts:
    """For each of B items: whether its text, its video, its own sound as a prompt, and any context at all."""

    text: Tensor
    video: Tensor
    audio: Tensor
    context: Tensor

    @classmethod
    def draw(cls, settings: DiffusionSettings, has_film: Tensor, random: torch.Generator) -> VisiblePrompts:
        """Each (B,) bool, on the CPU, as has_film."""
        drawn = torch.rand(4, len(has_film), generator=random)
        text_share = torch.where(has_film, settings.text_with_video_dropout, settings.text_dropout)
        return cls(
            text=drawn[0] >= text_share,
            video=has_film & (drawn[1] >= settings.video_dropout),
            audio=drawn[2] >= settings.audio_dropout,
            context=drawn[3] >= settings.context_dropout,
        )

    @classmethod
    def without_audio_prompt(cls, has_film: Tensor) -> VisiblePrompts:
        """What a user gives: text, and a video where there is one."""
        yes = torch.ones_like(has_film)
        return cls(text=yes, video=has_film, audio=~yes, context=yes)
