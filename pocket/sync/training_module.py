"""Training of the sync encoder, to predict when something happens in a film (see `sync_code`).

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
    """Trains a sync encoder from scratch, except for its first layer.

    The output of that layer is prepared once, because drawing and encoding films takes longer than training.
    """

    settings: SyncSettings

    def __init__(self, config: TrainingConfig) -> None:
        """Build the sync encoder, with random weights from torch's global generator.

        Args:
            config: Configuration of the training.
        """
        assert config.sync is not None
        super().__init__(config.sync)
        self.synchformer = build_synchformer(config)
        self.synchformer.patch_embed_3d.requires_grad_(False)
        self.start_averaging()

    def compute_losses(self, batch: Batch, random: torch.Generator, *, training: bool) -> dict[str, Tensor]:
        """Compute the mean squared error of the codes.

        Args:
            batch: A `PatchBatch`.
            random: Unused.
            training: Unused.

        Returns:
            The `loss`, and the error of the `onsets` alone.
        """
        assert isinstance(batch, PatchBatch)
        codes = self.synchformer.features_of_patches(batch.patches).float()
        codes = rearrange(codes, "b g (copies code) -> b g copies code", code=CODE)
        errors = (codes - batch.codes[:, :, None]).square()
        onsets = errors[..., :ONSETS].mean()
        return {"loss": errors.mean() + self.settings.onset_weight * onsets, "onsets": onsets}


def synchformer_config(config: TrainingConfig) -> SynchformerConfig | None:
    """Return the sizes of the sync encoder, or None for a model without one.

    Args:
        config: Configuration of the training.
    """
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
    """Build a sync encoder with random weights from torch's global generator.

    Args:
        config: Configuration of the training.

    Returns:
        The sync encoder.

    Raises:
        ConfigError: If the model has no sync encoder.
    """
    sizes = synchformer_config(config)
    if sizes is None:
        raise ConfigError("This model does not use a sync encoder, so there is none to train.")
    synchformer = Synchformer(sizes, PlainOperations)
    initialise_synchformer(synchformer)
    return synchformer
