"""ComfyUI's AUDIO, checked on arrival."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...audiox_ext.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor


def sounds_of(audio: object, name: str) -> tuple[Tensor, Any]:
    """(waveform (B, C, S), rate) of the AUDIO that input `name` holds; the engine judges its contents.

    The rate is a number, not always a whole or a finite one. Raises `InputError` that names the input:
    ComfyUI's own message says only which node has failed.
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
            f"{name} is not an AUDIO: a waveform (batch, channels, samples) and a sample_rate are needed. "
            "Connect Load Audio or another node that gives AUDIO."
        )
    if waveform.ndim == 2:
        waveform = waveform[None]
    if len(waveform) == 0:
        raise InputError(f"{name} holds no sound: its batch is empty. Connect a node that gives one.")
    return waveform, rate


def first_sound(audio: object, name: str) -> tuple[Tensor, Any]:
    """(waveform (C, S), rate) of the first item of the AUDIO that input `name` holds."""
    waveform, rate = sounds_of(audio, name)
    return waveform[0].float().cpu(), rate
