"""Training of the sync encoder: to say when something happens in a film (see `sync_code`).

B segments, T frames of a segment, G its time steps, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ..config import ClipConditionerConfig
from ..errors import ConfigError
from ..networks.operations import PlainOperations
from ..networks.synchformer import Synchformer, SynchformerConfig
from .batches import Batch
from .dataset import Dataset
from .initial_weights import initialise_synchformer
from .scenes import random_numbers
from .settings import TrainingConfig
from .sync_code import CODE, sync_code
from .training_module import TrainingModule

FILM_FPS = 25.0
_SEGMENTS = 201  # tells these random numbers from others
_OF_A_FILM = 4  # segments that are taken of one film, whose room takes time to paint


@dataclass(frozen=True)
class SegmentBatch(Batch):
    """frames: (B, T, H, W, 3) uint8. codes: (B, G, 16) float32, what is to be said of them."""

    frames: Tensor
    codes: Tensor

    def to(self, device: torch.device) -> SegmentBatch:
        """The same on a device."""
        return SegmentBatch(self.step, self.numbers, self.frames.to(device), self.codes.to(device))


@dataclass(frozen=True)
class SegmentBatches:
    """Segments of films, batch by batch; the same whenever they are made. dataset: of films alone."""

    dataset: Dataset
    size: int
    config: SynchformerConfig

    def __getitem__(self, step: int) -> SegmentBatch:
        films = -(-self.size // _OF_A_FILM)
        indices = [number % len(self.dataset) for number in range(step * films, (step + 1) * films)]
        frames, codes = [], []
        for slot, index in enumerate(indices):
            for place in range(min(_OF_A_FILM, self.size - len(frames))):
                first = self._first(step, slot, place)
                frames.append(self._frames(index, first))
                codes.append(self._code(index, first))
        return SegmentBatch(
            step,
            tuple(self.dataset.first + index for index in indices),
            torch.from_numpy(np.stack(frames)),
            torch.from_numpy(np.stack(codes)),
        )

    def _first(self, *key: int) -> int:
        """The first frame of a segment."""
        last = round(self.dataset.seconds * FILM_FPS) - self.config.segment_frames
        return int(random_numbers(_SEGMENTS, *key).integers(last + 1))

    def _frames(self, index: int, first: int) -> np.ndarray:
        frames = self.dataset.frames(index, range(first, first + self.config.segment_frames))
        assert frames is not None
        return frames

    def _code(self, index: int, first: int) -> np.ndarray:
        step = self.config.patch_frames / FILM_FPS
        return sync_code(self.dataset.scene(index), first / FILM_FPS, self.config.time_steps, step)


class SyncTraining(TrainingModule):
    """The whole sync encoder, from torch's global generator."""

    def __init__(self, config: TrainingConfig) -> None:
        assert config.sync is not None
        super().__init__(config.sync)
        self.synchformer = build_synchformer(config)
        self.finish_building()

    def losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """The mean squared error, of all and of the onsets alone."""
        assert isinstance(batch, SegmentBatch)
        # Rendered pictures have less noise than any camera's.
        frames = rearrange(batch.frames, "b t y x c -> b t c y x").float().div(255).sub(0.5).div(0.5)
        said = self.synchformer(frames, segments_per_chunk=len(frames)).float()
        said = rearrange(said, "b g (copies code) -> b g copies code", code=CODE)
        errors = (said - batch.codes[:, :, None]).square()
        return {"loss": errors.mean(), "onsets": errors[..., :4].mean()}


def synchformer_config(config: TrainingConfig) -> SynchformerConfig | None:
    """The sizes of the sync encoder, or None for a model that has none."""
    clip = config.conditioner(ClipConditionerConfig)
    if clip is None or not clip.with_sync:
        return None
    return SynchformerConfig(
        embed_dim=clip.sync_dim,
        depth=config.synchformer.depth,
        num_heads=clip.sync_dim // 64,
        mlp_ratio=config.synchformer.mlp_ratio,
        patch_size=config.synchformer.patch_size,
    )


def build_synchformer(config: TrainingConfig) -> Synchformer:
    """With weights drawn from torch's global generator. Raises `ConfigError` where the model has none."""
    sizes = synchformer_config(config)
    if sizes is None:
        raise ConfigError("This model takes no features of a sync encoder: there is none to be trained.")
    synchformer = Synchformer(sizes, PlainOperations)
    initialise_synchformer(synchformer)
    return synchformer
