"""Augmentation of the sounds that the autoencoder is trained on.

B batch, S samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEVEL, _LOUDEST_GAIN = 0.1, 30.0


def pan_randomly(waveforms: Tensor, fraction: float, random: torch.Generator) -> Tensor:
    """Mix some sounds to mono and pan them to a random position.

    Most sounds of the data come from the middle, and the autoencoder would otherwise centre every sound.

    Args:
        waveforms: Sounds (B, 2, S).
        fraction: Fraction of sounds to pan.
        random: Generator of the positions.

    Returns:
        The sounds (B, 2, S).
    """
    count = len(waveforms)
    angles = torch.rand(count, generator=random) * math.pi / 2
    gains = torch.stack([angles.cos(), angles.sin()], dim=1).to(waveforms)[..., None]
    is_panned = (torch.rand(count, generator=random) < fraction).to(waveforms.device)[:, None, None]
    return torch.where(is_panned, gains * waveforms.sum(dim=1, keepdim=True) / 2**0.5, waveforms)


def equalise_rms(waveforms: Tensor) -> Tensor:
    """Scale sounds to equal loudness, so that soft and short ones count too.

    Args:
        waveforms: Sounds (B, 2, S).

    Returns:
        The scaled sounds (B, 2, S); very soft ones get a limited gain.
    """
    level = waveforms.square().mean(dim=(1, 2), keepdim=True).sqrt()
    return waveforms * _LEVEL / level.clamp(min=_LEVEL / _LOUDEST_GAIN)
