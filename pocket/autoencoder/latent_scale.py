"""Latents of mean 0 and of the deviation that the diffusion's noise levels suit.

That is less than 1: what a sound is, such as its pitch, shows in hundreds of latents at once, and so through
noise that is many times stronger than each. Times are drawn evenly, and of latents of deviation 1 it would be
settled in the last few hundredths of them, which are hardly ever trained (Chen 2023, arXiv 2301.10972).

The published layout has no field for a scale, so it goes into the convolutions beside the latents.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from audiox_ext.networks.autoencoder.autoencoder import Autoencoder

DEVIATION = 0.25


@torch.no_grad()
def normalise_latents(autoencoder: Autoencoder, waveforms: Iterable[Tensor]) -> Tensor:
    """Take from each channel of the latents its mean and bring it to `DEVIATION` over batches (B, 2, S),
    sampling included. Returns what it was divided by, (C,). Weights must be plain, not normalised.

    What the decoder makes of the posterior's mean does not change, but next to both ends, where its first
    convolution sees zeros beyond them, which now mean the mean. The posterior's own deviation is a
    softplus, and is shifted so that the typical one is divided rightly; others are off by a few per cent,
    which only changes how noisy a sample is.
    """
    squares, sums, deviations, count = [], [], [], 0
    for batch in waveforms:
        mean, deviation = autoencoder.posterior(batch)
        squares.append((mean.square() + deviation.square()).double().sum(dim=(0, 2)))
        sums.append(mean.double().sum(dim=(0, 2)))
        deviations.append(deviation.double().sum(dim=(0, 2)))
        count += mean.shape[0] * mean.shape[2]
    total = [torch.stack(values).sum(0) / count for values in (squares, sums, deviations)]
    by = (total[0] - total[1].square()).clamp(min=1e-12).sqrt().float() / DEVIATION
    _change(autoencoder, total[1].float(), by, total[2].float())
    return by


def _change(autoencoder: Autoencoder, centre: Tensor, by: Tensor, typical: Tensor) -> None:
    """Each (C,): what is taken away, the divisors, and the mean deviation of the posterior."""
    first, last = _convolutions(autoencoder)
    channels = by.numel()
    assert last.bias is not None
    assert first.bias is not None
    last.weight[:channels] /= by[:, None, None]
    last.bias[:channels] = (last.bias[:channels] - centre) / by
    last.bias[channels:] += _softplus_inverse(typical / by) - _softplus_inverse(typical)
    first.bias += first.weight.sum(dim=-1) @ centre
    first.weight *= by[None, :, None]


def _convolutions(autoencoder: Autoencoder) -> tuple[nn.Conv1d, nn.Conv1d]:
    """The decoder's first and the encoder's last."""
    first, last = autoencoder.model["decoder"].layers[0], autoencoder.model["encoder"].layers[-1]  # type: ignore[index]
    assert isinstance(first, nn.Conv1d)
    assert isinstance(last, nn.Conv1d)
    return first, last


def _softplus_inverse(x: Tensor) -> Tensor:
    return x + (-torch.expm1(-x)).clamp(min=1e-12).log()
