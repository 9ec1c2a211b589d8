"""Inaudible crossfades between two sounds: constant power, and no jump in loudness.

C channels, S samples. All waveforms are float32 on the CPU. Loudness is the root mean square of samples.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW = 0.05
"""Seconds over which loudness is measured: a jump of 1 dB in such a window is just noticed."""
_HOLD = 0.3
"""Seconds after the boundary for which the new sound keeps the old one's loudness."""
_HOLD_FADE = 0.2
"""Seconds at the end of `_HOLD` in which it returns to its own dynamics."""
_GLIDE = 8.0
"""Decibels per second at which a gain returns to 1: 0.4 dB per window."""
_SILENCE = 1e-3
"""Loudness below which a sound has ended, so that nothing can be matched."""
_MAX_GAIN, _MIN_GAIN = 10 ** (40 / 20), 10 ** (-60 / 20)
_COMPARED = 1.0
"""Seconds before the boundary over which the old sound and the model's version of it are compared."""
_SAME_SOUND = 0.5
"""Correlation from which they count as the same sound."""
_MAX_CORRECTION = 10 ** (12 / 20)


def crossfade(old: Tensor, new: Tensor) -> Tensor:
    """Crossfade from `old` to `new`, both (C, S), by raised cosines.

    The sum is scaled to constant power: similar sounds add in amplitude, different ones in power, so that
    neither a dip nor a bump is heard. The first sample is nearly that of `old`.
    """
    samples = old.shape[-1]
    rise = _rise(samples)
    mix = old * (1 - rise) + new * rise
    correlation = _correlation(old, new)
    # Power of the mix at each moment, for signals of equal power with that correlation
    power = rise.square() + (1 - rise).square() + 2 * correlation * rise * (1 - rise)
    return mix * power.clamp(min=0.25).rsqrt()


def limit_peak(new: Tensor, limit: float, start: int, end: int) -> Tensor:
    """Scale down `new` (C, S) as a whole so that no sample of [start, end) exceeds `limit`."""
    return new * (limit / max(limit, float(new[:, start:end].abs().max())))


def paste(old: Tensor, new: Tensor, start: int, end: int, fade_in: int, fade_out: int) -> Tensor:
    """Replace the samples [start, end) of `old` by those of `new`, both (C, S).

    Args:
        old: The original.
        new: Its replacement, of the same length.
        start: First sample to replace.
        end: End of the samples to replace.
        fade_in: Samples of crossfade inside the start, at most half of the region.
        fade_out: Samples of crossfade inside the end, likewise.

    Returns:
        (C, S). Samples outside [start, end) are those of `old`, bit for bit. New ones do not exceed full
        scale, or the peak of `old` if that is higher.
    """
    fade_in, fade_out = (min(fade, (end - start) // 2) for fade in (fade_in, fade_out))
    limit = max(1.0, float(old.abs().max()))
    region = new[:, start:end].clone()
    if fade_in:
        region[:, :fade_in] = crossfade(old[:, start : start + fade_in], region[:, :fade_in])
    if fade_out:
        tail = crossfade(old[:, end - fade_out : end].flip(-1), region[:, -fade_out:].flip(-1))
        region[:, -fade_out:] = tail.flip(-1)
    result = old.clone()
    result[:, start:end] = region.clamp(-limit, limit)
    return result


def match_loudness(old: Tensor, new: Tensor, boundary: int, rate: int) -> Tensor:
    """Match the loudness of `new` to `old`, so that it does not jump at the boundary.

    A model repeats the end of `old` before it continues. If that is the same sound at another loudness, the
    difference is corrected, up to 12 dB, and the correction slowly fades out. So the rest keeps its own
    dynamics, such as a drum or a pause right after the boundary. If it is another sound, the loudness of
    `old` is held for a moment, and then glides to that of `new`. If `old` has faded out or `new` is silent,
    nothing is changed.

    Args:
        old: (C, S), valid up to the boundary.
        new: (C, S).
        boundary: First sample after `old`.
        rate: Hertz.

    Returns:
        (C, S), which does not exceed full scale, or the peak of `old` if that is higher.
    """
    compared = slice(max(0, boundary - round(_COMPARED * rate)), boundary)
    target = _rms(old[:, max(0, boundary - round(_WINDOW * rate)) : boundary])
    old_rms, new_rms = _rms(old[:, compared]), _rms(new[:, compared])
    is_audible = min(old_rms, new_rms) >= _SILENCE
    if is_audible and _correlation(old[:, compared], new[:, compared]) >= _SAME_SOUND:
        gain = min(max(old_rms / new_rms, 1 / _MAX_CORRECTION), _MAX_CORRECTION)
        gains = _gliding_gains(gain, boundary, new.shape[-1], rate)
    elif target < _SILENCE or _rms(new[:, max(0, boundary - rate) : boundary + rate]) < _SILENCE:
        gains = torch.ones(new.shape[-1])
    else:
        gains = _holding_gains(target, new, boundary, rate)
    return _limit_around_peaks(new * gains, max(1.0, float(old.abs().max())), boundary, rate)


def _gliding_gains(gain: float, start: int, samples: int, rate: int) -> Tensor:
    """Return gains (S,): `gain` up to `start`, then back to 1 at `_GLIDE`."""
    decibels = 20 * math.log10(gain)
    glide = _GLIDE / rate * (torch.arange(samples, dtype=torch.float64) - start).clamp(min=0)
    remaining = math.copysign(1, decibels) * (abs(decibels) - glide).clamp(min=0)
    return (10 ** (remaining / 20)).float()


def _holding_gains(target: float, new: Tensor, boundary: int, rate: int) -> Tensor:
    """Return gains (S,) that hold `new` at a loudness until `_HOLD` after the boundary, then let it glide."""
    window, samples = max(1, round(_WINDOW * rate)), new.shape[-1]
    hold_end = min(samples, boundary + round(_HOLD * rate))
    first = max(0, boundary - 2 * window)
    margin = max(0, first - window)
    loudness = _rms_around(new[:, margin : hold_end + window], window)[first - margin :][: hold_end - first]
    holding = (target / loudness.clamp(min=1e-9)).clamp(_MIN_GAIN, _MAX_GAIN)
    # The glide starts from the loudness of half a second, not from that of the moment where it starts.
    lasting = target / max(_rms(new[:, boundary : boundary + rate // 2]), 1e-9)
    gains = _gliding_gains(min(max(lasting, _MIN_GAIN), _MAX_GAIN), hold_end, samples, rate)
    fade = min(round(_HOLD_FADE * rate), hold_end - boundary)
    rise = torch.cat([torch.zeros(len(holding) - fade), _rise(fade)]) if fade else torch.zeros(len(holding))
    gains[first:hold_end] = holding ** (1 - rise) * gains[first:hold_end] ** rise
    gains[:first] = holding[0]
    return gains


def _limit_around_peaks(waveform: Tensor, limit: float, boundary: int, rate: int) -> Tensor:
    """Scale down a waveform (C, S) around every peak that would exceed `limit`.

    Near the boundary the gain changes too slowly to be heard. A track that was mastered to full
    scale is louder than other sounds of the same peak, and a step in loudness is heard there rather than a
    few clipped peaks.
    """
    if float(waveform.abs().max()) <= limit:
        return waveform
    block = max(1, round(_WINDOW * rate))
    samples = waveform.shape[-1]
    count = -(-samples // block)
    peaks = F.pad(waveform.abs().amax(dim=0), (0, count * block - samples)).reshape(count, block).amax(dim=1)
    allowed = (limit / peaks.clamp(min=limit))[None, None]
    # The lowest of each block and its neighbours, so that the line between two never exceeds either.
    allowed = -F.max_pool1d(F.pad(-allowed, (1, 1), mode="replicate"), 3, stride=1)
    line = F.interpolate(allowed, size=count * block, mode="linear", align_corners=False)[0, 0, :samples]
    distance = (torch.arange(samples, dtype=torch.float64) - boundary).abs() / rate
    decibels = _GLIDE * distance * (1 + 4 * distance.square())  # 1.9 after 0.2 s, 40 after a second
    return (waveform * torch.maximum(line, (10 ** (-decibels / 20)).float())).clamp(-limit, limit)


def _rise(samples: int) -> Tensor:
    """Return a raised cosine from nearly 0 to nearly 1: (S,)."""
    return ((torch.arange(samples, dtype=torch.float64) + 0.5) / samples * math.pi / 2).sin().square().float()


def _correlation(a: Tensor, b: Tensor) -> float:
    """Return the correlation of two sounds, 0 to 1; opposite ones count as different."""
    norm = float(a.norm() * b.norm())
    return min(1.0, max(0.0, float((a * b).sum()) / norm)) if norm > 0 else 1.0


def _rms(waveform: Tensor) -> float:
    """Return the root mean square of all samples."""
    return float(waveform.square().mean().sqrt()) if waveform.numel() else 0.0


def _rms_around(waveform: Tensor, window: int) -> Tensor:
    """Return the root mean square around each sample, over a Hann window: (C, S) -> (S,)."""
    power = waveform.square().mean(dim=0)
    shape = torch.hann_window(window + 2, periodic=False)[1:-1]
    left = (window - 1) // 2
    padded = F.pad(power[None, None], (left, window - 1 - left), mode="replicate")
    smooth = F.conv1d(padded, (shape / shape.sum())[None, None])
    return smooth[0, 0].clamp(min=0).sqrt()
