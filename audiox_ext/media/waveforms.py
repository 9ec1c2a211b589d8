"""Checks waveforms, and converts them to another sample rate and number of channels.

C channels, S samples. Waveforms are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from .tracks.layouts import mix_by_names

# Channels by their number, in the order of WAVE files.
_WAVE_ORDER = {
    2: ("FL", "FR"),
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}


def conform_audio(waveform: Tensor, rate: int, *, target_rate: int, channels: int = 2) -> Tensor:
    """Convert a waveform to another sample rate and number of channels.

    Mono is copied to every channel. 3 to 8 channels become stereo by ITU-R BS.775, scaled down as a whole if
    that would clip. Stereo becomes mono as the mean. Resampling is linear-phase, flat up to 0.9 of the lower
    Nyquist frequency and 90 dB down above it.

    Args:
        waveform: (C, S) or (1, C, S), floating point; channels in WAVE order.
        rate: Its sample rate in hertz.
        target_rate: The new sample rate in hertz.
        channels: 1 or 2.

    Returns:
        (channels, S') float32 on the CPU, S' = ceil(S * target_rate / rate).

    Raises:
        InputError: The waveform is empty, not finite or has too many channels, or a number is out of range.
    """
    if channels not in (1, 2):
        raise InputError(f"channels is {channels}. Choose 1 or 2.")
    if target_rate <= 0:
        raise InputError(f"The target rate is {target_rate} Hz. Choose a sample rate above 0.")
    mixed = _mix_channels(check_waveform(waveform, rate), channels)
    return _resample(mixed, rate, target_rate)


def check_waveform(waveform: Tensor, rate: int) -> Tensor:
    """Check a waveform and its sample rate.

    Args:
        waveform: (C, S) or (1, C, S), any floating point.
        rate: Hertz, a whole number above 0.

    Returns:
        (C, S) float32 on the CPU.

    Raises:
        InputError: The shape or type is wrong, a value is not finite, the waveform is empty, or the rate is
            invalid.
    """
    if not (math.isfinite(rate) and rate > 0 and rate == int(rate)):
        raise InputError(f"The sample rate is {rate} Hz. It must be a whole number above 0.")
    if waveform.ndim == 3 and len(waveform) == 1:
        waveform = waveform[0]
    if waveform.ndim != 2:
        raise InputError(f"The waveform has shape {tuple(waveform.shape)}. It must be (channels, samples).")
    if waveform.numel() == 0:
        raise InputError(
            f"The waveform is empty: its shape is {tuple(waveform.shape)}. Choose audio with at least one "
            "sample."
        )
    if not waveform.is_floating_point():
        raise InputError(f"The waveform is {waveform.dtype}. Convert it to floating point in -1..1.")
    waveform = waveform.detach().to("cpu", torch.float32)
    bad = waveform.numel() - int(torch.isfinite(waveform).sum())
    if bad:
        raise InputError(
            f"The waveform has {bad} samples that are NaN or infinite. Check the node or file it comes from."
        )
    return waveform


def check_mixable(waveform: Tensor, rate: int) -> None:
    """Check that `conform_audio` accepts a waveform.

    Raises:
        InputError: It does not.
    """
    channels = len(check_waveform(waveform, rate))
    if channels > max(_WAVE_ORDER):
        raise _too_many_channels(channels)


def _too_many_channels(channels: int) -> InputError:
    return InputError(f"The waveform has {channels} channels. Give 1 to {max(_WAVE_ORDER)}.")


def _mix_channels(waveform: Tensor, channels: int) -> Tensor:
    """(C, S) -> (channels, S), channels 1 or 2."""
    if len(waveform) == channels:
        return waveform
    if len(waveform) == 1:
        return waveform.expand(channels, -1)
    if len(waveform) not in _WAVE_ORDER:
        raise _too_many_channels(len(waveform))
    if len(waveform) > 2:
        mixed = mix_by_names(waveform, _WAVE_ORDER[len(waveform)])
        assert mixed is not None, "these names are known"
        waveform = mixed
    return waveform if channels == 2 else waveform.mean(dim=0, keepdim=True)


def _resample(waveform: Tensor, rate: int, target_rate: int) -> Tensor:
    """Polyphase resampling of every channel; see `conform_audio`."""
    rate, target_rate = int(rate), int(target_rate)
    if rate == target_rate:
        return waveform.contiguous()
    from scipy.signal import firwin, resample_poly

    common = math.gcd(rate, target_rate)
    up, down = target_rate // common, rate // common
    widest = max(up, down)
    # 64 zero crossings per side with this window: 90 dB, and a transition of a tenth of the band.
    taps = firwin(128 * widest + 1, 0.955 / widest, window=("kaiser", 9.0))
    samples = resample_poly(waveform.numpy(), up, down, axis=1, window=taps.astype(np.float32))
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
