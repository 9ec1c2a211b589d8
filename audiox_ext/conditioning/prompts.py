"""Checks a user's prompts and converts them to the form that the conditioners take.

C channels, S samples, T frames, N sync tokens, H height, W width, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..config import ClipConditionerConfig, ModelConfig, TextConditionerConfig
from ..errors import InputError
from ..utf8 import replace_surrogates

# The keys of a video prompt, with the names under which callers may give them.
_VIDEO_KEYS = {
    "video_tensors": ("video_tensors", "video"),
    "video_sync_frames": ("video_sync_frames", "sync_features"),
}


def parse_prompts(name: str, config: ModelConfig, conditioning: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Prepare the prompts of a batch for one conditioner.

    Args:
        name: Id of the conditioner.
        config: Configuration of the model.
        conditioning: Prompts by id, one mapping per batch item; an absent prompt becomes the trained empty
            input.

    Returns:
        One prompt per batch item.

    Raises:
        InputError: A prompt has the wrong type, shape or values.
    """
    kind = config.conditioners[name]
    values = [item.get(name) for item in conditioning]
    if isinstance(kind, TextConditionerConfig):
        return [parse_text_prompt(value) for value in values]
    if isinstance(kind, ClipConditionerConfig):
        return [parse_video_prompt(value) for value in values]
    length = round(config.conditioning_seconds * config.sample_rate)
    return [parse_audio_prompt(value, config.audio_channels, length) for value in values]


def parse_text_prompt(value: Any) -> str:
    """Return a text prompt as valid UTF-8; None becomes "".

    Raises:
        InputError: The value is not a string.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"text_prompt is of type {type(value).__name__}. It must be a string.")
    return replace_surrogates(value)


def parse_video_prompt(value: Any) -> dict[str, Tensor] | None:
    """Return a video prompt under its published keys.

    Args:
        value: Frames, or a mapping of frames and sync features, or None for no video. `VideoFeatures` builds
            such a mapping.

    Returns:
        "video_tensors", (1, T, 3, H, W) in 0..255, and if they are given "video_sync_frames", (1, N, D).

    Raises:
        InputError: The frames are missing, or a value is not a tensor of finite numbers.
    """
    if value is None:
        return None
    if isinstance(value, Tensor):
        value = {"video_tensors": value}
    if not isinstance(value, Mapping):
        raise InputError(
            f"video_prompt is of type {type(value).__name__}. It must be a mapping of video_tensors and "
            "video_sync_frames."
        )
    prompt: dict[str, Tensor] = {}
    for key, names in _VIDEO_KEYS.items():
        tensor = next((value[name] for name in names if value.get(name) is not None), None)
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"{key} of video_prompt is of type {type(tensor).__name__}. It must be a tensor."
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{key} of video_prompt contains NaN or infinity. Extract the features again.")
        prompt[key] = tensor
    if "video_tensors" not in prompt:
        raise InputError("video_prompt has no video_tensors. Give the frames, (1, T, 3, 224, 224) in 0..255.")
    return prompt


def parse_audio_prompt(value: Any, channels: int, length: int) -> Tensor:
    """Return a reference audio of the length that the model takes.

    Longer audio keeps its beginning. Shorter audio is padded on the left, so that it ends where the prompt
    ends. Mono is copied to all channels.

    Args:
        value: A waveform (S,), (C, S) or (1, C, S) at the model's sample rate, or None for silence.
        channels: The model's number of channels.
        length: The model's length in samples.

    Returns:
        (channels, length) float32 on the CPU.

    Raises:
        InputError: The value is not such a waveform.
    """
    if value is None:
        return torch.zeros(channels, length)
    if not isinstance(value, Tensor):
        raise InputError(f"audio_prompt is of type {type(value).__name__}. It must be a waveform tensor.")
    waveform = value.detach().cpu().float()
    waveform = waveform[0] if waveform.dim() == 3 and waveform.shape[0] == 1 else waveform
    waveform = waveform[None] if waveform.dim() == 1 else waveform
    if waveform.dim() != 2 or waveform.shape[0] not in (1, channels) or waveform.shape[1] == 0:
        raise InputError(
            f"audio_prompt has shape {tuple(value.shape)}. It must be (samples), (1 or {channels}, samples) "
            f"or (1, 1 or {channels}, samples), with at least one sample."
        )
    if not bool(torch.isfinite(waveform).all()):
        raise InputError("audio_prompt contains NaN or infinity. Check the node that made it.")
    waveform = waveform.expand(channels, -1)[:, :length]
    return torch.nn.functional.pad(waveform, (length - waveform.shape[1], 0))
