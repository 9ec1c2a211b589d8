"""Prompt dropout: hides some prompts in each step, so that the model learns to work with any subset of them.

Sometimes all are hidden, which guidance needs.

B batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..settings import DiffusionSettings


@dataclass(frozen=True)
class VisiblePrompts:
    """Visibility of the prompts of each item, all (B,) bool on the CPU.

    Attributes:
        text: Whether the text is visible.
        video: Whether the video is visible.
        audio: Whether the item's own sound is its audio prompt.
        context: Whether there is any context at all.
    """

    text: Tensor
    video: Tensor
    audio: Tensor
    context: Tensor

    @classmethod
    def draw(cls, settings: DiffusionSettings, has_film: Tensor, random: torch.Generator) -> VisiblePrompts:
        """Draw the visibility for a training step.

        Args:
            settings: Settings with the dropout probabilities.
            has_film: Whether each item has a video (B,).
            random: Generator.

        Returns:
            The visibility.
        """
        drawn = torch.rand(4, len(has_film), generator=random)
        text_dropout = torch.where(has_film, settings.text_with_video_dropout, settings.text_dropout)
        return cls(
            text=drawn[0] >= text_dropout,
            video=has_film & (drawn[1] >= settings.video_dropout),
            audio=drawn[2] >= settings.audio_dropout,
            context=drawn[3] >= settings.context_dropout,
        )

    @classmethod
    def without_audio_prompt(cls, has_film: Tensor) -> VisiblePrompts:
        """Show the text and any video, as a user would.

        Args:
            has_film: Whether each item has a video (B,).

        Returns:
            The visibility.
        """
        yes = torch.ones_like(has_film)
        return cls(text=yes, video=has_film, audio=~yes, context=yes)
