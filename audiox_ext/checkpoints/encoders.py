"""Finds and loads the encoders that are not part of a checkpoint: T5 for text, Synchformer for video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..conditioning.conditioners import TextConditioner
from ..conditioning.text_encoder import TextEncoder
from ..config import ModelConfig, TextConditionerConfig
from ..errors import CheckpointError, ConfigError, ModelNotFoundError
from ..license import check_license
from ..mmap import convert_tensor
from ..model import AudioXModel
from ..model_info import ModelFacts
from ..networks.keys import published_shapes
from ..networks.layers import Operations
from ..networks.operations import accelerate_module
from ..networks.vision.synchformer import Synchformer, SynchformerConfig
from .catalog import (
    TEXT_ENCODERS,
    ModelFolders,
    download_repository,
    find_synchformer,
    find_text_encoder,
)
from .state_dict import compare_keys, read_tensors, shapes_of
from .untrusted.headers import read_license
from .untrusted.json_files import MAX_TOKENIZER_BYTES, check_length, read_config
from .untrusted.names import check_encoder_name
from .untrusted.sizes import MAX_WIDTH, check_text_encoder_sizes
from .untrusted.tensors import check_weights

SYNCHFORMER_PREFIX = "vfeat_extractor."

T5_BASE: dict[str, Any] = {
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
"""The config.json of t5-base (Raffel et al. 2020), for weights that come as a single file without one."""


def load_text_encoder(weights: Path, tokenizer: Path) -> TextEncoder:
    """Load a T5 encoder.

    Args:
        weights: a folder with config.json and model.safetensors, or a .safetensors file of t5-base.
        tokenizer: a tokenizer.json.

    Raises:
        CheckpointError: a file cannot be read.
        ConfigError: config.json cannot be read, or its sizes are not those of the weights.
        ModelNotFoundError: the weights are missing.
    """
    from tokenizers import Tokenizer

    check_length(tokenizer, MAX_TOKENIZER_BYTES)
    try:
        vocabulary = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # tokenizers raises plain Exception
        raise CheckpointError(f"{tokenizer} cannot be read ({error}). Download it again.") from None
    config, file = (T5_BASE, weights)
    if weights.is_dir():
        file = weights / "model.safetensors"
        config = read_config(weights / "config.json")
    return TextEncoder(_build_t5(config, file), vocabulary, int(config.get("d_model", 512)))


def _build_t5(config: dict[str, Any], file: Path) -> nn.Module:
    """Build a T5 encoder and load its weights in float32."""
    from transformers import T5Config, T5EncoderModel

    if not file.is_file():
        raise ModelNotFoundError(
            f"{file} is missing. Download the text encoder again (config.json and model.safetensors)."
        )
    check_text_encoder_sizes(config, file.parent / "config.json", file)
    try:
        with torch.device("meta"):
            model = T5EncoderModel(T5Config(**{**config, "use_cache": False, "dropout_rate": 0.0}))
    except Exception as error:  # transformers raises various errors for wrong fields
        raise CheckpointError(
            f"{file.parent / 'config.json'} does not describe a T5 encoder ({error}). Download the text "
            "encoder again."
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
    expected = model.state_dict()
    problems = compare_keys(shapes_of(state), shapes_of(expected), optional=tied)
    if problems:
        raise CheckpointError(f"{file} does not fit the config.json of the T5 encoder.{problems}")
    check_weights(file, state)
    # A tensor with two names stays one tensor.
    distinct = {id(tensor): tensor for tensor in state.values()}
    floats = {number: convert_tensor(tensor, torch.float32) for number, tensor in distinct.items()}
    model.load_state_dict({key: floats[id(state[key])] for key in expected}, strict=True, assign=True)
    return accelerate_module(model.eval().requires_grad_(False))


def text_encoder_names(config: ModelConfig) -> list[str]:
    """Return the names of a model's text encoders.

    Raises:
        InputError: a name leads outside the model's folder.
    """
    names = [c.t5_model_name for c in config.conditioners.values() if isinstance(c, TextConditionerConfig)]
    for name in names:
        check_encoder_name(name)
    return names


def attach_text_encoder(
    model: AudioXModel, folder: Path, folders: ModelFolders, *, download: bool, accept_cc_by_nc: bool
) -> None:
    """Find, download if needed, and load the text encoder of a model's text conditioners.

    Args:
        model: the model.
        folder: its folder, searched first.
        folders: folders to search next.
        download: whether a missing encoder may be downloaded.
        accept_cc_by_nc: consent to a non-commercial licence that the encoder's file names.

    Raises:
        LicenseError: the encoder's licence needs consent.
        ModelNotFoundError: the encoder is neither on disk nor downloaded.
        CheckpointError: the encoder cannot be read or has the wrong width.
    """
    for conditioner in model.conditioner.conditioners.values():
        if not isinstance(conditioner, TextConditioner):
            continue
        name, width = conditioner.config.t5_model_name, conditioner.config.dim
        short = name.split("/")[-1]
        files = find_text_encoder(name, folders, folder)
        if files is None and short in TEXT_ENCODERS and download and folders.text_encoders:
            files = _download_text_encoder(name, folders)
        if files is None:
            target = folders.text_encoders[0] if folders.text_encoders else folder
            raise ModelNotFoundError(
                f"The text encoder {name} is missing. Put config.json, model.safetensors and tokenizer.json "
                f"into {target / short} (t5-base: https://huggingface.co/google-t5/t5-base)."
            )
        weights = files[0] / "model.safetensors" if files[0].is_dir() else files[0]
        check_encoder_license(weights, accept_cc_by_nc)
        encoder = load_text_encoder(*files)
        if encoder.width != width:
            raise CheckpointError(
                f"{files[0]} is a text encoder of width {encoder.width}; {folder.name} needs {name}, of "
                f"width {width}. Put the right one beside the model's weights, in a folder called {short}."
            )
        conditioner.text_encoder = encoder


def _download_text_encoder(name: str, folders: ModelFolders) -> tuple[Path, Path] | None:
    """Download a text encoder to the first of the shared folders."""
    short = name.split("/")[-1]
    target = folders.text_encoders[0] / short
    download_repository(TEXT_ENCODERS[short], ("config.json", "model.safetensors", "tokenizer.json"), target)
    return find_text_encoder(name, folders, None)


def find_synchformer_for(facts: ModelFacts, folders: ModelFolders, near: Path | None = None) -> Path | None:
    """Find Synchformer's weights for a model: its own, otherwise others of the same width.

    Args:
        facts: the model. Weights of another width are skipped: the model would refuse their features.
        folders: folders to search.
        near: the model's folder, searched first.

    Returns:
        The file, or None.
    """

    def fits(path: Path) -> bool:
        """Return whether the features have the right width; loading reports a damaged file."""
        try:
            return synchformer_width(path) == facts.sync_width
        except CheckpointError:
            return True

    return find_synchformer(folders, near, fits)


def check_encoder_license(path: Path, accepted: object) -> None:
    """Check that the user may use an encoder. Its file needs consent only if it names a licence that does.

    Raises:
        LicenseError: the encoder needs consent and there is none.
    """
    license_name = read_license(path)
    if license_name is not None:
        check_license(license_name, str(path), accepted)


def convert_synchformer_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a Synchformer file to the names of `Synchformer`.

    Selects the visual branch, `vfeat_extractor.`; other prefixes are other branches. Leaves out
    `patch_embed.*`, which the published code never uses. Splits the aggregation's in_proj, whose rows are
    query, key and value, into the views `q` and `kv`.

    Raises:
        CheckpointError: there is no visual branch.
    """
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix(SYNCHFORMER_PREFIX)
        if name == key or name.startswith("patch_embed."):
            continue
        stem, separator, kind = name.rpartition("spatial_attn_agg.self_attn.in_proj_")
        if separator and not stem:
            dim = tensor.shape[0] // 3
            renamed[f"spatial_attn_agg.self_attn.q.{kind}"] = tensor[:dim]
            renamed[f"spatial_attn_agg.self_attn.kv.{kind}"] = tensor[dim:]
        else:
            renamed[name] = tensor
    if not renamed:
        raise CheckpointError(
            f"No key begins with {SYNCHFORMER_PREFIX}, so these are not the weights of a Synchformer. "
            "Use synchformer_state_dict.pth or .safetensors."
        )
    return renamed


def config_from_state(state: Mapping[str, Tensor], num_heads: int | None = None) -> SynchformerConfig:
    """Derive the sizes of a Synchformer from the shapes of its tensors.

    Args:
        state: tensors from `convert_synchformer_keys`.
        num_heads: number of attention heads, which shapes do not show. By default heads are 64 wide, as
            published.

    Raises:
        CheckpointError: a tensor is missing or has a wrong shape, or num_heads is needed and not given.
    """
    try:
        dim, _, patch_frames, patch_size, _ = state["patch_embed_3d.proj.weight"].shape
        patches = state["pos_embed"].shape[1] - 1
        time_steps = state["temp_embed"].shape[1]
        mlp_dim = state["blocks.0.mlp.fc1.weight"].shape[0]
        depth = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))
    except (KeyError, ValueError, IndexError) as error:
        raise CheckpointError(
            f"These are not the weights of a Synchformer: its sizes cannot be derived from them ({error}). "
            "Use synchformer_state_dict.pth or .safetensors."
        ) from None
    if num_heads is None:
        if dim % 64:
            raise CheckpointError(
                f"This Synchformer is {dim} wide, which is not divisible by 64. Pass its num_heads."
            )
        num_heads = dim // 64
    blocks = {key.split(".")[1] for key in state if key.startswith("blocks.")}
    sizes = (dim, patches, time_steps, patch_frames, patch_size, mlp_dim, num_heads)
    if depth > len(blocks) or not all(1 <= size <= MAX_WIDTH for size in sizes):
        raise CheckpointError(
            f"These are not the weights of a Synchformer: its {len(blocks)} blocks have numbers up to "
            f"{depth - 1}, and its sizes are {sizes}. Use synchformer_state_dict.pth or .safetensors."
        )
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
    """Return the width of the features of a Synchformer file, from its shapes alone.

    Raises:
        CheckpointError: the file cannot be read, or is not a Synchformer.
    """
    return config_from_state(convert_synchformer_keys(read_tensors(path)), num_heads=1).embed_dim


def load_synchformer(
    path: str | Path,
    *,
    num_heads: int | None = None,
    operations: Operations = None,
    dtype: torch.dtype | None = torch.float32,
    device: torch.device | str = "cpu",
    accept_cc_by_nc: bool = False,
) -> Synchformer:
    """Load Synchformer's visual branch, in evaluation mode. No code in the file runs.

    Args:
        path: synchformer_state_dict.safetensors, .pth, .pt or .ckpt.
        num_heads: see `config_from_state`.
        operations: the layer classes, by default torch's.
        dtype: type of the weights, None for the file's own.
        device: device for the weights.
        accept_cc_by_nc: consent to a non-commercial licence that the file's header names.

    Raises:
        LicenseError: the licence needs consent.
        CheckpointError: the file is missing, damaged or unsafe, or its keys or shapes differ from the
            network's.
    """
    check_encoder_license(Path(path), accept_cc_by_nc)
    try:
        state = convert_synchformer_keys(read_tensors(path))
        model = Synchformer(config_from_state(state, num_heads), operations or nn, device="meta")
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    except CheckpointError as error:
        message = str(error)
        raise CheckpointError(message if str(path) in message else f"{path}: {message}") from None
    differences = compare_keys(shapes_of(state), published_shapes(model))
    if differences:
        raise CheckpointError(f"{path} does not fit Synchformer's visual branch.{differences}")
    check_weights(Path(path), state)
    state = {key: convert_tensor(tensor, dtype or tensor.dtype).to(device) for key, tensor in state.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)
