"""Checks waveforms, and converts them to another sample rate and number of channels.

C channels, S samples. Waveforms are float32 in [-1, 1] on the CPU.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, quote_value
from .tracks.layouts import mix_by_names

LOWEST_RATE, HIGHEST_RATE = 8, 6_144_000
"""Sample rates in hertz that occur: from slow recordings of instruments to 128 times 48 kHz."""
MOST_SAMPLES = 1 << 28
"""Samples of all channels of one sound: 1 GiB, or 46 minutes of stereo at 48 kHz."""

# Steps of the filter of a resampler: two rates in common use have a ratio of fewer. A filter for every rate
# that a file claims would take gigabytes.
_MOST_PHASES = 12000

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
    Nyquist frequency and 90 dB down above it. Rates whose ratio is not one of whole numbers up to 12000 are
    converted by the next such ratio: below 100 kHz, ten minutes shift by less than 0.1 ms.

    Args:
        waveform: (C, S) or (1, C, S), floating point; channels in WAVE order.
        rate: Its sample rate in hertz.
        target_rate: The new sample rate in hertz.
        channels: 1 or 2.

    Returns:
        (channels, S') float32 on the CPU, S' = ceil(S * target_rate / rate).

    Raises:
        InputError: The waveform is empty, not finite or has too many channels, a number is out of range, or
            the result would be too long.
    """
    if channels not in (1, 2):
        raise InputError(f"channels is {channels}. Choose 1 or 2.")
    _check_rate(target_rate, "target rate")
    mixed = _mix_channels(check_waveform(waveform, rate), channels)
    return _resample(mixed, rate, target_rate)


def check_waveform(waveform: Tensor, rate: int) -> Tensor:
    """Check a waveform and its sample rate.

    Args:
        waveform: (C, S) or (1, C, S), any floating point.
        rate: Hertz, a whole number from `LOWEST_RATE` to `HIGHEST_RATE`.

    Returns:
        (C, S) float32 on the CPU.

    Raises:
        InputError: The shape or type is wrong, a value is not finite, the waveform is empty, or the rate is
            invalid.
    """
    _check_rate(rate, "sample rate")
    if not isinstance(waveform, Tensor):
        raise InputError(
            f"The waveform is a {type(waveform).__name__}. It must be a tensor (channels, samples)."
        )
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


def _check_rate(rate: Any, name: str) -> None:
    """Raise `InputError` for what is not a plausible sample rate, which may come from a damaged file."""
    is_number = isinstance(rate, int | float | np.integer | np.floating) and not isinstance(rate, bool)
    if not (is_number and LOWEST_RATE <= rate <= HIGHEST_RATE and rate == int(rate)):
        raise InputError(
            f"The {name} is {quote_value(rate)} Hz. It must be a whole number from {LOWEST_RATE} to "
            f"{HIGHEST_RATE}. If it comes from a file, the file is damaged: convert it, or choose a "
            "different one."
        )


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

    length = -(-waveform.shape[1] * target_rate // rate)
    if len(waveform) * length > MOST_SAMPLES:
        raise InputError(
            f"The sound lasts {waveform.shape[1] / rate:.6g} s. At {target_rate} Hz, at most "
            f"{MOST_SAMPLES // len(waveform) // target_rate} s of {len(waveform)} channels are possible. "
            "Cut it."
        )
    up, down = _choose_ratio(rate, target_rate)
    widest = max(up, down)
    # 64 zero crossings per side with this window: 90 dB, and a transition of a tenth of the band.
    taps = firwin(128 * widest + 1, 0.955 / widest, window=("kaiser", 9.0))
    samples = resample_poly(waveform.numpy(), up, down, axis=1, window=taps.astype(np.float32))
    samples = np.ascontiguousarray(samples[:, :length], dtype=np.float32)
    return torch.nn.functional.pad(torch.from_numpy(samples), (0, length - samples.shape[1]))


def _choose_ratio(rate: int, target_rate: int) -> tuple[int, int]:
    """Return by how much to go up and down between two rates, exact where the filter can be."""
    if target_rate > rate:
        down, up = Fraction(rate, target_rate).limit_denominator(_MOST_PHASES).as_integer_ratio()
    else:
        up, down = Fraction(target_rate, rate).limit_denominator(_MOST_PHASES).as_integer_ratio()
    return max(1, up), max(1, down)
