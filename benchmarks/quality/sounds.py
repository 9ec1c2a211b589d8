"""Generating the sounds that are measured: sampling settings, encoded prompts, batches and their cost."""

from __future__ import annotations

import json
import logging
import re
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
from audiox_ext.pipeline.settings import PRESETS
from pocket.world.animations import render_film
from tools.random_checkpoint import write_random_checkpoint

from .items import QualityItem

FILM_FPS = 25.0
_SEED_STRIDE = 1_000_003  # between two seeds of the same item


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Sampling settings; None is the model's own value.

    Attributes:
        steps: Sampling steps.
        cfg_scale: Guidance scale.
        sampler_type: Name of the sampler.
        schedule: Name of the noise schedule.
        guidance_interval: Fractions of the steps between which guidance applies.
        guidance_rescale: Rescaling of the guided prediction, 0 for none.
        reuse_threshold: Threshold of block reuse, 0 for none.
    """

    steps: int | None = None
    cfg_scale: float | None = None
    sampler_type: str | None = None
    schedule: str | None = None
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    guidance_rescale: float = 0.0
    reuse_threshold: float = 0.0

    @classmethod
    def of_preset(cls, name: str) -> Sampling:
        """Take the settings of a preset.

        Args:
            name: Name of the preset.

        Returns:
            The settings.

        Raises:
            InputError: For an unknown preset.
        """
        if name not in PRESETS:
            raise InputError(f"There is no preset {name!r}: choose one of {', '.join(PRESETS)}.")
        preset = PRESETS[name]
        return cls(steps=preset.steps, sampler_type=preset.sampler, schedule=preset.schedule)

    def arguments(self) -> dict[str, Any]:
        """Convert the settings to arguments of `generate_diffusion_cond`.

        Returns:
            The arguments by name.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values["scale_phi"] = values.pop("guidance_rescale")
        values["guidance_start"], values["guidance_end"] = values.pop("guidance_interval")
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class GeneratedSounds:
    """Sounds and their cost.

    Attributes:
        sounds: One sound (2, S) per item, float32.
        seconds: Time per sound.
        evaluations: Passes through the network per sound.
    """

    sounds: list[np.ndarray]
    seconds: float
    evaluations: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompts:
    """Items with their encoded videos.

    Attributes:
        items: The items.
        features: Features of the video of each item, None without a video.
    """

    items: list[QualityItem]
    features: list[VideoFeatures | None]

    @classmethod
    def of(cls, model: AudioXModel, items: Sequence[QualityItem]) -> Prompts:
        """Encode the videos of items like a user's video.

        Args:
            model: Model that will generate the sounds.
            items: The items.

        Returns:
            The items with their features.

        Raises:
            InputError: If the model needs a Synchformer that is not there.
        """
        encode = None
        if model.needs_sync and any(item.scene.film for item in items):
            path = find_synchformer_for(model, ModelFolders.default(), model.folder)
            if path is None:
                raise InputError(
                    f"Videos need synchformer_state_dict.safetensors, which is not in {model.folder}: put it "
                    "there, or leave out the groups with videos."
                )
            encode = load_synchformer(path, dtype=torch.float32)
        return cls(items=list(items), features=[_features(model, item, encode) for item in items])

    def conditioning(self, first: int, last: int) -> list[dict[str, Any]]:
        """Make the conditioning of some items.

        Args:
            first: Index of the first item.
            last: Index after the last item.

        Returns:
            One conditioning dictionary per item.
        """
        conditioning: list[dict[str, Any]] = []
        for item, features in zip(self.items[first:last], self.features[first:last], strict=True):
            prompt: dict[str, Any] = {"text_prompt": item.prompt} if item.prompt else {}
            if features is not None:
                prompt["video_prompt"] = features.video_prompt()
            conditioning.append(prompt)
        return conditioning


def generate_sounds(
    model: AudioXModel, prompts: Prompts, sampling: Sampling, *, seed: int = 0, batch: int = 8
) -> GeneratedSounds:
    """Generate one sound per item.

    Samples that are not finite become silence, which every measure counts as wrong.

    Args:
        model: Model to use.
        prompts: Items with their encoded videos.
        sampling: Sampling settings.
        seed: A different number gives different sounds of the same items.
        batch: Sounds per batch.

    Returns:
        The sounds and their cost.
    """
    device = next(model.network.parameters()).device
    sounds: list[np.ndarray] = []
    start = time.perf_counter()
    with count_evaluations(model) as counter:
        for first in range(0, len(prompts.items), batch):
            items = prompts.items[first : first + batch]
            waveforms = generate_diffusion_cond(
                model,
                conditioning=prompts.conditioning(first, first + batch),
                batch_size=len(items),
                seeds=[(item.seed + seed * _SEED_STRIDE) % 2**63 for item in items],
                device=device,
                **sampling.arguments(),
            )
            sounds += list(np.nan_to_num(waveforms.numpy(), nan=0.0, posinf=0.0, neginf=0.0))
    seconds = time.perf_counter() - start
    return GeneratedSounds(
        sounds=sounds, seconds=seconds / len(sounds), evaluations=counter.total / len(sounds)
    )


class EvaluationCounter(logging.Handler):
    """Counts passes through the network per item; a guided pair counts as two.

    A pass that reuses blocks counts as the one block that it computes; the engine logs these passes at
    the end of a run.
    """

    def __init__(self, depth: int) -> None:
        """Start at 0.

        Args:
            depth: Number of blocks of the network.
        """
        super().__init__(logging.INFO)
        self.depth, self.total, self._in_run = depth, 0.0, 0

    def count_pass(self, network: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        """Count a pass; a forward pre-hook.

        Args:
            network: The network.
            arguments: Its arguments, latents (B, C, L) first.
        """
        self.total += len(arguments[0])
        self._in_run += len(arguments[0])

    def emit(self, record: logging.LogRecord) -> None:
        """Subtract the reused blocks that the engine reports at the end of a run.

        Args:
            record: Message of the engine.
        """
        report = re.match(r"(\d+) of (\d+) passes", record.getMessage())
        if report is not None:
            reused, passes = map(int, report.groups())
            self.total -= self._in_run * reused / passes * (1 - 1 / self.depth)
            self._in_run = 0


@contextmanager
def count_evaluations(model: AudioXModel) -> Iterator[EvaluationCounter]:
    """Count passes through the network within a block.

    Args:
        model: Model whose network to watch.

    Yields:
        The counter.
    """
    counter = EvaluationCounter(model.config.network.depth)
    logger = logging.getLogger("audiox_ext.sampling.windows")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(counter)
    hook = model.network.register_forward_pre_hook(counter.count_pass)
    try:
        yield counter
    finally:
        hook.remove()
        logger.removeHandler(counter)
        logger.setLevel(level)


def build_untrained(model: AudioXModel, folder: Path, seed: int = 0) -> AudioXModel:
    """Build the architecture of a model with random weights, autoencoder and text encoder included.

    Args:
        model: Model with the architecture; its network and the new one share a device.
        folder: Folder for the temporary checkpoint.
        seed: Seed of the weights.

    Returns:
        The untrained model.
    """
    assert model.folder is not None
    encoder: dict[str, Any] = {}
    for conditioner in model.config.conditioners.values():
        if isinstance(conditioner, TextConditionerConfig):
            path = model.folder / conditioner.t5_model_name / "config.json"
            if path.is_file():
                sizes = json.loads(path.read_text(encoding="utf-8"))
                encoder = {
                    name: sizes[name] for name in ("d_ff", "d_kv", "d_model", "num_heads", "num_layers")
                }
    checkpoint = write_random_checkpoint(
        folder / "untrained",
        read_model_config(find_files(model.folder)),
        seed=seed,
        text_encoder=encoder,
        synchformer_depth=1,
    )
    device = next(model.network.parameters()).device
    return get_pretrained_model(checkpoint, accept_cc_by_nc=True, device=device, download=False)[0]


@torch.no_grad()
def _features(model: AudioXModel, item: QualityItem, encode: Any) -> VideoFeatures | None:
    """Features of the video of an item; `encode` is the Synchformer, None if the model has none."""
    if item.scene.film is None:
        return None
    pictures = torch.from_numpy(render_film(item.scene, fps=FILM_FPS)).float().div(255)
    return extract_video_features(
        ImageSequence(pictures, FILM_FPS),
        encode_sync=encode,
        video_fps=model.video_fps,
        seconds=model.conditioning_seconds,
    )
