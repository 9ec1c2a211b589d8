"""Checks the sizes in a config.json against the weights file, before a model of these sizes is built."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from ...config import (
    AutoencoderConfig,
    ClipConditionerConfig,
    ModelConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
)
from ...errors import ConfigError, is_whole

MAX_WIDTH = 65_536
"""Largest width, number of channels or number of tokens in a config.json."""
MAX_LAYERS = 256
"""Most layers of one kind; published models have up to 48."""
_T5_LIMITS = {"num_layers": MAX_LAYERS, "num_heads": 1024, "vocab_size": 2_000_000}


def count_least_values(config: ModelConfig) -> int:
    """Return how many values the weights of a model have at least."""
    return sum(_list_values(config))


def check_text_encoder_sizes(config: dict[str, Any], path: Path, weights: Path) -> None:
    """Check the sizes in the config.json of a T5 encoder.

    Args:
        config: the contents of the file.
        path: the file.
        weights: the encoder's weights file.

    Raises:
        ConfigError: a size is not a usable number, or the weights file is too small for it.
    """
    sizes: dict[str, int] = {}
    for name in ("d_model", "d_kv", "d_ff", "num_layers", "num_heads", "vocab_size"):
        value, limit = config.get(name, 1), _T5_LIMITS.get(name, MAX_WIDTH)
        if not is_whole(value) or not 1 <= value <= limit:
            raise ConfigError(f"{path}: {name} is {str(value)[:40]}, but must be a number from 1 to {limit}.")
        sizes[name] = value
    layer = 4 * sizes["d_kv"] * sizes["num_heads"] + 2 * sizes["d_ff"]
    values = sizes["d_model"] * (sizes["vocab_size"] + sizes["num_layers"] * layer)
    if values > weights.stat().st_size:
        raise ConfigError(
            f"{path} describes a text encoder of {values} values, but {weights} has only "
            f"{weights.stat().st_size} bytes. Download the text encoder again."
        )


def _list_values(config: ModelConfig) -> Iterator[int]:
    """List how many values the large parts of a model have at least."""
    network = config.network
    yield network.depth * 4 * network.embed_dim**2
    yield network.context_dim * network.cond_token_dim
    if config.fusion is not None:
        fusion = config.fusion
        yield fusion.num_fusion_layers * 4 * fusion.dim**2
        yield 3 * fusion.num_experts_per_modality * fusion.dim
    yield from _list_autoencoder_values(config.autoencoder)
    for conditioner in config.conditioners.values():
        if isinstance(conditioner, ClipConditionerConfig):
            yield from _list_video_values(conditioner)


def _list_video_values(config: ClipConditionerConfig) -> Iterator[int]:
    """List the values of a video conditioner's large parts."""
    clip, temporal = config.clip, config.temporal_dim
    yield clip.num_hidden_layers * clip.hidden_size * (4 * clip.hidden_size + 2 * clip.intermediate_size)
    yield clip.hidden_size * (clip.tokens + 3 * clip.patch_size**2)
    yield (
        config.temporal_depth
        * temporal
        * (4 * config.temporal_heads * config.temporal_dim_head + 8 * temporal)
    )
    yield config.frames * (temporal + clip.tokens * config.out_features)


def _list_autoencoder_values(config: AutoencoderConfig) -> Iterator[int]:
    """List the values of an autoencoder's large convolutions."""
    halves: tuple[OobleckEncoderConfig | OobleckDecoderConfig, ...] = (config.decoder,)
    if isinstance(config.encoder, OobleckEncoderConfig):
        halves += (config.encoder,)
    for half in halves:
        widths = [half.channels * factor for factor in (1, *half.c_mults)]
        for (inner, outer), stride in zip(pairwise(widths), half.strides, strict=False):
            yield 2 * stride * inner * outer
        yield widths[-1] * half.latent_dim
