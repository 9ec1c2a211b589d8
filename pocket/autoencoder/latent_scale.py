"""Scales latents to mean 0 and to the standard deviation that suits the noise levels of the diffusion.

That deviation is below 1. The identity of a sound, such as its pitch, is visible in hundreds of latents at
once, even under noise many times stronger than each. With deviation 1 and uniform times, it would be decided
in the last few hundredths of the times, which are hardly ever trained. Source: Chen 2023, arXiv 2301.10972.

The published layout has no field for a scale, so the convolutions beside the latents contain it.

B batch, C latent channels, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audiox_ext.networks.autoencoder.autoencoder import Autoencoder
from audiox_ext.networks.autoencoder.oobleck import OobleckDecoder, OobleckEncoder

DEVIATION = 0.25


@torch.no_grad()
def normalise_latents(autoencoder: Autoencoder, waveforms: Iterable[Tensor]) -> Tensor:
    """Scale each latent channel to mean 0 and deviation `DEVIATION`, including the sampling of the posterior.

    The decoded mean of the posterior stays the same, except near both ends, where the padding zeros of the
    first convolution now stand for the mean. The deviation of the posterior is a softplus: it is shifted so
    that the typical value is exact, and others are off by a few per cent, which only affects the noise of
    samples.

    Args:
        autoencoder: Autoencoder with plain weights.
        waveforms: Batches of sounds (B, 2, S) to measure.

    Returns:
        The divisor of each channel (C,).
    """
    squares, sums, deviations, count = [], [], [], 0
    for batch in waveforms:
        mean, deviation = autoencoder.posterior(batch)
        squares.append((mean.square() + deviation.square()).double().sum(dim=(0, 2)))
        sums.append(mean.double().sum(dim=(0, 2)))
        deviations.append(deviation.double().sum(dim=(0, 2)))
        count += mean.shape[0] * mean.shape[2]
    total = [torch.stack(values).sum(0) / count for values in (squares, sums, deviations)]
    divisors = (total[0] - total[1].square()).clamp(min=1e-12).sqrt().float() / DEVIATION
    _change(autoencoder, total[1].float(), divisors, total[2].float())
    return divisors


def _change(autoencoder: Autoencoder, centre: Tensor, divisors: Tensor, typical: Tensor) -> None:
    """Change the weights, given means, divisors and the mean deviation of the posterior, each (C,)."""
    first, last = _convolutions(autoencoder)
    channels = divisors.numel()
    assert last.bias is not None
    assert first.bias is not None
    last.weight[:channels] /= divisors[:, None, None]
    last.bias[:channels] = (last.bias[:channels] - centre) / divisors
    last.bias[channels:] += _softplus_inverse(typical / divisors) - _softplus_inverse(typical)
    first.bias += first.weight.sum(dim=-1) @ centre
    first.weight *= divisors[None, :, None]


def _convolutions(autoencoder: Autoencoder) -> tuple[nn.Conv1d, nn.Conv1d]:
    """The first convolution of the decoder and the last of the encoder."""
    decoder, encoder = autoencoder.model["decoder"], autoencoder.model["encoder"]
    assert isinstance(decoder, OobleckDecoder)
    assert isinstance(encoder, OobleckEncoder)
    first, last = decoder.layers[0], encoder.layers[-1]
    assert isinstance(first, nn.Conv1d)
    assert isinstance(last, nn.Conv1d)
    return first, last


def _softplus_inverse(x: Tensor) -> Tensor:
    """The value whose softplus is x."""
    return x + (-torch.expm1(-x)).clamp(min=1e-12).log()
