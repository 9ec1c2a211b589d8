"""A finished model that the training of another one follows: a target of its own for every sound, without the
noise that a single sound is of all that a prompt may mean (Hinton et al. 2015, arXiv 1503.02531). Its latents
are the same; network and conditioners may be others.
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
from .prompt_dropout import VisiblePrompts


class Teacher:
    """Says what is to be predicted of sounds whose prompt is words, or nothing. Not of videos and of audio
    prompts, which each model hears in its own way: there the data alone decide.
    """

    def __init__(self, model: AudioXModel, share: float, device: str | torch.device) -> None:
        """share: of what the teacher says in the target, 0 to 1; the rest is the data's."""
        self._model, self._share = model.to(device).eval().requires_grad_(False), share
        self._placement = DevicePlacement(device)

    @torch.no_grad()
    def target(
        self,
        wanted: Tensor,
        noised: Tensor,
        times: Tensor,
        batch: PreparedBatch,
        shown: VisiblePrompts,
        random: RandomNumbers,
    ) -> Tensor:
        """wanted: what the data say, noised: what the network is given, both (B, C, L); times: (B,) -> what
        is to be predicted, (B, C, L).
        """
        has_sound = torch.zeros(len(wanted), dtype=torch.bool) if batch.mels is None else shown.audio
        rows = (~batch.has_film & ~has_sound).nonzero().flatten()
        if not len(rows):
            return wanted
        model, here = self._model, rows.to(wanted.device)
        prompts = [{"text_prompt": batch.captions[row] if shown.text[row] else ""} for row in rows.tolist()]
        context = model.assemble_context(
            model.encode_conditioning(prompts, self._placement, random), self._placement
        )
        context = context * shown.context[rows].to(context)[:, None, None]
        network = model.network
        said = network(noised[here], times[here], network.prepare_context(context)).to(wanted)
        return wanted.index_copy(0, here, torch.lerp(wanted[here], said, self._share))


def read_teacher(folder: Path, config: TrainingConfig, device: str | torch.device) -> Teacher:
    """The model in a folder. Raises `InputError` where its latents are not those that are trained, and what
    `get_pretrained_model` raises.
    """
    model, _ = get_pretrained_model(folder, download=False, precision="fp32")
    own, its = config.model, model.config
    if any(getattr(own, part) != getattr(its, part) for part in ("autoencoder", "latent_count", "objective")):
        raise InputError(
            f"{folder} cannot be the teacher: its latents are not those of the model that is to be trained. "
            "Both need the same autoencoder, sample_size and objective in their config.json."
        )
    return Teacher(model, config.diffusion.teacher_fraction, device)
