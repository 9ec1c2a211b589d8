"""Training of the sync encoder: to say when something happens in a film (see `sync_code`).

B segments, G time steps of a segment.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from audiox_ext.config import ClipConditionerConfig
from audiox_ext.errors import ConfigError
from audiox_ext.networks.operations import PlainOperations
from audiox_ext.networks.vision.synchformer import Synchformer, SynchformerConfig
from audiox_ext.training.module import TrainingModule
from audiox_ext.training.trainer import Batch

from ..settings import SyncSettings, TrainingConfig
from ..training.initial_weights import initialise_synchformer
from .code import CODE, ONSETS
from .segments import PatchBatch


class SyncTraining(TrainingModule):
    """The sync encoder, from torch's global generator. Its first layer stays as it is: what it sees is
    prepared once, for it takes longer to paint and to look at than to be learned from.
    """

    settings: SyncSettings

    def __init__(self, config: TrainingConfig) -> None:
        assert config.sync is not None
        super().__init__(config.sync)
        self.synchformer = build_synchformer(config)
        self.synchformer.patch_embed_3d.requires_grad_(False)
        self.start_averaging()

    def compute_losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """The mean squared error, of all and of the onsets alone."""
        assert isinstance(batch, PatchBatch)
        codes = self.synchformer.features_of_patches(batch.patches).float()
        codes = rearrange(codes, "b g (copies code) -> b g copies code", code=CODE)
        errors = (codes - batch.codes[:, :, None]).square()
        onsets = errors[..., :ONSETS].mean()
        return {"loss": errors.mean() + self.settings.onset_weight * onsets, "onsets": onsets}


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
