"""Checks of ComfyUI's AUDIO inputs.

B batch, C channels, S samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...audiox_ext.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from .sockets import Audio


def read_audio(audio: Audio, input_name: str) -> tuple[Tensor, Any]:
    """Read an AUDIO input; the engine checks the samples.

    Args:
        audio: the input's value.
        input_name: the input's name for messages; ComfyUI's own message names only the node.

    Returns:
        Waveform (B, C, S) and the rate: a number, not always whole or finite.

    Raises:
        InputError: the value is not an AUDIO, or its batch is empty.
    """
    import torch

    waveform = audio.get("waveform") if isinstance(audio, dict) else None
    rate: Any = audio.get("sample_rate") if isinstance(audio, dict) else None
    if (
        not isinstance(waveform, torch.Tensor)
        or not isinstance(rate, int | float)
        or waveform.ndim not in (2, 3)
    ):
        raise InputError(
            f"{input_name} is not an AUDIO: it needs a waveform (batch, channels, samples) and a "
            "sample_rate. Connect Load Audio or another node with an AUDIO output."
        )
    if waveform.ndim == 2:
        waveform = waveform[None]
    if len(waveform) == 0:
        raise InputError(f"{input_name} holds an empty batch. Connect a node that outputs a sound.")
    return waveform, rate


def read_first_sound(audio: Audio, input_name: str) -> tuple[Tensor, Any]:
    """Read the first sound of an AUDIO input.

    Args:
        audio: the input's value.
        input_name: the input's name for messages.

    Returns:
        Waveform (C, S), float32 on the CPU, and the rate.

    Raises:
        InputError: the value is not an AUDIO, or its batch is empty.
    """
    waveform, rate = read_audio(audio, input_name)
    return waveform[0].float().cpu(), rate
