"""Sounds for items, made by a model: the way it is sampled, prompts, batches, and what they cost."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiox_ext.checkpoints.catalog import ModelFolders, find_files
from audiox_ext.checkpoints.config_parser import read_model_config
from audiox_ext.checkpoints.encoders import find_synchformer_for, load_synchformer
from audiox_ext.checkpoints.pretrained import (
    get_pretrained_model,
)
from audiox_ext.conditioning.video_features import VideoFeatures, extract_video_features
from audiox_ext.config import TextConditionerConfig
from audiox_ext.errors import InputError
from audiox_ext.media.frames import ImageSequence
from audiox_ext.model import AudioXModel
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.pipeline.presets import PRESETS, WHOLE_RUN
from pocket.world.animations import render_film
from tools.random_checkpoint import write_random_checkpoint

from .items import QualityItem

FILM_FPS = 25.0
_SEEDS_APART = 1_000_003  # from one repetition to the next


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How sounds are sampled; None is the model's own. See `SamplerSettings`."""

    steps: int | None = None
    cfg_scale: float | None = None
    sampler_type: str | None = None
    schedule: str | None = None
    guidance_interval: tuple[float, float] = WHOLE_RUN
    guidance_rescale: float = 0.0
    reuse_threshold: float = 0.0

    @classmethod
    def of_preset(cls, name: str) -> Sampling:
        """Raises InputError for an unknown one."""
        if name not in PRESETS:
            raise InputError(f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
        preset = PRESETS[name]
        return cls(
            steps=preset.steps or None,
            sampler_type=preset.sampler_type or None,
            schedule=preset.schedule or None,
            guidance_interval=preset.guidance_interval,
            guidance_rescale=preset.guidance_rescale,
            reuse_threshold=preset.reuse_threshold,
        )

    def arguments(self) -> dict[str, Any]:
        """For `generate_diffusion_cond`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["scale_phi"] = values.pop("guidance_rescale")
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Made:
    """sounds: (2, S) float32, one an item. seconds, evaluations: for one of them, see `QualityReport`."""

    sounds: list[np.ndarray]
    seconds: float
    evaluations: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """Items with what the model is shown of their videos, one each, None for items without."""

    items: list[QualityItem]
    features: list[VideoFeatures | None]

    @classmethod
    def of(cls, model: AudioXModel, items: Sequence[QualityItem]) -> Prompts:
        """Films go the way of a user's video. Raises InputError where a model lacks its Synchformer."""
        encode = None
        if model.needs_sync and any(item.scene.film for item in items):
            path = find_synchformer_for(model, ModelFolders.default(), model.folder)
            if path is None:
                raise InputError(
                    f"There is no synchformer_state_dict.safetensors in {model.folder}, and videos need it: "
                    "put it there."
                )
            encode = load_synchformer(path, dtype=torch.float32)
        return cls(items=list(items), features=[_features(model, item, encode) for item in items])

    def conditioning(self, first: int, last: int) -> list[dict[str, Any]]:
        """Of items `first` to `last`, the last not included."""
        found: list[dict[str, Any]] = []
        for item, features in zip(self.items[first:last], self.features[first:last], strict=True):
            prompt: dict[str, Any] = {"text_prompt": item.prompt} if item.prompt else {}
            if features is not None:
                prompt["video_prompt"] = features.video_prompt()
            found.append(prompt)
        return found


def make_sounds(
    model: AudioXModel, prompts: Prompts, sampling: Sampling, *, seed: int = 0, batch: int = 8
) -> Made:
    """A sound for each item, `batch` at a time. seed: another number gives other sounds of the same items.

    What is not a number in a sound becomes silence, which no measure takes for right.
    """
    device = next(model.network.parameters()).device
    sounds: list[np.ndarray] = []
    begun = time.perf_counter()
    with counted_evaluations(model) as count:
        for first in range(0, len(prompts.items), batch):
            items = prompts.items[first : first + batch]
            made = generate_diffusion_cond(
                model,
                conditioning=prompts.conditioning(first, first + batch),
                batch_size=len(items),
                seeds=[(item.seed + seed * _SEEDS_APART) % 2**63 for item in items],
                device=device,
                **sampling.arguments(),
            )
            sounds += list(np.nan_to_num(made.numpy(), nan=0.0, posinf=0.0, neginf=0.0))
    seconds = time.perf_counter() - begun
    return Made(sounds=sounds, seconds=seconds / len(sounds), evaluations=count.total / len(sounds))


class Count(logging.Handler):
    """Passes through the network, item by item: a guided pair is two. Where blocks were used again, a pass
    counts as the one block that it needed.
    """

    def __init__(self, depth: int) -> None:
        super().__init__(logging.INFO)
        self.depth, self.total, self._begun = depth, 0.0, 0

    def note(self, network: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        """A pass of (B, C, L)."""
        self.total += len(arguments[0])
        self._begun += len(arguments[0])

    def emit(self, record: logging.LogRecord) -> None:
        """What the engine says at the end of a run in which blocks were used again."""
        if record.msg.startswith("%d of %d passes") and isinstance(record.args, tuple):
            reused, passes, _ = record.args
            self.total -= self._begun * float(str(reused)) / float(str(passes)) * (1 - 1 / self.depth)
            self._begun = 0


@contextmanager
def counted_evaluations(model: AudioXModel) -> Iterator[Count]:
    """Counts while it is open."""
    count = Count(model.config.network.depth)
    told = logging.getLogger("audiox_ext.sampling.windows")
    level = told.level
    told.setLevel(logging.INFO)
    told.addHandler(count)
    hook = model.network.register_forward_pre_hook(count.note)
    try:
        yield count
    finally:
        hook.remove()
        told.removeHandler(count)
        told.setLevel(level)


def untrained(model: AudioXModel, scratch: Path, seed: int = 0) -> AudioXModel:
    """The same architecture with random weights, autoencoder and text encoder included, made in `scratch`.

    Its network runs where the model's does.
    """
    assert model.folder is not None
    encoder: dict[str, Any] = {}
    for conditioner in model.config.conditioners.values():
        if isinstance(conditioner, TextConditionerConfig):
            own = model.folder / conditioner.t5_model_name / "config.json"
            if own.is_file():
                sizes = json.loads(own.read_text(encoding="utf-8"))
                encoder = {
                    name: sizes[name] for name in ("d_ff", "d_kv", "d_model", "num_heads", "num_layers")
                }
    folder = write_random_checkpoint(
        scratch / "untrained",
        read_model_config(find_files(model.folder)),
        seed=seed,
        text_encoder=encoder,
        synchformer_depth=1,
    )
    device = next(model.network.parameters()).device
    return get_pretrained_model(folder, accept_cc_by_nc=True, device=device, download=False)[0]


@torch.no_grad()
def _features(model: AudioXModel, item: QualityItem, encode: Any) -> VideoFeatures | None:
    if item.scene.film is None:
        return None
    pictures = torch.from_numpy(render_film(item.scene, fps=FILM_FPS)).float().div(255)
    return extract_video_features(
        ImageSequence(pictures, FILM_FPS),
        encode_sync=encode,
        video_fps=model.video_fps,
        seconds=model.conditioning_seconds,
    )
