"""What a user says -> what each conditioner takes: lengths, channels and absent prompts made as in training.

C channels, S samples, T frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..config import ClipConditionerConfig, ModelConfig, TextConditionerConfig
from ..errors import InputError

_ALIASES = {
    "video_tensors": ("video_tensors", "video"),
    "video_sync_frames": ("video_sync_frames", "sync_features"),
}


def parse_prompts(name: str, config: ModelConfig, conditioning: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The prompts of a batch for the conditioner `name`. An absent one becomes the trained empty input."""
    kind = config.conditioners[name]
    values = [item.get(name) for item in conditioning]
    if isinstance(kind, TextConditionerConfig):
        return [parse_text_prompt(value) for value in values]
    if isinstance(kind, ClipConditionerConfig):
        return [parse_video_prompt(value) for value in values]
    length = round(config.conditioning_seconds * config.sample_rate)
    return [parse_audio_prompt(value, config.audio_channels, length) for value in values]


def parse_text_prompt(value: Any) -> str:
    """A string; None becomes empty. Raises `InputError` for anything else."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"text_prompt must be text, got {type(value).__name__}.")
    return value


def parse_video_prompt(value: Any) -> dict[str, Tensor] | None:
    """{"video_tensors": (1, T, 3, H, W) in 0..255, "video_sync_frames": (1, N, D)}, or None for no video."""
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = {"video_tensors": value}
    if not isinstance(value, Mapping):
        raise InputError(
            f"video_prompt must hold video_tensors and video_sync_frames, got {type(value).__name__}."
        )
    found: dict[str, Tensor] = {}
    for key, names in _ALIASES.items():
        tensor = next((value[name] for name in names if value.get(name) is not None), None)
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise InputError(f"video_prompt's {key} must be a tensor, got {type(tensor).__name__}.")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"video_prompt's {key} holds values that are not numbers (NaN or infinite).")
        found[key] = tensor
    if "video_tensors" not in found:
        raise InputError("video_prompt has no video_tensors: give the frames, (1, T, 3, 224, 224) in 0..255.")
    return found


def parse_audio_prompt(value: Any, channels: int, length: int) -> Tensor:
    """(channels, length) float32 at the model's rate.

    value: a waveform (S,), (C, S) or (1, C, S), or None for silence. A longer one keeps its beginning; a
    shorter one is padded on the left, so that the sound ends where the prompt ends. Mono is doubled.
    """
    if value is None:
        return torch.zeros(channels, length)
    if not isinstance(value, Tensor):
        raise InputError(f"audio_prompt must be a waveform tensor, got {type(value).__name__}.")
    waveform = value.detach().cpu().float()
    waveform = waveform[0] if waveform.dim() == 3 and waveform.shape[0] == 1 else waveform
    waveform = waveform[None] if waveform.dim() == 1 else waveform
    if waveform.dim() != 2 or waveform.shape[0] not in (1, channels) or waveform.shape[1] == 0:
        raise InputError(
            f"audio_prompt must be (samples), (1 or {channels}, samples) or (1, 1 or {channels}, samples), "
            f"got {tuple(value.shape)}."
        )
    if not bool(torch.isfinite(waveform).all()):
        raise InputError("audio_prompt holds values that are not numbers (NaN or infinite).")
    waveform = waveform.expand(channels, -1)[:, :length]
    return torch.nn.functional.pad(waveform, (length - waveform.shape[1], 0))
