"""Reads ComfyUI's AUDIO inputs in every form in which nodes output them.

Other packs output mappings that load their file on first use, numpy arrays, integers, and sounds without a
batch. All nodes of this pack read their AUDIO inputs here.

B batch, C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ...audiox_ext.errors import AudioXError, InputError, is_out_of_memory
from .plain_numbers import read_number

if TYPE_CHECKING:
    from torch import Tensor

    from .sockets import Audio

_WHAT_FITS = (
    "It needs a waveform (batch, channels, samples) and a sample_rate. Connect Load Audio or another node "
    "with an AUDIO output."
)
# The middle and the full scale of integer samples. int64 is left out: numpy and torch use it for numbers of
# any size, so nothing tells whether its full scale is that of 16, 24, 32 or 64 bits.
_INTEGER_SCALES = {
    "uint8": (2**7, 2**7),
    "int8": (0, 2**7),
    "uint16": (2**15, 2**15),
    "int16": (0, 2**15),
    "uint32": (2**31, 2**31),
    "int32": (0, 2**31),
}
_MOST_CHANNELS = 8  # of a sound; a longer axis before a shorter one is time


def read_audio(audio: Audio, input_name: str) -> tuple[Tensor, int]:
    """Read an AUDIO input.

    Args:
        audio: the input's value: a mapping with `waveform`, a tensor or numpy array of shape (B, C, S),
            (C, S) or (S,), and `sample_rate` in hertz. Floating-point samples are in -1..1; integers are
            scaled by the range of their type.
        input_name: the input's name for messages; ComfyUI's own message names only the node.

    Returns:
        Waveform (B, C, S), finite float32 on the CPU, none of them 0, and the rate.

    Raises:
        InputError: the value is not an AUDIO, cannot be loaded, is empty or holds NaN, or its rate is not a
            whole number above 0.
    """
    waveform = _to_batch(_read_entry(audio, "waveform", input_name), input_name)
    rate = _read_rate(_read_entry(audio, "sample_rate", input_name), input_name)
    return _to_finite_float(waveform, input_name), rate


def read_first_sound(audio: Audio, input_name: str) -> tuple[Tensor, int]:
    """Read the first sound of an AUDIO input.

    Args:
        audio: the input's value, see `read_audio`.
        input_name: the input's name for messages.

    Returns:
        Waveform (C, S), finite float32 on the CPU, and the rate.

    Raises:
        InputError: see `read_audio`; the other sounds of the batch are not checked.
    """
    waveform = _to_batch(_read_entry(audio, "waveform", input_name), input_name)[:1]
    rate = _read_rate(_read_entry(audio, "sample_rate", input_name), input_name)
    return _to_finite_float(waveform, input_name)[0], rate


def _read_entry(audio: Any, key: str, input_name: str) -> Any:
    """Return an entry of an AUDIO, which a mapping may load from a file only now."""
    if audio is None:
        raise InputError(
            f"{input_name} is not an AUDIO: it is None. The node connected to it gave no sound; a video "
            "without an audio track is a common cause. Connect a node that gives one."
        )
    if not isinstance(audio, Mapping):
        raise InputError(f"{input_name} is not an AUDIO: it is a {type(audio).__name__}. {_WHAT_FITS}")
    try:
        return audio[key]
    except Exception as error:
        if isinstance(error, AudioXError) or _is_cancellation(error) or is_out_of_memory(error):
            raise
        # Not audio.get(): it would take any KeyError while loading for a missing entry.
        if isinstance(error, KeyError) and error.args == (key,):
            raise InputError(f"{input_name} is not an AUDIO: it has no {key}. {_WHAT_FITS}") from None
        raise InputError(
            f"{input_name} cannot be loaded by the node connected to it: {_shorten(error)}. Its file may "
            "have no audio track. Connect a sound, or disconnect the input."
        ) from error


def _is_cancellation(error: Exception) -> bool:
    """Return whether ComfyUI 0.3.64 stops the run with this error; in newer versions it is no Exception."""
    # By name, because only nodes/comfy imports comfy.
    return any(kind.__name__ == "InterruptProcessingException" for kind in type(error).__mro__)


def _shorten(error: Exception) -> str:
    """Return the first and the last lines of an error: between them, programs print all that they know."""
    text = str(error) if not isinstance(error, KeyError) else repr(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 4:
        lines = [lines[0], "...", *lines[-3:]]
    return " ".join(lines).rstrip(".") or type(error).__name__


def _to_batch(waveform: Any, input_name: str) -> Tensor:
    """Return a waveform as a tensor (B, C, S) of any type, not empty."""
    import torch

    if isinstance(waveform, np.ndarray):
        waveform = _from_numpy(waveform, input_name)
    if not isinstance(waveform, torch.Tensor):
        raise InputError(
            f"{input_name} is not an AUDIO: its waveform is a {type(waveform).__name__}. {_WHAT_FITS}"
        )
    shape = tuple(waveform.shape)
    if waveform.ndim not in (1, 2, 3):
        raise InputError(
            f"{input_name} is not an AUDIO: its waveform has {waveform.ndim} dimensions, of shape {shape}. "
            f"{_WHAT_FITS}"
        )
    waveform = waveform[(None,) * (3 - waveform.ndim)]
    if len(waveform) == 0:
        raise InputError(f"{input_name} holds an empty batch. Connect a node that outputs a sound.")
    channels, samples = waveform.shape[1:]
    if channels == 0 or samples == 0:
        raise InputError(
            f"{input_name} is empty: its waveform has shape {shape}. Connect a sound with at least one "
            "sample."
        )
    if channels > _MOST_CHANNELS >= samples:
        raise InputError(
            f"{input_name} has {channels} channels of {samples} samples: the axes of its waveform, of shape "
            f"{shape}, are the wrong way round. The order is (batch, channels, samples). Check the node that "
            "made it."
        )
    return waveform


def _from_numpy(samples: np.ndarray[Any, Any], input_name: str) -> Tensor:
    """Return numpy samples as a tensor; torch takes neither other byte orders nor negative strides."""
    import torch

    kind = samples.dtype.kind
    if kind == "f" and samples.dtype.itemsize not in (2, 4, 8):  # long double
        samples = samples.astype(np.float64)
    if kind not in "fiubc":
        raise InputError(
            f"{input_name} is not an AUDIO: its waveform is a numpy array of {samples.dtype}. {_WHAT_FITS}"
        )
    return torch.from_numpy(np.array(samples, samples.dtype.newbyteorder("="), order="C"))


def _read_rate(value: Any, input_name: str) -> int:
    """Return a sample rate, which may be a number or a tensor or array of one number."""
    number = read_number(value)
    if number is None:
        shown = repr(value) if isinstance(value, str | bool | None) else f"a {type(value).__name__}"
        raise InputError(
            f"{input_name} is not an AUDIO: its sample_rate is {shown}, not one number. {_WHAT_FITS}"
        )
    if not (math.isfinite(number) and number > 0 and number == int(number)):
        raise InputError(
            f"{input_name}: the sample rate is {number} Hz. It must be a whole number above 0. Check the "
            "node that made it."
        )
    return int(number)


def _to_finite_float(waveform: Tensor, input_name: str) -> Tensor:
    """Convert samples to float32 on the CPU, integers by the range of their type."""
    import torch

    name = str(waveform.dtype).removeprefix("torch.")
    waveform = waveform.detach().cpu()
    if name in _INTEGER_SCALES:
        middle, full_scale = _INTEGER_SCALES[name]
        # float32 holds 16 bits exactly, float64 also 32.
        exact = torch.float64 if full_scale > 2**15 else torch.float32
        waveform = waveform.to(exact).sub_(middle).div_(full_scale)
    elif not waveform.is_floating_point():
        raise InputError(
            f"{input_name}: the waveform is {name}, whose full scale is not known. Convert it to floating "
            f"point in -1..1, or to one of {', '.join(_INTEGER_SCALES)}."
        )
    waveform = waveform.to(torch.float32)
    bad = waveform.numel() - int(torch.isfinite(waveform).sum())
    if bad:
        raise InputError(
            f"{input_name}: the waveform has {bad} samples that are NaN or infinite. Check the node or file "
            "it comes from."
        )
    return waveform
