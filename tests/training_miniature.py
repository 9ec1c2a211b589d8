"""A model small enough to be trained within a test: one kind of sound, three seconds, eight kilohertz."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pocket.settings import TrainingConfig
from pocket.training_file import parse_training_config
from tools.random_checkpoint import build_tiny_config

RATE, SECONDS, RATIO = 8000, 3, 64
WIDTH = 64


def miniature_values() -> dict[str, Any]:
    """The contents of its training file. Each call returns a new copy."""
    config = copy.deepcopy(build_tiny_config("maf"))
    strides = [4, 4, 4]
    config |= {
        "sample_rate": RATE,
        "sample_size": RATE * SECONDS // RATIO * RATIO,
        "conditioning_seconds": SECONDS,
    }
    autoencoder = config["model"]["pretransform"]["config"]
    autoencoder["downsampling_ratio"] = RATIO
    for part in ("encoder", "decoder"):
        autoencoder[part]["config"] |= {"channels": 8, "c_mults": [1, 2, 4], "strides": strides}
    video, _, audio = (entry["config"] for entry in config["model"]["conditioning"]["configs"])
    video["clip_config"] |= {"patch_size": 112, "image_size": 224}
    audio |= {"n_fft": 256, "hop_length": 256, "win_length": 256, "target_sample_rate": RATE}
    config["model"]["diffusion"]["config"] |= {"embed_dim": 64, "num_heads": 1, "global_cond_dim": 0}
    return {
        "name": "miniature",
        "model": config,
        "text_encoder": {"d_ff": 64, "d_kv": 16, "num_heads": 2, "num_layers": 1, "vocabulary": 300},
        "synchformer": {"depth": 1, "patch_size": 56, "mlp_ratio": 1},
        "data": {"kinds": ["tone", "ball"], "film_fraction": 0.5, "sounds": 6, "films": 3},
        "sync": {**_RUN, "steps": 4, "batch_size": 3, "segments": 12, "learning_rate": 2e-3},
        "autoencoder": {**_RUN, "steps": 4, "batch_size": 4, "crop_seconds": 0.25, "learning_rate": 2e-3},
        "diffusion": {**_RUN, "steps": 4, "batch_size": 2, "learning_rate": 2e-3},
    }


def modulated_values() -> dict[str, Any]:
    """The same with a network of kind mmdit, which takes 384 tokens of context."""
    values = miniature_values()
    config = values["model"]
    video, text, audio = (entry["config"] for entry in config["model"]["conditioning"]["configs"])
    video["out_features"] = text["max_length"] = 128
    audio["hop_length"] = 188
    diffusion = config["model"]["diffusion"]
    diffusion["type"] = "mmdit"
    diffusion["config"] |= {"num_heads": 16, "_latent_seq_len": RATE * SECONDS // RATIO + 1}
    return values


def strengths_values() -> dict[str, Any]:
    """The same at 16 kHz, with strengths as latents."""
    values = miniature_values()
    values["data"]["kinds"] = ["tone"]
    config = values["model"]
    latents = 160
    config |= {"sample_rate": 16000, "sample_size": 2048 * 23}
    autoencoder = config["model"]["pretransform"]["config"]
    values["waves"] = waves = copy.deepcopy({"type": "autoencoder", "config": autoencoder})
    for part, count, ratio, mults, strides in (
        (waves["config"], 256, 512, [2, 16, 32], [8, 8, 8]),
        (autoencoder, latents, 2048, [2, 16, 20, 48], [8, 8, 8, 4]),
    ):
        part |= {"latent_dim": count, "downsampling_ratio": ratio}
        sizes = {"channels": 8, "c_mults": mults, "strides": strides}
        part["encoder"]["config"] |= {**sizes, "latent_dim": 2 * count}
        part["decoder"]["config"] |= {**sizes, "latent_dim": count}
    autoencoder["encoder"] = {"type": "strengths", "config": {"in_channels": 2, "sample_rate": 16000}}
    config["model"]["io_channels"] = latents
    config["model"]["diffusion"]["config"]["io_channels"] = latents
    config["model"]["conditioning"]["configs"][2]["config"]["target_sample_rate"] = 16000
    return values


def miniature(values: dict[str, Any] | None = None) -> TrainingConfig:
    """Its typed form."""
    return parse_training_config(values or miniature_values(), Path())


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


_RUN = {
    "warmup_steps": 2,
    "workers": 0,
    "checkpoint_every": 2,
    "validate_every": 1000,
    "validation_items": 4,
    "report_every": 2,
    "ema_decay": 0.9,
}
