"""Loads the two encoders that no model's checkpoint holds: T5 for text, Synchformer for video."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conditioning.text_encoder import TextEncoder
from ..errors import CheckpointError, ConfigError, ModelNotFoundError
from ..mmap import converted
from ..networks.keys import published_shapes
from ..networks.layers import Operations
from ..networks.operations import make_quick
from ..networks.vision.synchformer import Synchformer, SynchformerConfig
from .state_dict import compare_keys, read_tensors, shapes_of

SYNCHFORMER_PREFIX = "vfeat_extractor."

# Sizes of t5-base, for weights that come as a single file without a configuration (Raffel et al. 2020).
_T5_BASE: dict[str, Any] = {
    "d_ff": 3072,
    "d_kv": 64,
    "d_model": 768,
    "num_heads": 12,
    "num_layers": 12,
    "vocab_size": 32128,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "feed_forward_proj": "relu",
}


def load_text_encoder(weights: Path, tokenizer: Path) -> TextEncoder:
    """Read a T5 encoder.

    weights: a folder with config.json and model.safetensors, or a single .safetensors of t5-base.
    tokenizer: a tokenizer.json. Raises `CheckpointError` for files that cannot be read.
    """
    from tokenizers import Tokenizer

    try:
        words = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # tokenizers raises plain Exception
        raise CheckpointError(f"{tokenizer} cannot be read ({error}). Fetch it again.") from None
    config, file = (_T5_BASE, weights)
    if weights.is_dir():
        file = weights / "model.safetensors"
        config = _read_json(weights / "config.json")
    return TextEncoder(_build_t5(config, file), words, int(config.get("d_model", 512)))


def _build_t5(config: dict[str, Any], file: Path) -> nn.Module:
    from transformers import T5Config, T5EncoderModel

    if not file.is_file():
        raise ModelNotFoundError(
            f"{file} is missing. Fetch the text encoder again (config.json, model.safetensors)."
        )
    try:
        with torch.device("meta"):
            model = T5EncoderModel(T5Config(**{**config, "use_cache": False, "dropout_rate": 0.0}))
    except Exception as error:  # transformers has errors of its own for every kind of wrong field
        raise CheckpointError(
            f"{file.parent / 'config.json'} describes no T5 encoder ({error}). Fetch the text encoder again."
        ) from None
    state = {
        key: value
        for key, value in read_tensors(file).items()
        if not key.startswith(("decoder.", "lm_head."))
    }
    tied = {"shared.weight", "encoder.embed_tokens.weight"}
    shared = next((state[key] for key in tied if key in state), None)
    if shared is not None:
        state.update(dict.fromkeys(tied, shared))
    want = model.state_dict()
    problems = compare_keys(shapes_of(state), shapes_of(want), optional=tied)
    if problems:
        raise CheckpointError(f"{file} is not the T5 encoder that its configuration describes.{problems}")
    # A tensor that goes by two names stays one.
    distinct = {id(tensor): tensor for tensor in state.values()}
    floats = {number: converted(tensor, torch.float32) for number, tensor in distinct.items()}
    model.load_state_dict({key: floats[id(state[key])] for key in want}, strict=True, assign=True)
    return make_quick(model.eval().requires_grad_(False))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict):
            raise ValueError(f"it holds {type(data).__name__}")
        return data
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}). Fetch the text encoder again.") from None


def convert_synchformer_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A file's tensors under this module's names.

    Takes what lies under `vfeat_extractor.`, without that prefix; other prefixes are other branches. Leaves
    out `patch_embed.*`, which the published code has and does not use. Splits the aggregation's in_proj,
    whose rows are query, key, value, into `q` and `kv` (views, no copies). Raises `CheckpointError` when the
    branch is not there.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix(SYNCHFORMER_PREFIX)
        if name == key or name.startswith("patch_embed."):
            continue
        stem, found, kind = name.rpartition("spatial_attn_agg.self_attn.in_proj_")
        if found and not stem:
            dim = tensor.shape[0] // 3
            renamed[f"spatial_attn_agg.self_attn.q.{kind}"] = tensor[:dim]
            renamed[f"spatial_attn_agg.self_attn.kv.{kind}"] = tensor[dim:]
        else:
            renamed[name] = tensor
    if not renamed:
        raise CheckpointError(
            f"No key begins with {SYNCHFORMER_PREFIX}: these are not the weights of a Synchformer. "
            "Use synchformer_state_dict.pth or .safetensors."
        )
    return renamed


def config_from_state(state: Mapping[str, Tensor], num_heads: int | None = None) -> SynchformerConfig:
    """The sizes, from the shapes of converted tensors (`convert_synchformer_keys`).

    num_heads: shapes do not tell; by default heads are 64 wide, as published. Raises `CheckpointError` when a
    tensor that tells a size is missing or makes no sense, or num_heads is needed and not given.
    """
    try:
        dim, _, patch_frames, patch_size, _ = state["patch_embed_3d.proj.weight"].shape
        patches = state["pos_embed"].shape[1] - 1
        time_steps = state["temp_embed"].shape[1]
        mlp_dim = state["blocks.0.mlp.fc1.weight"].shape[0]
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"These are not the weights of a Synchformer: its sizes cannot be read from them ({error})."
        ) from None
    if num_heads is None:
        if dim % 64:
            raise CheckpointError(f"This Synchformer is {dim} wide, not heads of 64: give its num_heads.")
        num_heads = dim // 64
    segment_frames = time_steps * patch_frames
    return SynchformerConfig(
        embed_dim=dim,
        depth=depth,
        num_heads=num_heads,
        mlp_ratio=mlp_dim / dim,
        image_size=round(patches**0.5) * patch_size,
        patch_size=patch_size,
        patch_frames=patch_frames,
        segment_frames=segment_frames,
        segment_stride=segment_frames // 2,
    )


def synchformer_width(path: str | Path) -> int:
    """How wide the features of these weights are. Reads no values. Raises `CheckpointError`."""
    return config_from_state(convert_synchformer_keys(read_tensors(path)), num_heads=1).embed_dim


def load_synchformer(
    path: str | Path,
    *,
    num_heads: int | None = None,
    operations: Operations = None,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
) -> Synchformer:
    """The visual branch from synchformer_state_dict.safetensors, .pth, .pt or .ckpt, in evaluation mode.

    num_heads: see `config_from_state`. operations: where layers come from, None for torch.nn. dtype: of the
    weights, None for the file's own. No code in the file runs. Raises `CheckpointError`, with the path, for a
    file that is missing, damaged, unsafe, or does not hold exactly the keys and shapes of this network.
    """
    try:
        state = convert_synchformer_keys(read_tensors(path))
        model = Synchformer(config_from_state(state, num_heads), operations or nn, device="meta")
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if str(path) in message else f"{path}: {message}") from None
    difference = compare_keys(shapes_of(state), published_shapes(model))
    if difference:
        raise CheckpointError(f"{path} does not fit Synchformer's visual branch.{difference}")
    state = {key: converted(tensor, dtype or tensor.dtype).to(device) for key, tensor in state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)
