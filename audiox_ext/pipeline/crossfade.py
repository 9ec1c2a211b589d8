"""Joining two sounds so that nobody hears where: crossfades of constant power, levels that meet.

C channels, S samples. All waveforms are float32 on the CPU.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

# Levels are compared over this long, in seconds: a window in which a jump of 1 dB is just noticed.
_WINDOW = 0.05
_SETTLING = 0.3  # seconds after a joint by which the new sound has its own dynamics
_EASING = 0.2  # the last of these seconds, in which the old one's level is given up
_GLIDE = 8.0  # decibels a second, from the old sound's level to the new one's own: 0.4 dB a window
_FADED = 1e-3  # a sound whose level is below this has ended: there is nothing to go on from
_MOST_GAIN, _LEAST_GAIN = 10 ** (40 / 20), 10 ** (-60 / 20)
_SAID_AGAIN = 1.0  # seconds before a joint over which the old sound and what a model made of it are compared
_ALIKE = 0.5  # correlation from which on they are the same sound
_MOST_TRUSTED = 10 ** (12 / 20)


def crossfaded(old: Tensor, new: Tensor) -> Tensor:
    """From all `old` to all `new`, both (C, S), by raised cosines.

    The sum is brought to the power that the two have on the way: sounds that are alike add up in amplitude,
    unlike ones in power, so that neither dip nor bump is heard. The first sample is nearly old's.
    """
    samples = old.shape[-1]
    rise = _rise(samples)
    mixed = old * (1 - rise) + new * rise
    likeness = _likeness(old, new)
    # Power of the mix at each moment for signals of equal power with that correlation
    power = rise.square() + (1 - rise).square() + 2 * likeness * rise * (1 - rise)
    return mixed * power.clamp(min=0.25).rsqrt()


def turned_down(new: Tensor, limit: float, start: int, end: int) -> Tensor:
    """`new` (C, S), turned down as a whole so that no sample of [start, end) is beyond `limit`."""
    return new * (limit / max(limit, float(new[:, start:end].abs().max())))


def pasted(old: Tensor, new: Tensor, start: int, end: int, fade_in: int, fade_out: int) -> Tensor:
    """`old` with its samples [start, end) replaced by those of `new`, both (C, S).

    The first fade_in and the last fade_out samples of the part, each at most half of it, are crossfades. All
    other samples of `old` are returned bit for bit. What is made never goes beyond full scale, or where `old`
    does, its peak.
    """
    fade_in, fade_out = (min(fade, (end - start) // 2) for fade in (fade_in, fade_out))
    limit = max(1.0, float(old.abs().max()))
    part = new[:, start:end].clone()
    if fade_in:
        part[:, :fade_in] = crossfaded(old[:, start : start + fade_in], part[:, :fade_in])
    if fade_out:
        tail = crossfaded(old[:, end - fade_out : end].flip(-1), part[:, -fade_out:].flip(-1))
        part[:, -fade_out:] = tail.flip(-1)
    result = old.clone()
    result[:, start:end] = part.clamp(-limit, limit)
    return result


def levelled(old: Tensor, new: Tensor, joint: int, rate: int) -> Tensor:
    """`new` (C, S) with its level fitted to that of `old` (C, S), so that it does not jump at the joint.

    joint: sample up to which `old` is there. A model says the end of `old` again before it goes on. Where
    that is the same sound at another level, this difference is taken away, up to 12 dB, and comes back
    slowly: what follows keeps its own dynamics, as a drum or a rest right after the joint. Where it is
    another sound, nothing tells the level to go on with: then it is `old`'s for a moment, and glides to its
    own. Where `old` has faded out, or `new` is silent, nothing is changed. No sample goes beyond full scale,
    or where `old` does, its peak.
    """
    said = slice(max(0, joint - round(_SAID_AGAIN * rate)), joint)
    target = _level(old[:, max(0, joint - round(_WINDOW * rate)) : joint])
    before, again = _level(old[:, said]), _level(new[:, said])
    if min(before, again) >= _FADED and _likeness(old[:, said], new[:, said]) >= _ALIKE:
        gain = min(max(before / again, 1 / _MOST_TRUSTED), _MOST_TRUSTED)
        curve = _gliding(gain, joint, new.shape[-1], rate)
    elif target < _FADED or _level(new[:, max(0, joint - rate) : joint + rate]) < _FADED:
        curve = torch.ones(new.shape[-1])
    else:
        curve = _settling(target, new, joint, rate)
    return _within(new * curve, max(1.0, float(old.abs().max())), joint, rate)


def _gliding(gain: float, start: int, samples: int, rate: int) -> Tensor:
    """`gain` up to `start`, then back to 1 by `_GLIDE`: (S,)."""
    decibels = 20 * math.log10(gain)
    glide = _GLIDE / rate * (torch.arange(samples, dtype=torch.float64) - start).clamp(min=0)
    left = math.copysign(1, decibels) * (abs(decibels) - glide).clamp(min=0)
    return (10 ** (left / 20)).float()


def _settling(target: float, new: Tensor, joint: int, rate: int) -> Tensor:
    """Gains (S,) that hold `new` at a level until `_SETTLING` after the joint, then let it glide."""
    window, samples = max(1, round(_WINDOW * rate)), new.shape[-1]
    settled = min(samples, joint + round(_SETTLING * rate))
    first = max(0, joint - 2 * window)
    margin = max(0, first - window)
    levels = _levels(new[:, margin : settled + window], window)[first - margin :][: settled - first]
    held = (target / levels.clamp(min=1e-9)).clamp(_LEAST_GAIN, _MOST_GAIN)
    # What it glides from is the level of half a second, not that of the moment where it is let go.
    lasting = target / max(_level(new[:, joint : joint + rate // 2]), 1e-9)
    curve = _gliding(min(max(lasting, _LEAST_GAIN), _MOST_GAIN), settled, samples, rate)
    fade = min(round(_EASING * rate), settled - joint)
    rise = torch.cat([torch.zeros(len(held) - fade), _rise(fade)]) if fade else torch.zeros(len(held))
    curve[first:settled] = held ** (1 - rise) * curve[first:settled] ** rise
    curve[:first] = held[0]
    return curve


def _within(made: Tensor, limit: float, joint: int, rate: int) -> Tensor:
    """`made` (C, S), turned down around every peak that would be beyond `limit`.

    Near the joint only as fast as is not heard: a track that was pressed against full scale has higher levels
    than other sounds of the same peak, and there a step in level is heard rather than a few clipped peaks.
    """
    if float(made.abs().max()) <= limit:
        return made
    block = max(1, round(_WINDOW * rate))
    samples = made.shape[-1]
    count = -(-samples // block)
    peaks = F.pad(made.abs().amax(dim=0), (0, count * block - samples)).reshape(count, block).amax(dim=1)
    allowed = (limit / peaks.clamp(min=limit))[None, None]
    # The lowest of each block and its neighbours, so that the line between two is never above either.
    allowed = -F.max_pool1d(F.pad(-allowed, (1, 1), mode="replicate"), 3, stride=1)
    line = F.interpolate(allowed, size=count * block, mode="linear", align_corners=False)[0, 0, :samples]
    distance = (torch.arange(samples, dtype=torch.float64) - joint).abs() / rate
    decibels = _GLIDE * distance * (1 + 4 * distance.square())  # 1.9 after 0.2 s, 40 after a second
    return (made * torch.maximum(line, (10 ** (-decibels / 20)).float())).clamp(-limit, limit)


def _rise(samples: int) -> Tensor:
    """A raised cosine from nearly 0 to nearly 1: (S,)."""
    return ((torch.arange(samples, dtype=torch.float64) + 0.5) / samples * math.pi / 2).sin().square().float()


def _likeness(a: Tensor, b: Tensor) -> float:
    """Correlation of two sounds, 0 to 1; opposite ones count as unlike."""
    norm = float(a.norm() * b.norm())
    return min(1.0, max(0.0, float((a * b).sum()) / norm)) if norm > 0 else 1.0


def _level(waveform: Tensor) -> float:
    return float(waveform.square().mean().sqrt()) if waveform.numel() else 0.0


def _levels(waveform: Tensor, window: int) -> Tensor:
    """The level around each sample, over a Hann window: (C, S) -> (S,)."""
    power = waveform.square().mean(dim=0)
    shape = torch.hann_window(window + 2, periodic=False)[1:-1]
    left = (window - 1) // 2
    padded = F.pad(power[None, None], (left, window - 1 - left), mode="replicate")
    smooth = F.conv1d(padded, (shape / shape.sum())[None, None])
    return smooth[0, 0].clamp(min=0).sqrt()
