"""The clips of a user's folder as training data: encoded once, split, and served in batches.

B batch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from ..checkpoints.catalog import ModelFolders, find_files, find_synchformer
from ..checkpoints.encoders import load_synchformer
from ..conditioning.video_features import SyncEncoder
from ..config import ClipConditionerConfig
from ..devices import Placement
from ..errors import InputError, MediaError
from ..license import is_non_commercial
from ..model import AudioXModel
from ..networks.vision.synchformer import Synchformer
from ..random_numbers import keyed_generator
from .audio_clips import ClipShape, ClipSummary, cut_clips
from .audio_folder import AudioFolder
from .clip_encoder import ClipEncoder, EncodedClip, read_clips, write_clips

_ORDER_KEY = 203  # keeps these random numbers apart from others
_SYNCHFORMER_BYTES = 2**30  # that it needs beside its weights, roughly
_MIN_FILES_TO_SPLIT = 4

_NO_SYNCHFORMER = (
    "No Synchformer weights (synchformer_state_dict.safetensors or .pth) were found, so only the sound of "
    "the videos is used. To train with the pictures too, put the weights beside the model's config.json."
)


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """A batch of clips. They stay on the CPU; the step moves what it needs.

    Attributes:
        step: number of the batch, from 0.
        clips: B of them.
        preserved_count: clips at the end that belong to the preservation dataset.
    """

    step: int
    clips: tuple[EncodedClip, ...]
    preserved_count: int = 0

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the clips, for messages."""
        return tuple(clip.name for clip in self.clips)

    def to(self, device: torch.device) -> ClipBatch:
        """Return the batch itself."""
        return self


@dataclass(frozen=True)
class ClipBatches:
    """Makes batches by their number: pass after pass over all clips, each in another order.

    Attributes:
        clips: clips to train on.
        size: clips per batch.
        seed: seed of the order.
        preservation_clips: a second set, of sounds whose quality is to be preserved.
        preserved_count: clips of that set in every batch.
    """

    clips: Sequence[EncodedClip]
    size: int
    seed: int
    preservation_clips: Sequence[EncodedClip] = ()
    preserved_count: int = 0

    def __getitem__(self, step: int) -> ClipBatch:
        """Make batch number `step`."""
        clips = self._draw(self.clips, step, self.size - self.preserved_count, 0)
        preserved = self._draw(self.preservation_clips, step, self.preserved_count, 1)
        return ClipBatch(step, (*clips, *preserved), self.preserved_count)

    def _draw(self, clips: Sequence[EncodedClip], step: int, count: int, purpose: int) -> list[EncodedClip]:
        drawn = []
        for number in range(step * count, (step + 1) * count):
            epoch, position = divmod(number, len(clips))
            order = keyed_generator(_ORDER_KEY, self.seed, purpose, epoch).permutation(len(clips))
            drawn.append(clips[order[position]])
        return drawn


def count_preserved(size: int, fraction: float) -> int:
    """Return the number of clips to preserve in a batch.

    Args:
        size: clips per batch.
        fraction: fraction of them, 0 without clips to preserve.

    Raises:
        InputError: a batch would hold clips of one of the datasets alone.
    """
    count = round(size * fraction)
    if fraction and not 0 < count < size:
        raise InputError(
            f"preservation_fraction {fraction:g} is {count} clips of a batch of {size}, but both datasets "
            "need at least one. Choose a larger batch or another fraction."
        )
    return count


def make_validation_batches(clips: Sequence[EncodedClip], size: int, items: int) -> list[ClipBatch]:
    """Return batches of at least `items` clips in all, each clip equally often."""
    repeats = -(-items // len(clips)) if items else 0
    repeated = [clip for _ in range(repeats) for clip in clips]
    return [
        ClipBatch(step, tuple(repeated[start : start + size]))
        for step, start in enumerate(range(0, len(repeated), size))
    ]


def split_clips(
    clips: Sequence[EncodedClip], fraction: float, seed: int
) -> tuple[list[EncodedClip], list[EncodedClip]]:
    """Split clips into a training and a validation set, file by file, by a hash of the name.

    Args:
        clips: clips to split.
        fraction: fraction of the files for validation, at least one file. With 0, or with fewer than four
            files, validation gets none.
        seed: another seed gives another split.
    """
    files = sorted({clip.file for clip in clips}, key=lambda name: _hash(f"{seed} {name}"))
    count = max(1, round(fraction * len(files))) if fraction and len(files) >= _MIN_FILES_TO_SPLIT else 0
    validation_files = set(files[:count])
    return (
        [clip for clip in clips if clip.file not in validation_files],
        [clip for clip in clips if clip.file in validation_files],
    )


def hash_content(folder: AudioFolder) -> str:
    """Return a hash that changes when files are added, removed, replaced or captioned differently."""
    return _hash(json.dumps([(f.name, f.path.stat().st_size, *f.captions) for f in folder.files]))


def load_encoded_clips(
    model: AudioXModel,
    folder: AudioFolder,
    cache_file: Path,
    *,
    min_seconds: float,
    folders: ModelFolders,
    on_clip: Callable[[int, int], None],
) -> tuple[list[EncodedClip], list[str]]:
    """Encode a folder's clips, or read them from a file if nothing has changed.

    Args:
        model: model to encode with.
        folder: the sounds.
        cache_file: file to read or write.
        min_seconds: shortest file that is used.
        folders: folders to search for Synchformer weights.
        on_clip: called after each encoded clip with (clips so far, lower bound on all clips). It may raise.

    Returns:
        (clips, sentences about them for the user).

    Raises:
        InputError: no clip can be used.
    """
    config = model.config
    shape = ClipShape(
        rate=config.sample_rate,
        channels=config.audio_channels,
        samples=config.latent_count * config.autoencoder.downsampling_ratio,
        min_seconds=min_seconds,
    )
    placement = model.placement
    assert placement is not None
    encode_sync, uses_videos, note = _choose_video_encoding(model, folder, folders, placement)
    key = _make_cache_key(model, folder, shape, note)
    cached = read_clips(cache_file, key)
    if cached is not None:
        return cached
    summary = ClipSummary(folder, shape)
    encoder = ClipEncoder(model, placement, encode_sync, uses_videos)
    clips = []
    for clip in cut_clips(folder, shape, summary):
        try:
            clips.append(encoder.encode(clip))
        except MediaError as error:  # unreadable pictures
            summary.skip(clip.file, error)
            continue
        summary.add(clip)
        on_clip(len(clips), max(len(clips), len(folder.files)))
    placement.free_memory(models=True)
    summary.check()
    sentences = summary.describe() + ([note] if note and summary.videos else [])
    write_clips(cache_file, key, clips, sentences)
    return clips, sentences


def _choose_video_encoding(
    model: AudioXModel, folder: AudioFolder, folders: ModelFolders, placement: Placement
) -> tuple[SyncEncoder | None, bool, str]:
    """Return (sync encoder, whether videos are encoded, sentence that says why not)."""
    if not any(isinstance(c, ClipConditionerConfig) for c in model.config.conditioners.values()):
        return None, False, "This model takes no videos, so only their sound is used."
    if not model.needs_sync or not any(file.may_be_video for file in folder.files):
        return None, True, ""
    path = find_synchformer(folders, near=model.folder)
    if path is None:
        return None, False, _NO_SYNCHFORMER
    weights = path

    @cache
    def network() -> Synchformer:
        # A non-commercial model has been loaded with consent.
        return load_synchformer(weights, accept_cc_by_nc=is_non_commercial(model.config.license))

    @torch.no_grad()
    def encode(frames: torch.Tensor) -> torch.Tensor:
        device = placement.use("synchformer", network(), _SYNCHFORMER_BYTES)
        return network()(frames.to(device))

    return encode, True, ""


def _make_cache_key(model: AudioXModel, folder: AudioFolder, shape: ClipShape, note: str) -> str:
    assert model.folder is not None, "a model that was loaded from files"
    weights = find_files(model.folder).weights
    stamps = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for path in (weights, *(file.path for file in folder.files))
    ]
    captions = [file.captions for file in folder.files]
    return _hash(json.dumps([stamps, captions, repr(shape), note]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
