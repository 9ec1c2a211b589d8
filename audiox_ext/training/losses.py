"""How far a sound is from what the autoencoder was given.

B batch, C channels, S samples, L latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

# Magnitudes (of a window that adds up to 1) below this are silence: -66 dB of a full-scale sine.
_FLOOR = 2.5e-4
_QUIET = 1e-3  # mean magnitude of samples, below which an item is measured by this


def views(waveforms: Tensor) -> Tensor:
    """(B, 2, S) stereo -> (B, 4, S): left, right, their sum and their difference, both halved.

    The sum holds what is in the middle, the difference where things are; each alone is missed by the others.
    """
    left, right = waveforms[:, 0], waveforms[:, 1]
    return torch.stack([left, right, (left + right) / 2, (left - right) / 2], dim=1)


def multi_resolution_stft(made: Tensor, wanted: Tensor, fft_sizes: Sequence[int]) -> Tensor:
    """Mean over the sizes of spectral convergence and the distance of log magnitudes. (B, C, S) both -> ().

    Convergence is taken item by item, or loud ones would be all that counts; a silent item is measured by the
    floor. Source: Yamamoto et al. 2020, arXiv 1910.11480. A size above S is left out; at least one must fit.
    """
    made, wanted = made.float(), wanted.float()
    sizes = [size for size in fft_sizes if size <= made.shape[-1]]
    return torch.stack([_stft_distance(made, wanted, size) for size in sizes]).mean()


def _stft_distance(made: Tensor, wanted: Tensor, size: int) -> Tensor:
    got, want = _magnitudes(made, size), _magnitudes(wanted, size)
    off, whole = (values.square().sum(dim=(1, 2, 3)).clamp(min=1e-12).sqrt() for values in (want - got, want))
    convergence = off / whole.clamp(min=_FLOOR * want[0].numel() ** 0.5)
    logs = F.l1_loss((got + _FLOOR).log(), (want + _FLOOR).log())
    return convergence.mean() + logs


def relative_l1(made: Tensor, wanted: Tensor) -> Tensor:
    """Mean distance of samples, item by item as a share of the mean magnitude. (B, C, S) both -> ().

    Spectra alone do not tell a layer which way to go from silence.
    """
    off, whole = (values.abs().mean(dim=(1, 2)) for values in (made - wanted, wanted))
    return (off / whole.clamp(min=_QUIET)).mean()


def _magnitudes(waveforms: Tensor, size: int) -> Tensor:
    """(B, C, S) -> (B, C, size // 2 + 1, frames); a sine of amplitude 1 gives 0.5 at its peak."""
    window = torch.hann_window(size, device=waveforms.device)
    spectrum = torch.stft(waveforms.flatten(0, 1), size, size // 4, window=window, return_complex=True)
    spectrum = spectrum.unflatten(0, waveforms.shape[:2])
    # The root of zero has no slope.
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=1e-12).sqrt() / window.sum()


def kl_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Mean over all values of the divergence of N(mean, deviation^2) from N(0, 1). (B, C, L) both -> ()."""
    variance = deviation.square()
    return 0.5 * (mean.square() + variance - variance.log() - 1).mean()
