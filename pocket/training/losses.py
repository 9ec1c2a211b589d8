"""How far a sound is from what the autoencoder was given.

B batch, C channels, S samples, L latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..autoencoder.latent_scale import DEVIATION

_FLOOR = 2.5e-4  # of magnitudes (of a window that adds up to 1): silence, -66 dB of a full-scale sine
_LOG_FLOOR = 1e-3  # with less, what leaks into silence is all that logarithms tell
_SOFT = 0.1  # share of an item's level
_QUIET = 1e-3  # root mean square below which an item is measured by this
_SMOOTHING = 14  # samples that waves are smoothed over to be compared: nothing is left at a 6th of the rate
_STRIDE = 3  # samples
_EVEN = 0.85  # at 1 all items would count the same
_WEIGHTS = (0.3, 30.0)  # the lightest and the heaviest item
_TIMES = 16  # that are told apart
_NEW = 0.02  # share of the newest in what is usual


def stereo_views(waveforms: Tensor) -> Tensor:
    """(B, 2, S) stereo -> (B, 4, S): left, right, their sum and their difference, both halved.

    The sum holds what is in the middle, the difference where things are; each alone is missed by the others.
    """
    left, right = waveforms[:, 0], waveforms[:, 1]
    return torch.stack([left, right, (left + right) / 2, (left - right) / 2], dim=1)


def multi_resolution_stft(
    prediction: Tensor, target: Tensor, fft_sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Spectral convergence and distance of log magnitudes, means over the sizes. (B, C, S) both -> (), ().

    Convergence is taken item by item and channel by channel, or what is loud would be all that counts; a soft
    channel is measured by a tenth of the item, a silent item by the floor. Source: Yamamoto et al. 2020,
    arXiv 1910.11480. A size above S is left out; at least one must fit.
    """
    prediction, target = prediction.float(), target.float()
    sizes = [size for size in fft_sizes if size <= prediction.shape[-1]]
    distances = [_stft_distance(prediction, target, size) for size in sizes]
    convergence, logs = (torch.stack(values).mean() for values in zip(*distances, strict=True))
    return convergence, logs


def _stft_distance(prediction: Tensor, target: Tensor, size: int) -> tuple[Tensor, Tensor]:
    got, want = _magnitudes(prediction, size), _magnitudes(target, size)
    floor = (_SOFT * _root(want, 1)).clamp(min=_FLOOR)[:, None]
    convergence = _root(want - got, 2) / torch.maximum(_root(want, 2), floor)
    return convergence.mean(), F.l1_loss((got + _LOG_FLOOR).log(), (want + _LOG_FLOOR).log())


def relative_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean root of the squared error of the slow waves, item by item and channel by channel as a share of the
    wanted. (B, C, S) both -> ().

    Spectra alone do not tell a layer which way to go from silence. Above, no wave is asked for, or whatever
    few latents cannot tell the phase of, noise and clicks, would best be silent. A soft channel is measured
    by a tenth of the item.
    """
    want = _slow(target)
    floor = (_SOFT * _root(target, 1)).clamp(min=_QUIET)[:, None]
    return (_root(_slow(prediction) - want, 2) / torch.maximum(_root(want, 2), floor)).mean()


def _slow(waveforms: Tensor) -> Tensor:
    """(B, C, S) -> (B, C, S / stride), smoothed."""
    kernel = torch.hann_window(_SMOOTHING, periodic=False, device=waveforms.device)
    prediction = F.conv1d(
        waveforms.flatten(0, 1)[:, None], (kernel / kernel.sum())[None, None], stride=_STRIDE
    )
    return prediction.unflatten(0, waveforms.shape[:2])[:, :, 0]


def _root(values: Tensor, kept_dims: int) -> Tensor:
    """Root mean squares over all but the first dimensions."""
    return values.square().flatten(kept_dims).mean(dim=-1).clamp(min=1e-14).sqrt()


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


def weighted_errors(prediction: Tensor, target: Tensor, latents: Tensor, usual: float = DEVIATION) -> Tensor:
    """Mean squared error of velocities (B, C, L), soft and short sounds counting for more. -> (B,).

    As it is, the error goes with the power of what is to be made: a click would count a thousandth of an
    engine, and be learnt last. An item's weight is nearly one over its power, within limits: that of latents
    (B, C, L), 0 being silence, against those of the usual deviation.
    """
    power = latents.float().square().mean(dim=(1, 2)) / usual**2
    weights = power.clamp(min=1e-6).pow(-_EVEN).clamp(*_WEIGHTS)
    return (prediction.float() - target.float()).square().mean(dim=(1, 2)) * weights


class TypicalErrors(nn.Module):
    """What the error at each time usually is, by which errors are to be divided: so all times count the same.

    Next to time 0 the velocity is mostly noise that nobody could tell from the sound, and its error is many
    times that of the times at which it is settled what is heard. Source: Karras et al. 2024, arXiv
    2312.02696, section 2.2 (there it is learnt; here it is an average over the last steps).
    """

    errors: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("errors", torch.ones(_TIMES))

    def balanced(self, errors: Tensor, places: Tensor) -> Tensor:
        """errors (B,) at places (B,) in [0, 1) of the times -> (), as large as their mean usually is."""
        usual = self.errors[self._bins(places)]
        return (errors * (self.errors.mean() / usual)).mean()

    @torch.no_grad()
    def update(self, errors: Tensor, places: Tensor) -> None:
        """Take in those of a step."""
        for number, error in zip(self._bins(places).tolist(), errors, strict=True):
            self.errors[number].lerp_(error.float(), _NEW)

    def _bins(self, places: Tensor) -> Tensor:
        return (places * _TIMES).long().clamp(0, _TIMES - 1).to(self.errors.device)
