"""Distillation: a trained teacher predicts part of the target of another model's training.

A prediction is less noisy than one of the many sounds that fit a prompt. Teacher and student share
their latents; network and conditioners may differ. Source: Hinton et al. 2015, arXiv 1503.02531.

B batch, C channels, L latents.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.devices import DevicePlacement
from audiox_ext.errors import InputError
from audiox_ext.model import AudioXModel
from audiox_ext.random_numbers import RandomNumbers

from ..settings import TrainingConfig
from ..training.prepared_batches import PreparedBatch
from ..training.row_files import fingerprint_of
from .prompt_dropout import VisiblePrompts


class Teacher:
    """Mixes a teacher's prediction into the targets of items with a text prompt, or with none.

    Items with a video or an audio prompt keep the target of the data, because each model encodes these
    prompts differently.
    """

    def __init__(self, model: AudioXModel, fraction: float, device: str | torch.device) -> None:
        """Move the teacher to a device and freeze it.

        Args:
            model: The trained model.
            fraction: Weight of its prediction in the target, 0 to 1; the rest is the weight of the data.
            device: Device of the training.
        """
        self._model, self._fraction = model.to(device).eval().requires_grad_(False), fraction
        self._placement = DevicePlacement(device)

    @property
    def license(self) -> str | None:
        """Licence of the teacher's weights, which its student inherits."""
        return self._model.config.license

    @property
    def fingerprint(self) -> str:
        """A hash of the teacher's weights."""
        return fingerprint_of("", self._model)

    @torch.no_grad()
    def target(
        self,
        target: Tensor,
        noised: Tensor,
        times: Tensor,
        batch: PreparedBatch,
        visible: VisiblePrompts,
        random: RandomNumbers,
    ) -> Tensor:
        """Mix the prediction into the target.

        Args:
            target: Velocity of the data (B, C, L).
            noised: Latents with noise, the input of the network (B, C, L).
            times: Times of the noise (B,).
            batch: The items.
            visible: Prompts that the student sees.
            random: Random numbers of the encoders.

        Returns:
            The target of the student (B, C, L).
        """
        has_sound = torch.zeros(len(target), dtype=torch.bool) if batch.mels is None else visible.audio
        rows = (~batch.has_film & ~has_sound).nonzero().flatten()
        if not len(rows):
            return target
        model, here = self._model, rows.to(target.device)
        prompts = [{"text_prompt": batch.captions[row] if visible.text[row] else ""} for row in rows.tolist()]
        context = model.assemble_context(
            model.encode_conditioning(prompts, self._placement, random), self._placement
        )
        context = context * visible.context[rows].to(context)[:, None, None]
        network = model.network
        prediction = network(noised[here], times[here], network.prepare_context(context)).to(target)
        return target.index_copy(0, here, torch.lerp(target[here], prediction, self._fraction))


def read_teacher(folder: Path, config: TrainingConfig, device: str | torch.device) -> Teacher:
    """Load a teacher.

    Args:
        folder: Folder of the trained model.
        config: Configuration of the training.
        device: Device of the training.

    Returns:
        The teacher.

    Raises:
        InputError: If its latents differ from those of the student.
    """
    model, _ = get_pretrained_model(folder, download=False, precision="fp32")
    own, its = config.model, model.config
    if any(getattr(own, part) != getattr(its, part) for part in ("autoencoder", "latent_count", "objective")):
        raise InputError(
            f"{folder} cannot be the teacher, because its latents differ from those of the model to train. "
            "Both need the same autoencoder, sample_size and objective in their config.json."
        )
    return Teacher(model, config.diffusion.teacher_fraction, device)
