"""Computes the spectrogram and the outline of a waveform for the pixels of a picture.

C channels, S samples, F rows of frequencies, T columns of time. Everything is computed for exactly the
columns and rows of the picture, some columns at a time: memory does not grow with the length of the sound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .colormap import Floats

FLOOR = -100.0  # dBFS; quieter values count as this
_SECONDS = (0.186, 0.093, 0.046, 0.023)  # window lengths, for low to high frequencies
_CROSSOVER = 150.0  # hertz, up to which the longest window is used; each next one is for two octaves more
_SAMPLES_AT_ONCE = 1 << 21


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Equal intervals of time.

    Attributes:
        first: Sample at which they begin; may be fractional.
        last: Sample at which they end; may be fractional.
        count: Number of columns.
    """

    first: float
    last: float
    count: int

    @property
    def width(self) -> float:
        """Samples per column."""
        return (self.last - self.first) / self.count


def log_frequencies(lowest: float, highest: float, rows: int) -> Floats:
    """Compute (rows + 1,) rising edges of rows of equal height on a logarithmic axis."""
    return np.geomspace(lowest, highest, rows + 1)


def spectrogram(waveform: Tensor, rate: int, *, columns: Columns, edges: Floats) -> Floats:
    """Compute the spectrogram. A full-scale sine reads 0 dBFS in every row and column that it lies in.

    A column is the mean power of half-overlapping Hann windows that cover it. Windows are long for low
    frequencies, to separate them, and short for high frequencies, to keep them sharp in time.

    Args:
        waveform: (C, S) float32 on the CPU; the powers of its channels are averaged.
        rate: Sample rate in hertz.
        columns: The columns of time.
        edges: (F + 1,) hertz, rising.

    Returns:
        (F, T) in dBFS, at least FLOOR.
    """
    centres = np.sqrt(edges[:-1] * edges[1:])
    position = np.clip(np.log2(centres / _CROSSOVER) / 2, 0, len(_SECONDS) - 1)
    decibels = np.zeros((len(centres), columns.count), dtype=np.float32)
    sizes = _window_sizes(rate, columns)
    for size in sorted(set(sizes)):
        indices = [index for index, window_size in enumerate(sizes) if window_size == size]
        # Neighbouring window lengths crossfade.
        weights = sum(np.clip(1 - np.abs(position - index), 0, 1) for index in indices)
        (rows,) = np.nonzero(weights)
        if len(rows):
            part = _decibels(waveform, rate, columns, size, edges[rows[0] : rows[-1] + 2])
            decibels[rows] += weights[rows, None] * part
    return decibels


def _window_sizes(rate: int, columns: Columns) -> list[int]:
    """Window sizes in samples, powers of two, at least a column and at most half of the visible part."""
    longest = max(32.0, min(_SECONDS[0] * rate, (columns.last - columns.first) / 2))
    sizes = (max(32.0, min(max(seconds * rate, columns.width), longest)) for seconds in _SECONDS)
    return [2 ** math.floor(math.log2(samples) + 0.5) for samples in sizes]


def _decibels(waveform: Tensor, rate: int, columns: Columns, size: int, edges: Floats) -> Floats:
    """(F, T) in dBFS, with windows of one size."""
    per_column = max(1, math.ceil(columns.width / (size / 2)))  # windows
    padded = 2 * size  # samples the spectrum finely enough to show a sine's peak within 0.4 dB
    window = torch.hann_window(size)
    scale = (2 / float(window.sum())) ** 2 / (len(waveform) * per_column)
    at_once = max(1, _SAMPLES_AT_ONCE // (padded * len(waveform) * per_column))
    chunks = []
    for begin in range(0, columns.count, at_once):
        end = min(begin + at_once, columns.count)
        centres = torch.arange(begin * per_column, end * per_column, dtype=torch.float64) + 0.5
        starts = (columns.first + centres * (columns.width / per_column) - size / 2).round().long()
        spectrum = torch.fft.rfft(_slices(waveform, starts, size) * window, n=padded)
        power = (spectrum.real.square() + spectrum.imag.square()).sum(dim=0)
        power = power.view(end - begin, per_column, -1).sum(dim=1) * scale
        decibels = 10 * power.clamp_(min=10 ** (FLOOR / 10)).log10()
        chunks.append(_to_rows(decibels.T.numpy(), edges * padded / rate))
    return np.concatenate(chunks, axis=1)


def _slices(waveform: Tensor, starts: Tensor, size: int) -> Tensor:
    """(C, len(starts), size): slices of the waveform, with silence outside it."""
    low, high = int(starts[0]), int(starts[-1]) + size
    length = waveform.shape[1]
    inside = waveform[:, min(max(low, 0), length) : min(max(high, 0), length)]
    before = min(max(-low, 0), high - low)
    after = high - low - before - inside.shape[1]
    padded = torch.nn.functional.pad(inside, (before, after))
    return padded.unfold(1, size, 1)[:, starts - low]


def _to_rows(bins: Floats, edges: Floats) -> Floats:
    """(bins, T) -> (F, T). A row takes its loudest bin; rows finer than bins are interpolated.

    edges: (F + 1,) in bins.
    """
    last = len(bins) - 1
    centres = np.clip(np.sqrt(edges[:-1] * edges[1:]), 0, last)
    lower = np.minimum(centres.astype(int), last - 1)
    fraction = (centres - lower)[:, None]
    interpolated = bins[lower] * (1 - fraction) + bins[lower + 1] * fraction
    bounds = np.clip(np.ceil(edges).astype(int), 0, last + 1)
    return _reduce(np.maximum, bins, bounds, interpolated, combine=np.maximum)


def _reduce(
    operation: np.ufunc,
    values: Floats,
    bounds: NDArray[np.integer[Any]],
    initial: Floats,
    combine: Callable[[Floats, Floats], Floats],
) -> Floats:
    """Reduce each values[bounds[i]:bounds[i + 1]] along the first axis, and combine it with initial[i].

    The result of an empty slice is initial[i]. bounds: rising integers.
    """
    result = initial.copy()
    full = bounds[1:] > bounds[:-1]
    if full.any():
        # Without the empty slices, each slice ends where the next one starts.
        reduced = operation.reduceat(values[: bounds[-1]], bounds[:-1][full], axis=0)
        result[full] = combine(reduced, initial[full])
    return result


@dataclass(frozen=True, kw_only=True)
class Outline:
    """One channel by columns.

    Attributes:
        low: (T,) lowest values.
        high: (T,) highest values.
        rms: (T,) roots of the mean squares.
    """

    low: Floats
    high: Floats
    rms: Floats


def outline(channel: Tensor, columns: Columns) -> Outline:
    """Compute the outline of a channel, interpolated if columns are finer than samples.

    Args:
        channel: (S,) float32 on the CPU.
        columns: The columns of time.
    """
    samples = channel.numpy()
    edges = np.linspace(columns.first, columns.last, columns.count + 1)
    lower = np.clip(np.floor(edges).astype(int), 0, len(samples) - 1)
    upper = np.minimum(lower + 1, len(samples) - 1)
    at_edges = samples[lower] + (samples[upper] - samples[lower]) * np.clip(edges - lower, 0, 1)
    bounds = np.clip(np.ceil(edges).astype(int), 0, len(samples))
    low, high = np.minimum(at_edges[:-1], at_edges[1:]), np.maximum(at_edges[:-1], at_edges[1:])
    mean_square = (at_edges[:-1] ** 2 + at_edges[1:] ** 2) / 2
    step = max(1, int(_SAMPLES_AT_ONCE / max(columns.width, 1)))
    for begin in range(0, columns.count, step):
        part = slice(begin, min(begin + step, columns.count))
        inside = bounds[part.start : part.stop + 1]
        values = samples[inside[0] : inside[-1]]
        inside = inside - inside[0]
        low[part] = _reduce(np.minimum, values, inside, low[part], combine=np.minimum)
        high[part] = _reduce(np.maximum, values, inside, high[part], combine=np.maximum)
        sums = _reduce(np.add, values * values, inside, mean_square[part], combine=lambda total, _: total)
        mean_square[part] = sums / np.maximum(np.diff(inside), 1)
    return Outline(low=low, high=high, rms=np.sqrt(mean_square))
