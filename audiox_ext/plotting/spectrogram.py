"""What a picture of a sound shows, in numbers: levels over time and frequency, the waveform's outline.

C channels, S samples, F rows of frequencies, T columns of time. Everything is worked out for exactly the
columns and rows of the picture, some columns at a time: memory does not grow with the length of the sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .colormap import Floats

FLOOR = -100.0  # dBFS; what is quieter counts as this
_SECONDS = (0.186, 0.093, 0.046, 0.023)  # lengths of the windows, for low to high frequencies
_LOWEST_TURN = 150.0  # hertz, up to which the longest window is used; each next one is for two octaves higher
_SAMPLES_AT_ONCE = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Columns:
    """`count` equal stretches of time, from sample `first` to sample `last` (fractions are possible)."""

    first: float
    last: float
    count: int

    @property
    def width(self) -> float:
        """Samples a column."""
        return (self.last - self.first) / self.count


def log_frequencies(lowest: float, highest: float, rows: int) -> Floats:
    """(rows + 1,) edges of rows that are equally high on a logarithmic axis, rising."""
    return np.geomspace(lowest, highest, rows + 1)


def spectrogram(waveform: Tensor, rate: int, *, columns: Columns, edges: Floats) -> Floats:
    """(F, T) levels in dBFS, at least FLOOR; a full-scale sine reads 0 in every row and column it is in.

    waveform: (C, S) float32 on the CPU; its channels' powers are averaged. edges: (F + 1,) hertz, rising. A
    column is the mean power of Hann windows that cover it, half overlapping; the windows are longer for low
    frequencies, which need them to be told apart, and short for high ones, where they would blur in time.
    """
    centres = np.sqrt(edges[:-1] * edges[1:])
    turn = np.clip(np.log2(centres / _LOWEST_TURN) / 2, 0, len(_SECONDS) - 1)
    levels = np.zeros((len(centres), columns.count), dtype=np.float32)
    sizes = _window_sizes(rate, columns)
    for size in sorted(set(sizes)):
        uses = [index for index, used in enumerate(sizes) if used == size]
        # Neighbours fade into each other.
        share = sum(np.clip(1 - np.abs(turn - index), 0, 1) for index in uses)
        (rows,) = np.nonzero(share)
        if len(rows):
            part = _levels(waveform, rate, columns, size, edges[rows[0] : rows[-1] + 2])
            levels[rows] += share[rows, None] * part
    return levels


def _window_sizes(rate: int, columns: Columns) -> list[int]:
    """Powers of two. Where a column is longer than a window, shorter windows would show nothing more; in a
    sound, or a part of one, that is itself short, they are at most half of it.
    """
    longest = max(32.0, min(_SECONDS[0] * rate, (columns.last - columns.first) / 2))
    wanted = (max(32.0, min(max(seconds * rate, columns.width), longest)) for seconds in _SECONDS)
    return [2 ** math.floor(math.log2(samples) + 0.5) for samples in wanted]


def _levels(waveform: Tensor, rate: int, columns: Columns, size: int, edges: Floats) -> Floats:
    """(F, T) levels with windows of one size."""
    a_column = max(1, math.ceil(columns.width / (size / 2)))  # windows
    padded = 2 * size  # the spectrum is sampled finely enough to meet a sine's peak within 0.4 dB
    window = torch.hann_window(size)
    scale = (2 / float(window.sum())) ** 2 / (len(waveform) * a_column)
    at_once = max(1, _SAMPLES_AT_ONCE // (padded * len(waveform) * a_column))
    parts = []
    for begin in range(0, columns.count, at_once):
        end = min(begin + at_once, columns.count)
        places = torch.arange(begin * a_column, end * a_column, dtype=torch.float64) + 0.5
        starts = (columns.first + places * (columns.width / a_column) - size / 2).round().long()
        spectrum = torch.fft.rfft(_cut(waveform, starts, size) * window, n=padded)
        power = (spectrum.real.square() + spectrum.imag.square()).sum(dim=0)
        power = power.view(end - begin, a_column, -1).sum(dim=1) * scale
        decibels = 10 * power.clamp_(min=10 ** (FLOOR / 10)).log10()
        parts.append(_rows(decibels.T.numpy(), edges * padded / rate))
    return np.concatenate(parts, axis=1)


def _cut(waveform: Tensor, starts: Tensor, size: int) -> Tensor:
    """(C, len(starts), size): pieces of the waveform, silence outside it."""
    low, high = int(starts[0]), int(starts[-1]) + size
    length = waveform.shape[1]
    inside = waveform[:, min(max(low, 0), length) : min(max(high, 0), length)]
    before = min(max(-low, 0), high - low)
    after = high - low - before - inside.shape[1]
    piece = torch.nn.functional.pad(inside, (before, after))
    return piece.unfold(1, size, 1)[:, starts - low]


def _rows(levels: Floats, edges: Floats) -> Floats:
    """(bins, T) -> (F, T). edges: (F + 1,) in bins. A row shows the loudest bin in it, or, where rows are
    finer than bins, the level between its neighbours."""
    last = len(levels) - 1
    centres = np.clip(np.sqrt(edges[:-1] * edges[1:]), 0, last)
    lower = np.minimum(centres.astype(int), last - 1)
    share = (centres - lower)[:, None]
    between = levels[lower] * (1 - share) + levels[lower + 1] * share
    bounds = np.clip(np.ceil(edges).astype(int), 0, last + 1)
    return _reduced(np.maximum, levels, bounds, between, keep=np.maximum)


def _reduced(
    operation: Any,
    values: Floats,
    bounds: Any,
    elsewhere: Floats,
    keep: Callable[[Floats, Floats], Floats],
) -> Floats:
    """values[bounds[i]:bounds[i + 1]] reduced along the first axis and joined with elsewhere[i] by `keep`.

    Where such a stretch is empty the result is elsewhere[i]. bounds: rising, whole numbers.
    """
    result = elsewhere.copy()
    full = bounds[1:] > bounds[:-1]
    if full.any():
        # Stretches that are not empty follow upon each other, so that each ends where the next one starts.
        found = operation.reduceat(values[: bounds[-1]], bounds[:-1][full], axis=0)
        result[full] = keep(found, elsewhere[full])
    return result


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One channel by columns: its lowest and highest value, and the root of its mean square, (T,) each."""

    low: Floats
    high: Floats
    rms: Floats


def outline(channel: Tensor, columns: Columns) -> Outline:
    """channel: (S,) float32 on the CPU. Where columns are finer than samples, lines run between these."""
    samples = channel.numpy()
    places = np.linspace(columns.first, columns.last, columns.count + 1)
    lower = np.clip(np.floor(places).astype(int), 0, len(samples) - 1)
    upper = np.minimum(lower + 1, len(samples) - 1)
    at = samples[lower] + (samples[upper] - samples[lower]) * np.clip(places - lower, 0, 1)
    bounds = np.clip(np.ceil(places).astype(int), 0, len(samples))
    low, high = np.minimum(at[:-1], at[1:]), np.maximum(at[:-1], at[1:])
    mean_square = (at[:-1] ** 2 + at[1:] ** 2) / 2
    step = max(1, int(_SAMPLES_AT_ONCE / max(columns.width, 1)))
    for begin in range(0, columns.count, step):
        part = slice(begin, min(begin + step, columns.count))
        inside = bounds[part.start : part.stop + 1]
        values = samples[inside[0] : inside[-1]]
        inside = inside - inside[0]
        low[part] = _reduced(np.minimum, values, inside, low[part], keep=np.minimum)
        high[part] = _reduced(np.maximum, values, inside, high[part], keep=np.maximum)
        sums = _reduced(np.add, values * values, inside, mean_square[part], keep=lambda found, _: found)
        mean_square[part] = sums / np.maximum(np.diff(inside), 1)
    return Outline(low=low, high=high, rms=np.sqrt(mean_square))
