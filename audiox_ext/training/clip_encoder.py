"""Encodes clips for training: every part of the model except the network runs once, in advance.

B batch, C latent channels, L latent frames, N context tokens, M tokens that differ from their predecessor,
D width.
"""

from __future__ import annotations

import math
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
from ..utf8 import get_logger
from .audio_clips import Clip

if TYPE_CHECKING:
    from ..conditioning.video_features import SyncEncoder

log = get_logger(__name__)

# Some conditioners mask a random part of their prompt, even of an empty one, so several draws are kept.
_DRAWS = 4
_FIRST_SEED = 2**40
_WORKING_BYTES = 512 * 2**20  # that a conditioner needs beside its weights, roughly
_FILE_VERSION = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedContext:
    """A context in which equal neighbours are stored once. With text alone it shrinks to a tenth.

    Attributes:
        tokens: (M, D).
        counts: (M,), how often each token is repeated.
    """

    tokens: Tensor
    counts: Tensor

    @classmethod
    def pack(cls, context: Tensor) -> PackedContext:
        """Pack a context (N, D)."""
        tokens, counts = torch.unique_consecutive(context, dim=0, return_counts=True)
        return cls(tokens=tokens.contiguous(), counts=counts)

    def unpack(self) -> Tensor:
        """Return the context (N, D), with the same values."""
        return self.tokens.repeat_interleave(self.counts, dim=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedClip:
    """A clip as the network sees it.

    Attributes:
        name: name for messages.
        file: name of the file in its folder.
        caption: first caption of the file.
        mean: mean of the latents, (C, L).
        deviation: standard deviation of the latents, (C, L).
        contexts: several draws per kind of prompt, with the captions in turn: "text", and for videos also
            "video" and "both".
    """

    name: str
    file: str
    caption: str
    mean: Tensor
    deviation: Tensor
    contexts: Mapping[str, tuple[PackedContext, ...]]

    @property
    def is_video(self) -> bool:
        """Whether the clip has pictures that the model sees."""
        return "video" in self.contexts


class ClipEncoder:
    """Encodes clips with a model, under its placement."""

    def __init__(
        self,
        model: AudioXModel,
        placement: Placement,
        encode_sync: SyncEncoder | None,
        uses_videos: bool,
    ) -> None:
        """Encode the empty prompts, which all clips share.

        Args:
            model: model whose autoencoder and conditioners are used.
            placement: placement of the model's parts.
            encode_sync: None if video prompts need no sync features.
            uses_videos: False if the model takes no videos, or lacks what it needs to encode them.
        """
        self._model, self._encode_sync, self._uses_videos = model, encode_sync, uses_videos
        self._placement = placement
        self._empty_tokens = [self._encode_prompts({}, _make_random(draw)) for draw in range(_DRAWS)]

    @torch.no_grad()
    def encode(self, clip: Clip) -> EncodedClip:
        """Encode a clip.

        Raises:
            MediaError: the pictures of a video cannot be read.
        """
        mean, deviation = self._encode_waveform(clip.waveform)
        prompts: dict[str, Any] = {"text_prompt": clip.file.caption}
        kinds: dict[str, tuple[str, ...]] = {"text": ("text_prompt",)}
        if clip.has_pictures and self._uses_videos:
            prompts["video_prompt"] = self._make_video_prompt(clip)
            kinds |= {"video": ("video_prompt",), "both": ("text_prompt", "video_prompt")}
        first = self._encode_prompts(prompts, _make_random(0))
        others = ({"text_prompt": caption} for caption in clip.file.other_captions)
        tokens = [first, *({**first, **self._encode_prompts(other, _make_random(0))} for other in others)]
        # A multiple of the captions, so that each is drawn equally often.
        count = math.ceil(_DRAWS / len(tokens)) * len(tokens)
        contexts = {
            kind: tuple(
                self._assemble(self._empty_tokens[draw % _DRAWS], tokens[draw % len(tokens)], names)
                for draw in range(count)
            )
            for kind, names in kinds.items()
        }
        return EncodedClip(
            name=clip.name,
            file=clip.file.name,
            caption=clip.file.caption,
            mean=mean,
            deviation=deviation,
            contexts=contexts,
        )

    def _encode_waveform(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        autoencoder = self._model.pretransform
        device = self._placement.use("autoencoder", autoencoder, _WORKING_BYTES)
        chunk = self._model.config.latent_count
        mean, deviation = autoencoder.posterior(waveform[None].to(device), chunk)
        return mean[0].float().cpu(), deviation[0].float().cpu()

    def _make_video_prompt(self, clip: Clip) -> Any:
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
    def _encode_prompts(self, prompts: Mapping[str, Any], random: RandomNumbers) -> dict[str, Tensor]:
        """Return tokens (1, N, D) of each conditioner that has a prompt, or of the empty prompt for all."""
        tokens = {}
        for name, module in self._model.conditioner.conditioners.items():
            if prompts and name not in prompts:
                continue
            device = self._placement.use(f"conditioner.{name}", module, _WORKING_BYTES)
            tokens[name] = module(parse_prompts(name, self._model.config, [prompts]), device, random).cpu()
        return tokens

    @torch.no_grad()
    def _assemble(
        self, empty: Mapping[str, Tensor], tokens: Mapping[str, Tensor], names: Iterable[str]
    ) -> PackedContext:
        chosen = {**empty, **{name: tokens[name] for name in names if name in tokens}}
        return PackedContext.pack(self._model.assemble_context(chosen, self._placement)[0].float().cpu())


def _make_random(draw: int) -> RandomNumbers:
    return RandomNumbers.from_seed(_FIRST_SEED + draw)


def read_clips(path: Path, key: str) -> tuple[list[EncodedClip], list[str]] | None:
    """Read what `write_clips` wrote under the same key.

    Returns:
        (clips, sentences about them), or None if the file is missing, damaged or has another key.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["version"] != _FILE_VERSION or content["key"] != key:
            return None
        return [_restore_clip(entry) for entry in content["clips"]], list(content["sentences"])
    except Exception as error:  # a damaged file can make the reader raise anything
        log.warning("%s cannot be read (%s); the sounds are encoded again.", path, error)
        return None


def write_clips(path: Path, key: str, clips: Sequence[EncodedClip], sentences: Sequence[str]) -> None:
    """Store encoded clips for a resumed training. A full disk is logged and does no harm.

    Args:
        path: path of the file.
        key: identifies what the clips were made from.
        clips: clips to store.
        sentences: sentences about the clips, for the user.
    """
    content = {
        "version": _FILE_VERSION,
        "key": key,
        "clips": [asdict(clip) for clip in clips],
        "sentences": list(sentences),
    }
    try_to_write(path, lambda target: torch.save(content, target))


def _restore_clip(entry: dict[str, Any]) -> EncodedClip:
    contexts = {
        kind: tuple(PackedContext(**packed) for packed in draws) for kind, draws in entry["contexts"].items()
    }
    return EncodedClip(**{**entry, "contexts": contexts})
