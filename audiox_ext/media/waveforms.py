"""Waveforms: what is wrong with one, and how any becomes the rate and channels that are wanted.

C channels, S samples. Waveforms are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError

# ITU-R BS.775: centre and surround channels enter left and right at -3 dB, the LFE channel not at all.
# The order is that of WAVE files: front left, right, centre, LFE, back (or side) left, right, ...
_3DB = math.sqrt(0.5)
_LEFT, _RIGHT, _BOTH, _NONE = (1.0, 0.0), (0.0, 1.0), (_3DB, _3DB), (0.0, 0.0)
_SURROUND_LEFT, _SURROUND_RIGHT, _SURROUND_CENTRE = (_3DB, 0.0), (0.0, _3DB), (0.5, 0.5)
_TO_STEREO = {
    2: (_LEFT, _RIGHT),
    3: (_LEFT, _RIGHT, _BOTH),
    4: (_LEFT, _RIGHT, _SURROUND_LEFT, _SURROUND_RIGHT),
    5: (_LEFT, _RIGHT, _BOTH, _SURROUND_LEFT, _SURROUND_RIGHT),
    6: (_LEFT, _RIGHT, _BOTH, _NONE, _SURROUND_LEFT, _SURROUND_RIGHT),
    7: (_LEFT, _RIGHT, _BOTH, _NONE, _SURROUND_CENTRE, _SURROUND_LEFT, _SURROUND_RIGHT),
    8: (_LEFT, _RIGHT, _BOTH, _NONE, _SURROUND_LEFT, _SURROUND_RIGHT, _SURROUND_LEFT, _SURROUND_RIGHT),
}


def conform_audio(waveform: Tensor, rate: int, *, target_rate: int, channels: int = 2) -> Tensor:
    """Any waveform -> (channels, S') float32 on the CPU at `target_rate` hertz, S' = ceil(S * target / rate).

    waveform: (C, S) or (1, C, S), floating point. Mono is copied to every channel; 3 to 8 channels, in WAVE
    order, become stereo by ITU-R BS.775, scaled down as a whole if that would clip; stereo becomes mono as
    the mean. Resampling is linear-phase, flat to 0.9 of the lower Nyquist frequency, 90 dB down above it.
    Raises InputError for an empty waveform, NaN or infinity, rates of 0 or less, and impossible channels.
    """
    if channels not in (1, 2):
        raise InputError(f"{channels} channels were asked for: 1 or 2 are possible.")
    if target_rate <= 0:
        raise InputError(f"The target rate is {target_rate} Hz: give a rate above 0.")
    mixed = _mixed(check_waveform(waveform, rate), channels)
    return _resampled(mixed, rate, target_rate)


def check_waveform(waveform: Tensor, rate: int) -> Tensor:
    """(C, S) or (1, C, S), any floating point -> (C, S) float32 on the CPU.

    Raises InputError for what is no sound: another shape, nothing in it, integers, NaN, infinity, a rate that
    is no whole number above 0.
    """
    if not (math.isfinite(rate) and rate > 0 and rate == int(rate)):
        raise InputError(f"The sample rate is {rate} Hz: give a whole number above 0.")
    if waveform.ndim == 3 and len(waveform) == 1:
        waveform = waveform[0]
    if waveform.ndim != 2:
        raise InputError(f"The waveform has shape {tuple(waveform.shape)}: (channels, samples) is wanted.")
    if waveform.numel() == 0:
        raise InputError(f"The waveform is empty, its shape is {tuple(waveform.shape)}: give some audio.")
    if not waveform.is_floating_point():
        raise InputError(f"The waveform is {waveform.dtype}: floating point in -1..1 is wanted.")
    waveform = waveform.detach().to("cpu", torch.float32)
    bad = waveform.numel() - int(torch.isfinite(waveform).sum())
    if bad:
        raise InputError(f"The waveform holds {bad} samples that are NaN or infinite: check what made it.")
    return waveform


def check_mixable(waveform: Tensor, rate: int) -> None:
    """Raises InputError for what `conform_audio` would refuse."""
    channels = len(check_waveform(waveform, rate))
    if channels > max(_TO_STEREO):
        raise InputError(f"The waveform has {channels} channels: 1 to 8 can be mixed down.")


def _mixed(waveform: Tensor, channels: int) -> Tensor:
    """(C, S) -> (channels, S), channels 1 or 2."""
    if len(waveform) == channels:
        return waveform
    if len(waveform) == 1:
        return waveform.expand(channels, -1)
    weights = _TO_STEREO.get(len(waveform))
    if weights is None:
        raise InputError(f"The waveform has {len(waveform)} channels: 1 to 8 can be mixed down.")
    if len(waveform) > 2:
        loudest = max(1.0, float(waveform.abs().max()))
        waveform = torch.tensor(weights).T @ waveform
        waveform = waveform * (loudest / max(loudest, float(waveform.abs().max())))
    return waveform if channels == 2 else waveform.mean(dim=0, keepdim=True)


def _resampled(waveform: Tensor, rate: int, target_rate: int) -> Tensor:
    """Polyphase resampling of every channel; see `conform_audio`."""
    rate, target_rate = int(rate), int(target_rate)
    if rate == target_rate:
        return waveform.contiguous()
    from scipy.signal import firwin, resample_poly

    common = math.gcd(rate, target_rate)
    up, down = target_rate // common, rate // common
    widest = max(up, down)
    # 64 zero crossings a side with this window: 90 dB, and a transition of a tenth of the band below Nyquist
    taps = firwin(128 * widest + 1, 0.955 / widest, window=("kaiser", 9.0))
    samples = resample_poly(waveform.numpy(), up, down, axis=1, window=taps.astype(np.float32))
    return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
