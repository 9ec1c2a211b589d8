"""Sounds changed in ways that teach the autoencoder more than the data alone. B batch, S samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_LEVEL, _LOUDEST_GAIN = 0.1, 30.0


def pan_randomly(waveforms: Tensor, share: float, random: torch.Generator) -> Tensor:
    """(B, 2, S) -> the same, some of them as one sound from anywhere between left and right. Most sounds come
    from the middle: left alone, the autoencoder learns to make all of them do so.
    """
    count = len(waveforms)
    angles = torch.rand(count, generator=random) * math.pi / 2
    gains = torch.stack([angles.cos(), angles.sin()], dim=1).to(waveforms)[..., None]
    chosen = (torch.rand(count, generator=random) < share).to(waveforms.device)[:, None, None]
    return torch.where(chosen, gains * waveforms.sum(dim=1, keepdim=True) / 2**0.5, waveforms)


def equalise_rms(waveforms: Tensor) -> Tensor:
    """(B, 2, S), each as loud as the others: what is soft or short is to be heard, too."""
    level = waveforms.square().mean(dim=(1, 2), keepdim=True).sqrt()
    return waveforms * _LEVEL / level.clamp(min=_LEVEL / _LOUDEST_GAIN)
