"""Checkpoints with random weights in the published file layouts, for tests and benchmarks.

Such a model generates noise, but runs the same code as a model with real weights.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.encoders import T5_BASE
from audiox_ext.config import ClipConditionerConfig, TextConditionerConfig
from audiox_ext.model import AudioXModel
from audiox_ext.networks.keys import published_shapes
from audiox_ext.networks.vision.synchformer import Synchformer, SynchformerConfig

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Kind = Literal["base", "maf", "mmdit", "turbo"]
Form = Literal["safetensors", "ckpt", "student"]

# Sizes of the tiny models: hertz, samples per latent, latents, and width of all embeddings.
_RATE, _RATIO, _LATENTS, _WIDTH = 16000, 512, 320, 64


def write_random_checkpoint(
    folder: Path,
    config: Mapping[str, Any],
    *,
    seed: int = 0,
    form: Form = "safetensors",
    dtype: torch.dtype = torch.float32,
    text_encoder: Mapping[str, Any] | None = None,
    synchformer_depth: int = 12,
) -> Path:
    """Write config.json, the weights, a T5 encoder with a tokenizer, and Synchformer if the model uses it.

    Args:
        folder: folder to write to; created if necessary.
        config: the contents of config.json.
        seed: seed of the random weights.
        form: model.safetensors, model.ckpt, or the few-step student's audiox_turbo/ and pretransform/.
        dtype: type of the weights.
        text_encoder: T5Config fields that differ from t5-base.
        synchformer_depth: number of Synchformer's blocks.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    typed = parse_config(config)
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    with torch.device("meta"):
        shapes = AudioXModel(typed).published_shapes()
    generator = torch.Generator().manual_seed(seed)
    state = {key: _random(key, shape, generator).to(dtype) for key, shape in sorted(shapes.items())}
    _write_weights(folder, state, form)
    for conditioner in typed.conditioners.values():
        if isinstance(conditioner, TextConditionerConfig):
            _write_text_encoder(
                folder / conditioner.t5_model_name, text_encoder or {}, conditioner.dim, generator
            )
        if isinstance(conditioner, ClipConditionerConfig) and conditioner.with_sync:
            _write_synchformer(folder, conditioner.sync_dim, synchformer_depth, dtype, generator)
    return folder


def write_tiny_checkpoint(folder: Path, kind: Kind = "maf", seed: int = 0) -> Path:
    """Write a model of a few MB with every component of its kind: 16 kHz, stereo, 10.24 s, licence MIT.

    Args:
        folder: folder to write to; created if necessary.
        kind: kind of the published architecture.
        seed: seed of the random weights.

    Returns:
        The folder.
    """
    encoder = {"d_ff": 64, "d_kv": 16, "d_model": 64, "num_heads": 4, "num_layers": 2}
    return write_random_checkpoint(
        folder,
        build_tiny_config(kind),
        seed=seed,
        form="student" if kind == "turbo" else "safetensors",
        text_encoder=encoder,
        synchformer_depth=1,
    )


def build_tiny_config(kind: Kind) -> dict[str, Any]:
    """Build the config.json of `write_tiny_checkpoint`.

    Args:
        kind: kind of the published architecture.
    """
    config = {
        "model_type": "diffusion_cond",
        "license": "MIT",
        "sample_size": _LATENTS * _RATIO,
        "sample_rate": _RATE,
        "video_fps": 5,
        "audio_channels": 2,
        "model": {
            "pretransform": _tiny_autoencoder(),
            "conditioning": {
                "configs": [_tiny_video_prompt(kind), _tiny_text_prompt(kind), _tiny_audio_prompt(kind)],
                "cond_dim": _WIDTH,
            },
            "diffusion": _tiny_diffusion(kind),
            "io_channels": 8,
        },
    }
    return config | ({"training": {"dmd_sample_steps": 4}} if kind == "turbo" else {})


def _is_mmdit(kind: Kind) -> bool:
    """Return whether the kind's network is a multimodal diffusion transformer."""
    return kind in ("mmdit", "turbo")


def _tiny_video_prompt(kind: Kind) -> dict[str, Any]:
    """Configure the video conditioner."""
    sizes = {
        "out_features": 128 if _is_mmdit(kind) else 16,
        "clip_config": {
            "hidden_size": _WIDTH,
            "intermediate_size": 2 * _WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "projection_dim": 32,
        },
        "temporal_dim": _WIDTH,
        "temporal_depth": 1,
        "temporal_heads": 4,
        "temporal_dim_head": 16,
        "sync_dim": _WIDTH,
    }
    conditioner = "clip" if kind == "base" else "clip-with-sync-w-empty-feat"
    return {"id": "video_prompt", "type": conditioner, "config": sizes}


def _tiny_text_prompt(kind: Kind) -> dict[str, Any]:
    """Configure the text conditioner."""
    length = 128 if _is_mmdit(kind) else 64
    sizes = {"t5_model_name": "text_encoder", "max_length": length, "dim": _WIDTH}
    return {"id": "text_prompt", "type": "t5", "config": sizes}


def _tiny_audio_prompt(kind: Kind) -> dict[str, Any]:
    """Configure the audio conditioner."""
    prompt_latents = 10 * _RATE // _RATIO
    sizes: dict[str, Any] = {"sample_rate": _RATE, "pretransform_config": _tiny_autoencoder()}
    conditioner = "audio_autoencoder"
    if kind == "maf":
        conditioner = "mel_spec"
        sizes = {
            "n_fft": 512,
            "hop_length": 512,
            "win_length": 512,
            "n_mel_channels": 32,
            "target_sample_rate": 24000,
            "feature_dim": _WIDTH,
        }
    elif _is_mmdit(kind):
        sizes["latent_seq_len"] = prompt_latents
        conditioner = "audio_autoencoder" if kind == "turbo" else "audio_autoencoder_v2"
    else:
        sizes["empty_seq_len"] = prompt_latents
    if kind == "turbo":
        sizes |= {"mask_ratio_start": 0.25, "mask_ratio_end": 0.75}
    return {"id": "audio_prompt", "type": conditioner, "config": sizes}


def _tiny_diffusion(kind: Kind) -> dict[str, Any]:
    """Configure the denoising network."""
    sizes = {
        "io_channels": 8,
        "embed_dim": 128,
        "depth": 2,
        "num_heads": 64 if _is_mmdit(kind) else 2,
        "cond_token_dim": _WIDTH,
        "global_cond_dim": _WIDTH,
        "project_cond_tokens": False,
    }
    diffusion: dict[str, Any] = {
        "cross_attention_cond_ids": ["video_prompt", "text_prompt", "audio_prompt"],
        "global_cond_ids": [],
        "type": "mmdit" if _is_mmdit(kind) else "dit",
        "diffusion_objective": "rectified_flow" if kind == "turbo" else "v",
        "config": sizes,
    }
    if _is_mmdit(kind):
        sizes["_latent_seq_len"] = _LATENTS + 1
    if kind != "base":
        gate = {"num_experts_per_modality": 4, "num_heads": 4, "num_fusion_layers": 1, "dim": _WIDTH}
        diffusion |= {"gate": True, "gate_type": "MAF", "gate_type_config": gate}
    return diffusion


def _tiny_autoencoder() -> dict[str, Any]:
    """Configure the autoencoder."""
    strides = [2, 4, 8, 8]
    sizes: dict[str, Any] = {"channels": 8, "c_mults": [1, 2, 2, 2], "strides": strides}
    assert math.prod(strides) == _RATIO
    return {
        "type": "autoencoder",
        "iterate_batch": True,
        "config": {
            "encoder": {"type": "oobleck", "config": {"in_channels": 2, "latent_dim": 16, **sizes}},
            "decoder": {
                "type": "oobleck",
                "config": {"out_channels": 2, "latent_dim": 8, "final_tanh": False, **sizes},
            },
            "bottleneck": {"type": "vae"},
            "latent_dim": 8,
            "downsampling_ratio": _RATIO,
            "io_channels": 2,
        },
    }


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw weights that roughly preserve the scale of activations."""
    name = key.rsplit(".", 1)[-1]
    if name == "inv_freq":
        return 10000.0 ** (-torch.arange(shape[0], dtype=torch.float32) / shape[0])
    if name == "gamma" or (len(shape) == 1 and name == "weight"):
        return torch.ones(shape)
    if len(shape) == 1 and name in ("beta", "alpha"):
        return torch.zeros(shape)
    if name == "weight_g":
        return torch.full(shape, 0.5)
    values = torch.randn(shape, generator=generator)
    if key.endswith("timestep_features.weight") or name == "weight_v":
        return values
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 100
    return values / math.sqrt(max(fan_in, 1))


def _write_weights(folder: Path, state: dict[str, Tensor], form: Form) -> None:
    """Write the weights in one of the published file layouts."""
    from safetensors.torch import save_file

    if form == "safetensors":
        save_file(state, folder / "model.safetensors")
        return
    if form == "ckpt":
        torch.save({"state_dict": state}, folder / "model.ckpt")
        return
    (folder / "audiox_turbo").mkdir(exist_ok=True)
    (folder / "pretransform").mkdir(exist_ok=True)
    inner = "pretransform.model."
    vae = {key.removeprefix(inner): value for key, value in state.items() if key.startswith(inner)}
    rest = {f"student.{key}": value for key, value in state.items() if inner not in key}
    torch.save({"student_state_dict": rest}, folder / "audiox_turbo" / "audiox_turbo.ckpt")
    torch.save(vae, folder / "pretransform" / "vae.ckpt")


def build_byte_tokenizer() -> Tokenizer:
    """Build a tokenizer with one token per byte, so that every prompt differs without a real vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", "<unk>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return tokenizer


def _write_text_encoder(
    folder: Path, fields: Mapping[str, Any], dim: int, generator: torch.Generator
) -> None:
    """Write a T5 encoder and its tokenizer."""
    from safetensors.torch import save_file
    from transformers import T5Config, T5EncoderModel

    tokenizer = build_byte_tokenizer()
    small = {"vocab_size": tokenizer.get_vocab_size()} if fields else {}
    config = T5Config(**{**T5_BASE, "d_model": dim, **small, **fields})
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in T5EncoderModel(config).state_dict().items()}
    shapes.pop("encoder.embed_tokens.weight", None)  # the same tensor as shared.weight
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {key: _random(key, s, generator) for key, s in sorted(shapes.items())}, folder / "model.safetensors"
    )
    config.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


def _write_synchformer(
    folder: Path, width: int, depth: int, dtype: torch.dtype, generator: torch.Generator
) -> None:
    """Write Synchformer's weights."""
    from safetensors.torch import save_file

    config = SynchformerConfig(embed_dim=width, depth=depth, num_heads=width // 64)
    shapes = published_shapes(Synchformer(config, device="meta"))
    state = {
        f"vfeat_extractor.{key}": _random(key, s, generator).to(dtype) for key, s in sorted(shapes.items())
    }
    save_file(state, folder / "synchformer_state_dict.safetensors")
