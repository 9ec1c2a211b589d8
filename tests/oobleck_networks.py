"""Encoders and decoders of the autoencoder: from golden data, or tiny."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from golden_cases import golden_path
from torch import Tensor

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.state_dict import compare_keys, fold_weight_norm, read_tensors, shapes_of
from audiox_ext.config import AutoencoderConfig, OobleckDecoderConfig, OobleckEncoderConfig
from audiox_ext.networks.autoencoder.oobleck import OobleckDecoder, OobleckEncoder
from audiox_ext.networks.keys import published_shapes


def autoencoder_config(path: Path) -> AutoencoderConfig:
    return parse_config(json.loads(path.read_text())).autoencoder


def golden_state(kind: str) -> dict[str, Tensor]:
    """The autoencoder's tensors of a golden checkpoint: encoder.*, decoder.*."""
    if kind == "turbo":
        return read_tensors(golden_path("turbo/pretransform/vae.ckpt"))
    state = read_tensors(golden_path(f"{kind}/model.safetensors"))
    prefix = "pretransform.model."
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def golden_part(kind: str, part: str) -> Any:
    config = autoencoder_config(golden_path(f"{kind}/config.json"))
    with torch.device("meta"):
        module = OobleckEncoder(config.encoder) if part == "encoder" else OobleckDecoder(config.decoder)
    prefix = f"{part}."
    state = {k.removeprefix(prefix): v for k, v in golden_state(kind).items() if k.startswith(prefix)}
    assert compare_keys(shapes_of(state), published_shapes(module)) == ""
    module.load_state_dict(
        {k: v.float() for k, v in fold_weight_norm(state).items()}, strict=True, assign=True
    )
    return module.eval().requires_grad_(False)


def tiny_encoder(strides: tuple[int, ...]) -> OobleckEncoder:
    torch.manual_seed(0)
    encoder = OobleckEncoder(
        OobleckEncoderConfig(
            in_channels=2, channels=3, c_mults=(1,) * len(strides), strides=strides, latent_dim=4
        )
    )
    for parameter in encoder.parameters():
        parameter.data.uniform_(-0.5, 0.5)
    return encoder.double().requires_grad_(False)


def tiny_decoder(strides: tuple[int, ...], final_tanh: bool = False) -> OobleckDecoder:
    torch.manual_seed(0)
    config = OobleckDecoderConfig(
        out_channels=2,
        channels=3,
        c_mults=(1,) * len(strides),
        strides=strides,
        latent_dim=2,
        final_tanh=final_tanh,
    )
    decoder = OobleckDecoder(config)
    for parameter in decoder.parameters():
        parameter.data.uniform_(-0.5, 0.5)
    return decoder.double().requires_grad_(False)
