"""An encoder that tells strengths, as near as it gets: for sounds of a user that are edited or varied.

Its first stages are those of the encoder of waves. Behind them each atom has filters of its own, a quarter of
a turn apart, and snakes that are strongly bent, which tell how strong an answer is whatever its sign; the
last convolution reads the strengths off them by least squares. Gradients hardly ever bend snakes that
begin nearly straight, and are not needed.

B batch, S samples, T tokens, K atoms in both channels, H channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..networks.autoencoder import Autoencoder
from .autoencoder_start import STRAIGHT, start_unit
from .strength_decoder import CONTEXT, heard_inside
from .strengths import LatentMap, atoms, strengths

_TURNS = (3.0, 100.0)  # how fast the two snakes of an atom wave: one tells loud sounds apart, one soft ones
_BENT = -2.0  # of a snake, the logarithm by which its wave is divided
_DEVIATION = -10.0  # of the posterior, before its softplus
_RIDGE = 0.1  # of the features' power


@torch.no_grad()
def build_encoder(autoencoder: Autoencoder, waves: Autoencoder, rate: int) -> None:
    """Set the encoder's weights, but the last convolution's. waves: trained, with the same strides but the
    last; of its last stage's channels as many directions are kept as the encoder has there. What is drawn
    comes from torch's global generator. Weights must be plain.
    """
    ratio = autoencoder.config.downsampling_ratio
    *same, closed, outer, bent, _ = autoencoder.model["encoder"].layers  # type: ignore[misc]
    *inner_same, inner_closed, _, _ = waves.model["encoder"].layers  # type: ignore[misc]
    for layer, inner in zip(
        [*same, *closed.layers[:-1]], [*inner_same, *inner_closed.layers[:-1]], strict=True
    ):
        layer.load_state_dict(inner.state_dict())
    down = outer.layers[-1]
    shapes = atoms(rate, ratio)
    shapes = torch.stack([shapes, _quarter_turned(shapes)], dim=1)
    layers: Any = waves.model["encoder"].layers
    told, _ = heard_inside(layers[:-2], shapes.flatten(0, 1), ratio, down)  # (2 sides * atoms * 2, H, kernel)
    moment = torch.einsum("khn,kgn->hg", told, told).double()
    kept = torch.linalg.eigh(moment).eigenvectors.flip(1)[:, : down.in_channels].T.to(told)
    closed.layers[-1].weight.copy_(torch.einsum("hcn,rh->rcn", inner_closed.layers[-1].weight, kept))
    closed.layers[-1].bias.copy_(kept @ inner_closed.layers[-1].bias)
    *units, snake, _ = outer.layers
    for unit in units:
        start_unit(unit)
    snake.alpha.zero_()
    snake.beta.fill_(STRAIGHT)
    filters = torch.einsum("khn,rh->krn", told, kept)
    filters = filters / filters.square().sum(dim=(1, 2), keepdim=True).clamp(min=1e-9)
    count = min(len(filters), down.out_channels)
    down.weight.zero_()
    down.bias.zero_()
    down.weight[:count] = filters[:count]
    bent.alpha.copy_(torch.tensor(_TURNS).repeat(-(-down.out_channels // 2))[: down.out_channels].log())
    bent.beta.fill_(_BENT)


@torch.no_grad()
def fit_encoder(autoencoder: Autoencoder, waveforms: Iterable[Tensor], rate: int, mapped: LatentMap) -> float:
    """Set the last convolution. waveforms: batches (B, 2, S). mapped: what the latents are. Those of silence
    are exact. Returns how much of the power of the waveforms' latents is told, 0 to 1.
    """
    ratio = autoencoder.config.downsampling_ratio
    last = autoencoder.model["encoder"].layers[-1]  # type: ignore[index]
    assert isinstance(last, nn.Conv1d)
    assert last.bias is not None
    silent = _features(autoencoder, torch.zeros(1, 2, 2 * CONTEXT * ratio))[0, :, CONTEXT]
    size, channels = silent.numel() * last.kernel_size[0], last.out_channels // 2
    moment, cross = torch.zeros(size, size).double(), torch.zeros(size, channels).double()
    power = 0.0
    for batch in waveforms:
        x = _unfolded(_features(autoencoder, batch), silent, last)
        y = (
            (mapped.latents(strengths(batch, rate, ratio)) - mapped.silence[:, None])
            .transpose(1, 2)
            .flatten(0, 1)
            .double()
        )
        moment += x.T @ x
        cross += x.T @ y
        power += float(y.square().sum())
    ridge = _RIDGE * moment.diagonal().mean() * torch.eye(size)
    weight = torch.linalg.solve(moment + ridge, cross)
    missed = power - 2 * float((weight * cross).sum()) + float((weight * (moment @ weight)).sum())
    filters = weight.T.unflatten(1, (-1, last.kernel_size[0])).to(last.weight)
    last.weight.zero_()
    last.weight[:channels] = filters
    last.bias[:channels] = mapped.silence - filters.sum(dim=2) @ silent
    last.bias[channels:] = _DEVIATION
    return 1 - max(0.0, missed) / power


def _quarter_turned(shapes: Tensor) -> Tensor:
    """(K, N) -> the same, each frequency a quarter of a turn later."""
    spectrum = torch.fft.rfft(shapes)
    return torch.fft.irfft(-1j * spectrum, shapes.shape[-1])


def _features(autoencoder: Autoencoder, waveforms: Tensor) -> Tensor:
    """(B, H, T)."""
    layers: Any = autoencoder.model["encoder"].layers
    return layers[:-1](waveforms)


def _unfolded(features: Tensor, silent: Tensor, last: nn.Conv1d) -> Tensor:
    """(B * T, H * kernel) in double precision: what each output of the last convolution sees, from silence
    on; zeros beyond the ends.
    """
    side = last.kernel_size[0] // 2
    seen = F.pad(features, (side, side)).unfold(2, last.kernel_size[0], 1)
    return (seen - silent[:, None, None]).permute(0, 2, 1, 3).flatten(2).flatten(0, 1).double()
