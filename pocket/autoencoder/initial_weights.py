"""Where the training of an autoencoder starts: as a linear one that gives back what fits into its latents.

From what torch draws, a decoder first learns that silence is better than noise, and stays there for long: of
spectra alone no layer can tell which way to go, and what arrives through many random layers says too little
of the waveform. So the strided convolutions start as lapped transforms, a kernel of two strides being what
the modified discrete cosine transform has (Princen and Bradley 1986), which lose nothing: the decoder's are
their transposes. Where there are fewer channels than coefficients, the principal components of sounds stay.
Residual units start small, snakes nearly straight.

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

_BRANCH = 0.01  # gain of what a residual unit adds
STRAIGHT = 5.0  # of a snake, the logarithm by which its wave is divided
_DEVIATION = -5.0  # of the posterior, before its softplus: 0.007
_GAIN = 3.0  # between the layers
_OTHER = 1e-3  # size of the filters that carry nothing yet


@torch.no_grad()
def initialise_autoencoder(autoencoder: Autoencoder, waveforms: Tensor) -> None:
    """Set all weights; what is drawn comes from torch's global generator. waveforms: (B, 2, S), on which they
    are fitted: the more latents they have, the better. Weights must be plain, not normalised.
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
    # Of what the whole encoder makes, which is not quite linear.
    encoded = torch.cat([encoder(item[None])[0, :count] for item in waveforms], dim=1)
    deviation = encoded.std(dim=1).clamp(min=1e-6)
    posterior.weight[:count] /= deviation[:, None, None]
    _set(first, _in_the_middle(rotation.T * deviation, first))
    assert posterior.bias is not None
    posterior.bias[latents:] = _DEVIATION


def _convolutions(layers: Any) -> list[Any]:
    """In their order, but those of residual units."""
    convolutions: list[Any] = []
    for layer in layers.children():
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
            convolutions.append(layer)
        elif not isinstance(layer, ResidualUnit):
            convolutions += _convolutions(layer)
    return convolutions


def initialise_residual_unit(unit: ResidualUnit) -> None:
    """One that hardly changes anything yet."""
    for layer in unit.layers:
        if isinstance(layer, nn.Conv1d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            assert layer.bias is not None
            layer.bias.zero_()
    last = unit.layers[-1]
    assert isinstance(last, nn.Conv1d)
    last.weight *= _BRANCH


def _set(layer: nn.Conv1d | nn.ConvTranspose1d, filters: Tensor) -> None:
    """The first of its weights; the others small, and no bias."""
    layer.weight.normal_(std=_OTHER / layer.weight[0].numel() ** 0.5)
    layer.weight[: filters.shape[0], : filters.shape[1]] += filters
    if layer.bias is not None:
        layer.bias.zero_()


def _in_the_middle(matrix: Tensor, layer: nn.Conv1d) -> Tensor:
    """(outputs, inputs) -> (outputs, inputs, kernel), of a kernel that looks at one place."""
    size = layer.kernel_size[0]
    return F.pad(matrix[..., None], (size // 2, size - 1 - size // 2))


def _sum_and_difference(channels: int) -> Tensor:
    """(C, C), orthonormal; what is in the middle is all in the first."""
    if channels != 2:
        return torch.eye(channels)
    return torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)


def _lapped(channels: int, stride: int) -> Tensor:
    """(C * stride, C, 2 * stride): of each channel its modified discrete cosine transform, orthonormal."""
    time, number = torch.arange(2 * stride) + 0.5, torch.arange(stride) + 0.5
    waves = torch.cos(math.pi / stride * number[:, None] * (time + stride / 2))
    waves = waves * torch.sin(math.pi / (2 * stride) * time) * math.sqrt(2 / stride)
    return torch.einsum("ac,kt->akct", torch.eye(channels), waves).flatten(0, 1)


def _principal(x: Sequence[Tensor], room: int) -> Tensor:
    """(room, K), orthonormal: what is strongest in items (K, S), or (K, K) that changes nothing."""
    count = len(x[0])
    if count <= room:
        return torch.eye(count)
    moment = torch.stack([(item @ item.T).double() for item in x]).sum(dim=0)
    return torch.linalg.eigh(moment).eigenvectors.flip(1)[:, :room].T.float()
