"""Make the demo's sounds audible: an even loudness, with limited peaks."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from scipy.ndimage import minimum_filter1d, uniform_filter1d
from torch import Tensor

from audiox_ext.media.audio_video import read_audio, write_audio
from audiox_ext.media.loudness import measure_loudness, measure_peak
from audiox_ext.media.muxing import replace_audio_track

LOUDNESS = -16.0  # LUFS, as streaming services play sounds of this kind
CEILING = -1.5  # dBFS; AAC adds up to half a decibel to a peak, and the file is to stay below -1
_LIMITED = 6.0  # dB that peaks are lowered by at most: more would be heard
_LOOK_AHEAD = 0.005  # seconds in which the gain falls before a peak, and rises after it
_PRECISION, _ATTEMPTS = 0.02, 10  # dB


def make_audible(file: Path) -> None:
    """Bring the sound of an audio or video file to `LOUDNESS`, in place."""
    waveform, rate = read_audio(file)
    waveform = bring_to_loudness(waveform, rate)
    if file.suffix == ".wav":
        write_audio(file, waveform, rate)
    else:
        replace_audio_track(file, waveform, rate, file)


def bring_to_loudness(waveform: Tensor, rate: int) -> Tensor:
    """Scale a sound to `LOUDNESS` and limit its peaks to `CEILING`.

    Args:
        waveform: (C, S), any loudness.
        rate: Sample rate in hertz.

    Returns:
        A sound of the same shape. It is quieter than `LOUDNESS` if its peaks would have to be lowered by more
        than 6 dB. Silence stays silence.
    """
    peak = measure_peak(waveform)
    if math.isinf(peak):
        return waveform
    gain = -peak  # loudness is first measured at full scale, where the absolute gate hides nothing
    limited = waveform
    for _ in range(_ATTEMPTS):
        limited = limit_peaks(waveform * 10 ** (gain / 20), rate)
        missing = LOUDNESS - measure_loudness(limited, rate)
        most = CEILING + _LIMITED - peak
        if not math.isfinite(missing) or abs(missing) < _PRECISION or (gain == most and missing > 0):
            break
        gain = min(gain + missing, most)
    return limited


def limit_peaks(waveform: Tensor, rate: int) -> Tensor:
    """Lower a sound around its peaks so that no sample exceeds `CEILING`.

    Args:
        waveform: (C, S).
        rate: Sample rate in hertz.

    Returns:
        (C, S), with the same gain in all channels.
    """
    ceiling = 10 ** (CEILING / 20)
    gains = (ceiling / waveform.double().abs().amax(dim=0).clamp(min=ceiling)).numpy()
    width = 2 * round(_LOOK_AHEAD * rate) + 1
    # The mean of minima never exceeds the gain that a sample needs, because each minimum covers that sample.
    gains = uniform_filter1d(minimum_filter1d(gains, width), width)
    return waveform * torch.from_numpy(gains).to(waveform.dtype)
