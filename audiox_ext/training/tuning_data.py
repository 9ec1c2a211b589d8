"""A user's folder as what a model is tuned with: encoded once, split, and batch by batch.

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
from ..errors import MediaError
from ..model import AudioXModel
from ..networks.vision.synchformer import Synchformer
from ..random_numbers import keyed_generator
from .audio_folder import UserFolder
from .clip_dataset import ClipEncoder, EncodedClip, read_clips, write_clips
from .user_clips import ClipShape, ClipSummary, clips_of

_ORDER = 203  # tells these random numbers from others
_SYNCHFORMER_BYTES = 2**30  # it needs beside its weights, roughly
_FEWEST_TO_SPLIT = 4  # files; of fewer none is left out of the training

_BLIND = (
    "No Synchformer weights (synchformer_state_dict.safetensors or .pth) were found: only the sound of the "
    "videos is used. Put them beside the model's config.json to train with the pictures, too."
)


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """step: which batch it is. clips: B of them, on the CPU; the step takes along what it needs. kept: how
    many at the end are what the model is to go on making as it does.
    """

    step: int
    clips: tuple[EncodedClip, ...]
    kept: int = 0

    @property
    def numbers(self) -> tuple[str, ...]:
        """How its items are called."""
        return tuple(clip.name for clip in self.clips)

    def to(self, device: torch.device) -> ClipBatch:
        """Itself."""
        return self


@dataclass(frozen=True)
class ClipBatches:
    """Batches by their number: every clip once, in another order, then again. kept: of the clips of a second
    set so many are in every batch.
    """

    clips: Sequence[EncodedClip]
    size: int
    seed: int
    others: Sequence[EncodedClip] = ()
    kept: int = 0

    def __getitem__(self, step: int) -> ClipBatch:
        own = self._drawn(self.clips, step, self.size - self.kept, 0)
        return ClipBatch(step, (*own, *self._drawn(self.others, step, self.kept, 1)), self.kept)

    def _drawn(self, clips: Sequence[EncodedClip], step: int, count: int, purpose: int) -> list[EncodedClip]:
        drawn = []
        for number in range(step * count, (step + 1) * count):
            epoch, place = divmod(number, len(clips))
            order = keyed_generator(_ORDER, self.seed, purpose, epoch).permutation(len(clips))
            drawn.append(clips[order[place]])
        return drawn


def validation_batches(clips: Sequence[EncodedClip], size: int, items: int) -> list[ClipBatch]:
    """The same each time: at least so many items, and every clip as often."""
    rounds = -(-items // len(clips)) if items else 0
    drawn = [clip for _ in range(rounds) for clip in clips]
    return [
        ClipBatch(step, tuple(drawn[start : start + size]))
        for step, start in enumerate(range(0, len(drawn), size))
    ]


def split(
    clips: Sequence[EncodedClip], share: float, seed: int
) -> tuple[list[EncodedClip], list[EncodedClip]]:
    """(to train with, to validate with), file by file, by a hash of the name; at least one file for each.

    Of fewer than four files, or with a share of 0, all are trained with and none is left for validation.
    """
    files = sorted({clip.file for clip in clips}, key=lambda name: _hash(f"{seed} {name}"))
    count = max(1, round(share * len(files))) if share and len(files) >= _FEWEST_TO_SPLIT else 0
    held_out = set(files[:count])
    return [c for c in clips if c.file not in held_out], [c for c in clips if c.file in held_out]


def content_key(folder: UserFolder) -> str:
    """Another one where sounds were added, taken away, replaced or captioned anew."""
    return _hash(json.dumps([(f.name, f.path.stat().st_size, f.caption) for f in folder.files]))


def encoded_clips(
    model: AudioXModel,
    folder: UserFolder,
    kept: Path,
    *,
    shortest: float,
    folders: ModelFolders,
    on_clip: Callable[[int, int], None],
) -> tuple[list[EncodedClip], list[str]]:
    """(clips, what is to be told of them), from the file `kept` where nothing has changed.

    on_clip: told the number of a clip that was encoded, and how many there are at least; may raise.
    Raises `InputError` where nothing can be used.
    """
    config = model.config
    shape = ClipShape(
        rate=config.sample_rate,
        channels=config.audio_channels,
        samples=config.latent_count * config.autoencoder.downsampling_ratio,
        shortest=shortest,
    )
    placement = model.placement
    assert placement is not None
    encode_sync, uses_videos, note = _eyes(model, folder, folders, placement)
    key = _cache_key(model, folder, shape, note)
    found = read_clips(kept, key)
    if found is not None:
        return found
    summary = ClipSummary(folder, shape)
    encoder = ClipEncoder(model, placement, encode_sync, uses_videos)
    clips = []
    for clip in clips_of(folder, shape, summary):
        try:
            clips.append(encoder.encode(clip))
        except MediaError as error:  # pictures that cannot be read
            summary.leave_out(clip.file, error)
            continue
        summary.add(clip)
        on_clip(len(clips), max(len(clips), len(folder.files)))
    placement.free_memory(models=True)
    summary.check()
    lines = summary.lines() + ([note] if note and summary.videos else [])
    write_clips(kept, key, clips, lines)
    return clips, lines


def _eyes(
    model: AudioXModel, folder: UserFolder, folders: ModelFolders, placement: Placement
) -> tuple[SyncEncoder | None, bool, str]:
    """(sync encoder, whether videos are looked at, why not)."""
    if not any(isinstance(c, ClipConditionerConfig) for c in model.config.conditioners.values()):
        return None, False, "The model sees no videos: only their sound is used."
    if not model.needs_sync or not any(file.may_be_video for file in folder.files):
        return None, True, ""
    path = find_synchformer(folders, near=model.folder)
    if path is None:
        return None, False, _BLIND
    weights = path

    @cache
    def network() -> Synchformer:
        return load_synchformer(weights)

    @torch.no_grad()
    def encode(frames: torch.Tensor) -> torch.Tensor:
        device = placement.use("synchformer", network(), _SYNCHFORMER_BYTES)
        return network()(frames.to(device))

    return encode, True, ""


def _cache_key(model: AudioXModel, folder: UserFolder, shape: ClipShape, note: str) -> str:
    assert model.folder is not None, "a model that was loaded from files"
    weights = find_files(model.folder).weights
    stamps = [
        (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
        for path in (weights, *(file.path for file in folder.files))
    ]
    captions = [file.caption for file in folder.files]
    return _hash(json.dumps([stamps, captions, repr(shape), note]))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
