"""Full-size models with random weights, in memory or on disk, and random prompts for them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audiox_ext.checkpoints.config_parser import parse_config
from audiox_ext.checkpoints.encoders import T5_BASE
from audiox_ext.conditioning.conditioners import TextConditioner
from audiox_ext.conditioning.text_encoder import TextEncoder
from audiox_ext.model import AudioXModel
from audiox_ext.networks.operations import PlainOperations, accelerate_module
from tools.random_checkpoint import build_byte_tokenizer, write_random_checkpoint

CONFIGS = Path(__file__).parent.parent / "tests" / "configs"
NAMES = tuple(sorted(path.stem for path in CONFIGS.glob("*.json")))
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def read_config(name: str) -> dict[str, Any]:
    """Read the published configuration of a model.

    Args:
        name: One of `NAMES`.

    Returns:
        The contents of its config.json.
    """
    return json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))


def random_model(name: str, precision: str = "fp32", device: str = "cpu") -> AudioXModel:
    """Build a model with random weights and a T5-base text encoder. Every call gives the same weights.

    Args:
        name: One of `NAMES`.
        precision: Precision of the network, one of `DTYPES`.
        device: Device of the whole model.

    Returns:
        The model, ready for inference.
    """
    from transformers import T5Config, T5EncoderModel

    with torch.device("meta"):
        model = AudioXModel(parse_config(read_config(name)), PlainOperations, DTYPES[precision])
        encoder = T5EncoderModel(T5Config(**T5_BASE))
    for conditioner in model.conditioner.conditioners.values():
        if isinstance(conditioner, TextConditioner):
            conditioner.text_encoder = TextEncoder(
                accelerate_module(encoder), build_byte_tokenizer(), T5_BASE["d_model"]
            )
    _fill(model)
    return model.eval().requires_grad_(False).to(device)


def random_folder(folder: Path, name: str) -> Path:
    """Write a model with random float32 weights in the published layout, with a T5-base text encoder.

    Args:
        folder: Folder to write.
        name: One of `NAMES`. AudioX-Turbo is written as a few-step student, others as a .ckpt.

    Returns:
        The folder.
    """
    form: Literal["student", "ckpt"] = "student" if name == "AudioX-Turbo" else "ckpt"
    return write_random_checkpoint(folder, read_config(name), form=form)


def _fill(model: nn.Module) -> None:
    """Set weights that preserve the scale of activations.

    All come from one block of random numbers, because drawing a billion would take longer than the benchmark.
    """
    numbers = torch.randn(2**22, generator=torch.Generator().manual_seed(0))
    for module in model.modules():
        for key, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[key] = nn.Parameter(_values(key, parameter, numbers))
        for key, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[key] = torch.zeros(buffer.shape, dtype=buffer.dtype)


def _values(key: str, like: Tensor, numbers: Tensor) -> Tensor:
    """Weights like a parameter: gains 1, biases 0, matrices scaled by the size of their input."""
    if key == "gamma" or (like.dim() == 1 and key == "weight"):
        return torch.ones(like.shape, dtype=like.dtype)
    if like.dim() < 2:
        return torch.zeros(like.shape, dtype=like.dtype)
    values = torch.empty(like.shape, dtype=like.dtype)
    scaled = (numbers / math.sqrt(math.prod(like.shape[1:]))).to(like.dtype)
    for block in values.view(-1).split(len(scaled)):
        block.copy_(scaled[: len(block)])
    return values


def random_prompt(model: AudioXModel, kind: str) -> dict[str, Any]:
    """Make the conditioning of one sound. Every call gives the same.

    Args:
        model: Model whose rates and duration apply.
        kind: "text", or "all" for text, video and audio prompt.

    Returns:
        A conditioning item, as `generate_diffusion_cond` accepts it.
    """
    generator = torch.Generator().manual_seed(1)
    prompt: dict[str, Any] = {"text_prompt": "Heavy rain on a tin roof, thunder far away."}
    if kind == "all":
        frames = round(model.conditioning_seconds * model.video_fps)
        prompt["video_prompt"] = {
            "video_tensors": torch.randint(0, 256, (1, frames, 3, 224, 224), generator=generator).float(),
            "video_sync_frames": torch.randn(1, 240, 768, generator=generator),
        }
        samples = round(model.conditioning_seconds * model.sample_rate)
        prompt["audio_prompt"] = torch.randn(2, samples, generator=generator).mul(0.1)
    return prompt
