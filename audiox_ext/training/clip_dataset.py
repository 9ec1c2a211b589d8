"""Clips as the network sees them: everything else of the model has done its work once, before training.

B batch, C latent channels, L latents, N context tokens, M those that differ from the one before, D their
width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..conditioning.prompts import parse_prompts
from ..conditioning.video_features import extract_video_features
from ..devices import Placement
from ..files import try_to_write
from ..media.frames import TimeRange
from ..model import AudioXModel
from ..random_numbers import RandomNumbers
from .user_clips import Clip

if TYPE_CHECKING:
    from ..conditioning.video_features import SyncEncoder

log = logging.getLogger(__name__)

# Some conditioners hide a random part of their prompt, even of an empty one: so many draws are kept.
_DRAWS = 4
_SEED = 2**40  # of these draws
_BYTES = 512 * 2**20  # a conditioner's need beside its weights, roughly
_VERSION = 1  # of the file


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedContext:
    """A context, equal neighbours kept once: tokens (M, D), counts (M,). Of a text alone, a tenth is left."""

    tokens: Tensor
    counts: Tensor

    @classmethod
    def of(cls, context: Tensor) -> PackedContext:
        """context: (N, D)."""
        tokens, counts = torch.unique_consecutive(context, dim=0, return_counts=True)
        return cls(tokens=tokens.contiguous(), counts=counts)

    def whole(self) -> Tensor:
        """(N, D), the same values."""
        return self.tokens.repeat_interleave(self.counts, dim=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedClip:
    """file: its name in the folder. mean, deviation: of the latents, (C, L). contexts: by what is shown
    ("text", and for videos "video" and "both"), one for each draw.
    """

    name: str
    file: str
    caption: str
    mean: Tensor
    deviation: Tensor
    contexts: Mapping[str, tuple[PackedContext, ...]]

    @property
    def is_video(self) -> bool:
        return "video" in self.contexts


class ClipEncoder:
    """Encodes clips with a model, under its placement. encode_sync: None where a video prompt needs no sync
    features.

    uses_videos: False for a model without eyes, or without what it needs to follow a video.
    """

    def __init__(
        self,
        model: AudioXModel,
        placement: Placement,
        encode_sync: SyncEncoder | None,
        uses_videos: bool,
    ) -> None:
        self._model, self._encode_sync, self._uses_videos = model, encode_sync, uses_videos
        self._placement = placement
        self._empty = [self._tokens({}, _random(draw)) for draw in range(_DRAWS)]

    @torch.no_grad()
    def encode(self, clip: Clip) -> EncodedClip:
        """Raises `MediaError` for a video whose pictures cannot be read."""
        mean, deviation = self._posterior(clip.waveform)
        prompts: dict[str, Any] = {"text_prompt": clip.file.caption}
        shown: dict[str, tuple[str, ...]] = {"text": ("text_prompt",)}
        if clip.has_pictures and self._uses_videos:
            prompts["video_prompt"] = self._video_prompt(clip)
            shown |= {"video": ("video_prompt",), "both": ("text_prompt", "video_prompt")}
        own = self._tokens(prompts, _random(0))
        contexts = {
            kind: tuple(self._context(empty, own, names) for empty in self._empty)
            for kind, names in shown.items()
        }
        return EncodedClip(
            name=clip.name,
            file=clip.file.name,
            caption=clip.file.caption,
            mean=mean,
            deviation=deviation,
            contexts=contexts,
        )

    def _posterior(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        autoencoder = self._model.pretransform
        device = self._placement.use("autoencoder", autoencoder, _BYTES)
        piece = self._model.config.latent_count
        mean, deviation = autoencoder.posterior(waveform[None].to(device), piece)
        return mean[0].float().cpu(), deviation[0].float().cpu()

    def _video_prompt(self, clip: Clip) -> dict[str, Tensor]:
        model = self._model
        features = extract_video_features(
            clip.file.path,
            encode_sync=self._encode_sync,
            time_range=TimeRange(start=clip.start, duration=model.conditioning_seconds),
            video_fps=model.video_fps,
            seconds=model.conditioning_seconds,
        )
        return features.video_prompt()

    @torch.no_grad()
    def _tokens(self, prompts: Mapping[str, Any], random: RandomNumbers) -> dict[str, Tensor]:
        """(1, N, D) of each conditioner that has a prompt; without any, of all, of the trained empty one."""
        tokens = {}
        for name, module in self._model.conditioner.conditioners.items():
            if prompts and name not in prompts:
                continue
            device = self._placement.use(f"conditioner.{name}", module, _BYTES)
            tokens[name] = module(parse_prompts(name, self._model.config, [prompts]), device, random).cpu()
        return tokens

    @torch.no_grad()
    def _context(
        self, empty: Mapping[str, Tensor], own: Mapping[str, Tensor], names: Iterable[str]
    ) -> PackedContext:
        tokens = {**empty, **{name: own[name] for name in names if name in own}}
        return PackedContext.of(self._model.assemble_context(tokens, self._placement)[0].float().cpu())


def _random(draw: int) -> RandomNumbers:
    return RandomNumbers.from_seed(_SEED + draw)


def read_clips(path: Path, key: str) -> tuple[list[EncodedClip], list[str]] | None:
    """(clips, lines) that `write_clips` has written under the same key; None where there is no such thing."""
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["version"] != _VERSION or content["key"] != key:
            return None
        return [_clip(entry) for entry in content["clips"]], list(content["lines"])
    except Exception as error:  # a damaged file can make the reader raise anything
        log.warning("%s cannot be read (%s): the sounds are encoded anew.", path, error)
        return None


def write_clips(path: Path, key: str, clips: Sequence[EncodedClip], lines: Sequence[str]) -> None:
    """Keep encoded clips, and what was told of them, for a training that goes on. A disk that is full is only
    told.
    """
    entries = [asdict(clip) for clip in clips]
    content = {"version": _VERSION, "key": key, "clips": entries, "lines": list(lines)}
    try_to_write(path, lambda begun: torch.save(content, begun))


def _clip(entry: dict[str, Any]) -> EncodedClip:
    contexts = {
        kind: tuple(PackedContext(**packed) for packed in draws) for kind, draws in entry["contexts"].items()
    }
    return EncodedClip(**{**entry, "contexts": contexts})
