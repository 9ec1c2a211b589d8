"""The times of the diffusion, 0 to 1, that a batch is trained at."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def even_places(count: int, random: torch.Generator | None) -> Tensor:
    """One number in each of `count` equal parts of [0, 1), in any order: uniform, but the loss of a batch
    varies less than with numbers that know nothing of each other. Without random, the middles, in order.
    """
    if random is None:
        return (torch.arange(count) + 0.5) / count
    return (torch.randperm(count, generator=random) + torch.rand(count, generator=random)) / count


def times_at(places: Tensor, spread: float, shift: float) -> Tensor:
    """Places in [0, 1) -> times: themselves if spread is 0.

    Else the logarithm of the noise level tan(t pi / 2) is logistic around `shift`, with the scale `spread`.
    Times that are drawn evenly come near a shift of 0 and a spread of 0.75; what shows in hundreds of latents
    at once, such as a pitch, is settled at higher levels than they reach (Karras et al. 2022, arXiv
    2206.00364, section 5, choose the levels likewise).
    """
    if spread == 0:
        return places
    level = (spread * torch.logit(places, eps=1e-4) + shift).exp()
    return torch.atan(level) * 2 / math.pi
