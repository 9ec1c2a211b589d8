"""Losses: differences between generated and target sounds, and between velocities.

B batch, C channels, S samples, L latents.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..autoencoder.latent_scale import DEVIATION

_FLOOR = 2.5e-4  # least magnitude to divide by: -66 dB of a full-scale sine
_LOG_FLOOR = 1e-3  # added before logarithms, so that leakage into silence does not dominate
_SOFT = 0.1  # least level of a channel, as a fraction of the item's
_QUIET = 1e-3  # least root mean square to divide by
_SMOOTHING = 14  # samples of the low-pass filter, which removes everything above a sixth of the rate
_STRIDE = 3  # samples
_EVEN = 0.85  # exponent of the weights; with 1 all items would count the same
_WEIGHTS = (0.3, 30.0)  # least and greatest weight of an item
_TIMES = 16  # bins of the times
_NEW = 0.02  # weight of the newest error in the running mean


def stereo_views(waveforms: Tensor) -> Tensor:
    """Compute the channels that losses compare.

    Args:
        waveforms: Stereo sounds (B, 2, S).

    Returns:
        Left, right, half their sum and half their difference (B, 4, S). The sum contains the middle of the
        stereo image, the difference its width; left and right alone would neglect both.
    """
    left, right = waveforms[:, 0], waveforms[:, 1]
    return torch.stack([left, right, (left + right) / 2, (left - right) / 2], dim=1)


def multi_resolution_stft(
    prediction: Tensor, target: Tensor, fft_sizes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Compare spectra at several resolutions.

    The convergence is normalised per item and channel, so that loud sounds do not dominate. A soft channel is
    divided by at least a tenth of the level of its item.

    Args:
        prediction: Generated sounds (B, C, S).
        target: Target sounds (B, C, S).
        fft_sizes: Window lengths; those above S are skipped, and at least one must fit.

    Returns:
        Spectral convergence and mean distance of log magnitudes, both averaged over the sizes.

    Source: Yamamoto et al. 2020, arXiv 1910.11480.
    """
    prediction, target = prediction.float(), target.float()
    sizes = [size for size in fft_sizes if size <= prediction.shape[-1]]
    distances = [_stft_distance(prediction, target, size) for size in sizes]
    convergence, logs = (torch.stack(values).mean() for values in zip(*distances, strict=True))
    return convergence, logs


def _stft_distance(prediction: Tensor, target: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Convergence and log distance at one window length."""
    got, want = _magnitudes(prediction, size), _magnitudes(target, size)
    floor = (_SOFT * _root(want, 1)).clamp(min=_FLOOR)[:, None]
    convergence = _root(want - got, 2) / torch.maximum(_root(want, 2), floor)
    return convergence.mean(), F.l1_loss((got + _LOG_FLOOR).log(), (want + _LOG_FLOOR).log())


def relative_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Compare the low frequencies of waveforms, relative to the level of the target.

    Spectra alone give no gradient towards the right waveform from silence. High frequencies are left out,
    because latents do not encode their phase, and a waveform loss would silence noise and clicks.

    Args:
        prediction: Generated sounds (B, C, S).
        target: Target sounds (B, C, S).

    Returns:
        The mean over items and channels of root mean square error divided by level.
    """
    want = _slow(target)
    floor = (_SOFT * _root(target, 1)).clamp(min=_QUIET)[:, None]
    return (_root(_slow(prediction) - want, 2) / torch.maximum(_root(want, 2), floor)).mean()


def _slow(waveforms: Tensor) -> Tensor:
    """Low-pass filter and decimate: (B, C, S) -> (B, C, S / stride)."""
    kernel = torch.hann_window(_SMOOTHING, periodic=False, device=waveforms.device)
    prediction = F.conv1d(
        waveforms.flatten(0, 1)[:, None], (kernel / kernel.sum())[None, None], stride=_STRIDE
    )
    return prediction.unflatten(0, waveforms.shape[:2])[:, :, 0]


def _root(values: Tensor, kept_dims: int) -> Tensor:
    """Root mean squares over all but the first dimensions, whose number is `kept_dims`."""
    return values.square().flatten(kept_dims).mean(dim=-1).clamp(min=1e-14).sqrt()


def _magnitudes(waveforms: Tensor, size: int) -> Tensor:
    """(B, C, S) -> (B, C, size // 2 + 1, frames); a sine of amplitude 1 gives 0.5 at its peak."""
    window = torch.hann_window(size, device=waveforms.device)
    spectrum = torch.stft(waveforms.flatten(0, 1), size, size // 4, window=window, return_complex=True)
    spectrum = spectrum.unflatten(0, waveforms.shape[:2])
    # The gradient of the root is infinite at zero.
    power = spectrum.real.square() + spectrum.imag.square()
    return power.clamp(min=1e-12).sqrt() / window.sum()


def kl_divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Compute the divergence of N(mean, deviation^2) from N(0, 1).

    Args:
        mean: Means (B, C, L).
        deviation: Standard deviations (B, C, L).

    Returns:
        The mean over all values.
    """
    variance = deviation.square()
    return 0.5 * (mean.square() + variance - variance.log() - 1).mean()


def weighted_errors(prediction: Tensor, target: Tensor, latents: Tensor, usual: float = DEVIATION) -> Tensor:
    """Compute squared errors of velocities, with more weight for soft and short sounds.

    The plain error grows with the power of the sound: a click would count a thousandth of an engine, and be
    learnt last. So each item is weighted by nearly the inverse of its power, within limits.

    Args:
        prediction: Predicted velocities (B, C, L).
        target: Target velocities (B, C, L).
        latents: Latents of the sounds (B, C, L), with 0 for silence.
        usual: Standard deviation of latents at weight 1.

    Returns:
        One weighted error per item (B,).
    """
    power = latents.float().square().mean(dim=(1, 2)) / usual**2
    weights = power.clamp(min=1e-6).pow(-_EVEN).clamp(*_WEIGHTS)
    return (prediction.float() - target.float()).square().mean(dim=(1, 2)) * weights


class TypicalErrors(nn.Module):
    """Running mean of the error at each time, to give all times equal weight in the loss.

    Near time 0 the velocity is mostly noise that cannot be predicted, so its error is many times that of the
    times that decide what the sound will be.

    Source: Karras et al. 2024, arXiv 2312.02696, section 2.2 (learnt there, a running mean here).
    """

    errors: Tensor

    def __init__(self) -> None:
        """Start with equal errors at all times."""
        super().__init__()
        self.register_buffer("errors", torch.ones(_TIMES))

    def balanced(self, errors: Tensor, places: Tensor) -> Tensor:
        """Divide errors by the typical error at their time.

        Args:
            errors: Errors (B,).
            places: Positions of their times in the range of times (B,), in [0, 1).

        Returns:
            The mean, scaled to the typical mean of all errors.
        """
        usual = self.errors[self._bins(places)]
        return (errors * (self.errors.mean() / usual)).mean()

    @torch.no_grad()
    def update(self, errors: Tensor, places: Tensor) -> None:
        """Update the running means.

        Args:
            errors: Errors (B,) of a step.
            places: Positions of their times (B,), in [0, 1).
        """
        for number, error in zip(self._bins(places).tolist(), errors, strict=True):
            self.errors[number].lerp_(error.float(), _NEW)

    def _bins(self, places: Tensor) -> Tensor:
        """Bin of each position."""
        return (places * _TIMES).long().clamp(0, _TIMES - 1).to(self.errors.device)
