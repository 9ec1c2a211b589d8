"""Segments of films with their target codes, and the patches that the sync encoder computes of them once.

B segments, T frames of a segment, G its time steps, P patches of a frame, D width.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from audiox_ext.networks.vision.synchformer import Synchformer, SynchformerConfig
from audiox_ext.random_numbers import keyed_generator
from audiox_ext.training.trainer import Batch, pick_item

from ..training.row_files import Report, Rows, fingerprint_of, prepare_rows, row_range
from ..world.dataset import Dataset
from .code import sync_code

FILM_FPS = 25.0
_VERSION = 1  # of the computation; part of the fingerprint
_SEGMENTS = 201  # separates the random numbers of segments from others
_OF_A_FILM = 4  # segments per film, because drawing its background takes time


@dataclass(frozen=True)
class PatchBatch(Batch):
    """A batch of segments.

    Attributes:
        patches: Encoded patches (B, G * P, D).
        codes: Target codes (B, G, 16).
    """

    patches: Tensor
    codes: Tensor

    def to(self, device: torch.device) -> PatchBatch:
        """Move the tensors to a device.

        Args:
            device: The device.

        Returns:
            The batch on that device.
        """
        return PatchBatch(self.step, self.numbers, self.patches.to(device), self.codes.to(device))


@dataclass(frozen=True)
class PatchBatches:
    """Batches of prepared segments.

    Attributes:
        rows: Result of `prepare_segments`.
        count: Number of segments.
        size: Segments per batch.
        shuffled: Whether every epoch has a new order.
    """

    rows: Rows
    count: int
    size: int
    shuffled: bool = True

    def __getitem__(self, step: int) -> PatchBatch:
        """Make the batch of a step.

        Args:
            step: Number of the batch.

        Returns:
            The batch.
        """
        places = range(step * self.size, (step + 1) * self.size)
        numbers = tuple(pick_item(place, self.count, self.shuffled) for place in places)
        rows = [self.rows[number] for number in numbers]
        patches, codes = (torch.stack([row[name] for row in rows]) for name in ("patches", "codes"))
        return PatchBatch(step, numbers, patches, codes)


def normalise_frames(frames: Tensor) -> Tensor:
    """Scale pictures for the sync encoder.

    Args:
        frames: Pictures of any shape, uint8.

    Returns:
        The pictures from -1 to 1, float32.
    """
    return frames.to(torch.float32, copy=True).div_(255).sub_(0.5).div_(0.5)


def prepare_segments(
    synchformer: Synchformer,
    dataset: Dataset,
    count: int,
    folder: Path,
    *,
    device: torch.device,
    workers: int,
    report: Report,
) -> Rows:
    """Prepare segments of films, or find those that an earlier run prepared.

    Args:
        synchformer: Sync encoder, whose first layer is used.
        dataset: Dataset of films.
        count: Number of segments.
        folder: Folder of the rows.
        device: Device of the encoder.
        workers: Processes that draw the films.
        report: Receives lines about the progress.

    Returns:
        One row per segment.
    """
    first_layer = synchformer.patch_embed_3d

    @torch.no_grad()
    def encode(batch: Batch) -> dict[str, Tensor]:
        assert isinstance(batch, _Segments)
        frames = rearrange(batch.frames, "b t y x c -> b t c y x")
        patches = synchformer.patches_of_frames(normalise_frames(frames))
        return {"patches": patches.to("cpu", torch.float16), "codes": batch.codes.to("cpu", torch.float16)}

    fingerprint = fingerprint_of(f"{_VERSION} {dataset} {count}", first_layer)
    groups = _SegmentGroups(dataset, count, synchformer.config)
    return prepare_rows(
        folder, fingerprint, groups, count, encode, device=device, workers=workers, report=report
    )


@dataclass(frozen=True)
class _Segments(Batch):
    """Segments to encode: frames (B, T, H, W, 3) uint8, and their codes."""

    frames: Tensor
    codes: Tensor

    def to(self, device: torch.device) -> _Segments:
        return _Segments(self.step, self.numbers, self.frames.to(device), self.codes.to(device))


@dataclass(frozen=True)
class _SegmentGroups:
    """Segments in groups, as `prepare_rows` expects them."""

    dataset: Dataset
    count: int
    config: SynchformerConfig

    def __getitem__(self, step: int) -> _Segments:
        """Make a group."""
        numbers = row_range(step, self.count)
        frames, codes = zip(*(self._segment(number) for number in numbers), strict=True)
        return _Segments(
            step, tuple(numbers), torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(codes))
        )

    def _segment(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Frames and code of a segment."""
        film, length = number // _OF_A_FILM % len(self.dataset), self.config.segment_frames
        last = round(self.dataset.seconds * FILM_FPS) - length
        first = int(keyed_generator(_SEGMENTS, number).integers(last + 1))
        frames = self.dataset.frames(film, range(first, first + length))
        assert frames is not None
        step = self.config.patch_frames / FILM_FPS
        code = sync_code(self.dataset.scene(film), first / FILM_FPS, self.config.time_steps, step)
        return frames, code
