"""Initial weights of an autoencoder: nearly linear, reconstructing as much as its latents can hold.

With random weights, a decoder first learns that silence is better than noise, and stays there for long. So
the strided convolutions start as lossless lapped transforms: their kernel of two strides is that of the
modified discrete cosine transform. The decoder has the transposed filters. Where there are fewer channels
than coefficients, the principal components of sounds remain. Residual units start small, snakes nearly
linear.

Source: Princen and Bradley 1986, for the transform.

B batch, C channels, S samples, K coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.oobleck import ResidualUnit, SnakeBeta

_BRANCH = 0.01  # gain of the branch of a residual unit
STRAIGHT = 5.0  # log of beta, with which a snake is nearly linear
_DEVIATION = -5.0  # deviation of the posterior before its softplus: 0.007
_GAIN = 3.0  # between the layers
_OTHER = 1e-3  # size of unused filters


@torch.no_grad()
def initialise_autoencoder(autoencoder: Autoencoder, waveforms: Tensor) -> None:
    """Set all weights, with random ones from torch's global generator.

    Args:
        autoencoder: Autoencoder with plain weights.
        waveforms: Sounds (B, 2, S) to fit the weights to; more latents give a better fit.
    """
    encoder, decoder = (autoencoder.model[part] for part in ("encoder", "decoder"))
    for unit in autoencoder.modules():
        if isinstance(unit, SnakeBeta):
            unit.beta.fill_(STRAIGHT)
        elif isinstance(unit, ResidualUnit):
            initialise_residual_unit(unit)
    opening, *downs, posterior = _convolutions(encoder)
    first, *ups, last = _convolutions(decoder)
    mix = _sum_and_difference(waveforms.shape[1])
    _set(opening, _GAIN * _in_the_middle(mix, opening))
    _set(last, _in_the_middle(mix.T, last) / _GAIN)
    x = [_GAIN * mix @ item for item in waveforms]
    for down, up in zip(downs, reversed(ups), strict=True):
        filters = _lapped(len(x[0]), down.stride[0])
        x = [F.conv1d(item, filters, stride=down.stride, padding=down.padding) for item in x]
        rotation = _principal(x, min(down.out_channels, up.in_channels))
        x = [rotation @ item for item in x]
        filters = torch.einsum("ok,kct->oct", rotation, filters)
        _set(down, filters)
        _set(up, filters)
    latents = first.in_channels
    rotation = _principal(x, min(latents, len(x[0])))
    count = len(rotation)
    _set(posterior, _in_the_middle(rotation, posterior))
    # Measure the whole encoder, which is not quite linear.
    encoded = torch.cat([encoder(item[None])[0, :count] for item in waveforms], dim=1)
    deviation = encoded.std(dim=1).clamp(min=1e-6)
    posterior.weight[:count] /= deviation[:, None, None]
    _set(first, _in_the_middle(rotation.T * deviation, first))
    assert posterior.bias is not None
    posterior.bias[latents:] = _DEVIATION


def _convolutions(layers: Any) -> list[Any]:
    """All convolutions in order, except those of residual units."""
    convolutions: list[Any] = []
    for layer in layers.children():
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
            convolutions.append(layer)
        elif not isinstance(layer, ResidualUnit):
            convolutions += _convolutions(layer)
    return convolutions


def initialise_residual_unit(unit: ResidualUnit) -> None:
    """Initialise a residual unit close to the identity.

    Args:
        unit: Unit with plain weights.
    """
    for layer in unit.layers:
        if isinstance(layer, nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            assert layer.bias is not None
            layer.bias.zero_()
    last = unit.layers[-1]
    assert isinstance(last, nn.Conv1d)
    last.weight *= _BRANCH


def _set(layer: nn.Conv1d | nn.ConvTranspose1d, filters: Tensor) -> None:
    """Set the first filters of a layer; the others become small, and the bias zero."""
    layer.weight.normal_(std=_OTHER / layer.weight[0].numel() ** 0.5)
    layer.weight[: filters.shape[0], : filters.shape[1]] += filters
    if layer.bias is not None:
        layer.bias.zero_()


def _in_the_middle(matrix: Tensor, layer: nn.Conv1d) -> Tensor:
    """A kernel (outputs, inputs, size) that applies a matrix (outputs, inputs) at its middle."""
    size = layer.kernel_size[0]
    return F.pad(matrix[..., None], (size // 2, size - 1 - size // 2))


def _sum_and_difference(channels: int) -> Tensor:
    """An orthonormal matrix (C, C) whose first row is the middle of the stereo image."""
    if channels != 2:
        return torch.eye(channels)
    return torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)


def _lapped(channels: int, stride: int) -> Tensor:
    """The orthonormal modified discrete cosine transform of each channel: (C * stride, C, 2 * stride)."""
    time, number = torch.arange(2 * stride) + 0.5, torch.arange(stride) + 0.5
    waves = torch.cos(math.pi / stride * number[:, None] * (time + stride / 2))
    waves = waves * torch.sin(math.pi / (2 * stride) * time) * math.sqrt(2 / stride)
    return torch.einsum("ac,kt->akct", torch.eye(channels), waves).flatten(0, 1)


def _principal(x: Sequence[Tensor], room: int) -> Tensor:
    """The strongest components of items (K, S), orthonormal (room, K); the identity if all fit."""
    count = len(x[0])
    if count <= room:
        return torch.eye(count)
    moment = torch.stack([(item @ item.T).double() for item in x]).sum(dim=0)
    return torch.linalg.eigh(moment).eigenvectors.flip(1)[:, :room].T.float()
