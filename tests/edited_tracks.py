"""Tracks to edit, and a stand-in for the model that edits them."""

from __future__ import annotations

import torch
from torch import Tensor

from audiox_ext.pipeline.edit_track import WindowJob


def track(seconds: float, rate: int, channels: int = 2, seed: int = 0, batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, channels, round(seconds * rate), generator=generator)


class Recorder:
    """Makes noise of its own in every window, and keeps the jobs."""

    def __init__(self, variations: int = 1, scale: float = 0.1) -> None:
        self.jobs: list[WindowJob] = []
        self.variations, self.scale = variations, scale

    def __call__(self, job: WindowJob) -> Tensor:
        self.jobs.append(job)
        generator = torch.Generator().manual_seed(100 + len(self.jobs))
        return self.scale * torch.randn(self.variations, *job.waveform.shape, generator=generator)
