"""The times of the diffusion, 0 to 1, that a batch is trained at."""

from __future__ import annotations

import torch
from torch import Tensor


def even_times(count: int, random: torch.Generator | None) -> Tensor:
    """One time in each of `count` equal parts of [0, 1), in any order: uniform, but the loss of a batch
    varies less than with times that know nothing of each other. Without random, the middles, in order.
    """
    if random is None:
        return (torch.arange(count) + 0.5) / count
    return (torch.randperm(count, generator=random) + torch.rand(count, generator=random)) / count
