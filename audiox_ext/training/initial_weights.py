"""Where training from nothing starts: what torch's layers draw, and what the engine leaves at zero because a
checkpoint fills it.
"""

from __future__ import annotations

import torch
from torch import nn

from ..conditioning import VideoConditioner
from ..model import AudioXModel
from ..networks.clip_vision import ClipVisionTower
from ..networks.dit import DiffusionTransformer
from ..networks.layers import FourierFeatures
from ..networks.maf import MultimodalAdaptiveFusion
from ..networks.synchformer import Synchformer

_SMALL = 0.02  # deviation of embeddings, as is usual


def initialise(model: AudioXModel) -> None:
    """Fill in the tables of a freshly built model, from torch's global generator.

    The network starts as one that passes its input on: each branch of a block ends in zeros.
    """
    for module in model.modules():
        if isinstance(module, FourierFeatures):
            nn.init.normal_(module.weight)
        elif isinstance(module, VideoConditioner):
            _embed(module.Temp_pos_embedding, module.empty_visual_feat)
            if module.config.with_sync:
                nn.init.ones_(module.sync_weight)
        elif isinstance(module, ClipVisionTower):
            embeddings = module.vision_model.embeddings
            _embed(embeddings.class_embedding, embeddings.position_embedding.weight)
        elif isinstance(module, MultimodalAdaptiveFusion):
            # As far apart as what the layer norm behind them makes of them.
            nn.init.normal_(module.unified_experts)
    _quiet_branches(model)


def initialise_synchformer(synchformer: Synchformer) -> None:
    """The same for a freshly built sync encoder."""
    _embed(
        synchformer.cls_token,
        synchformer.pos_embed,
        synchformer.temp_embed,
        synchformer.spatial_attn_agg.cls_token,
    )


def _quiet_branches(model: AudioXModel) -> None:
    network = model.network
    ends: list[nn.Module] = [network.preprocess_conv, network.postprocess_conv]
    if isinstance(network, DiffusionTransformer):
        for block in network.transformer.blocks():
            ends += [block.self_attn.to_out, block.cross_attn.to_out, block.ff.ff[2]]
    for layer in ends:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def _embed(*tables: nn.Parameter | torch.Tensor) -> None:
    for table in tables:
        nn.init.normal_(table, std=_SMALL)
