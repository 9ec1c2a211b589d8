"""Represents sound by the amplitudes of its sinusoids and noise bands, without phases.

Latents that hold waveforms depend on the phase of each wave. A prompt says nothing about phases, so a small
network would waste its capacity on them. Amplitudes do depend on the prompt. Sound that is made from them has
new phases (Serra and Smith 1990, "Spectral modeling synthesis").

A token is `ratio` samples, one latent of an autoencoder with that ratio. Sinusoids are measured in windows of
two tokens, and made at multiples of one turn per token, so that the output of the same filter continues
from token to token. Noise is the rest, measured in four parts per token.

Few sounds occur at a time, and left and right are similar. Latents are therefore the principal components
of the spectral values, without their mean, the strongest ones scaled to similar size. Standardised values
around 0 suit the v objective: if the data were small beside the noise of time 1, the network would have to
pass on the noise in all channels.

B batch, S samples, T tokens, K latents per token, P spectral values per token: sinusoids and then noise bands
of the left channel, each band in its parts; then those of the right channel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...config import AutoencoderConfig
from ...errors import ConfigError
from .oobleck import OobleckDecoder

NOISE_PARTS = 4  # parts of a token in which noise is measured
REACH = 3  # tokens on either side that the spectral values of a token depend on, at most
_LOWEST, _OCTAVES = 110.0, 5  # hertz; semitones are separate from here on, for so many octaves
_FIRST_TURN = 4  # turns per token of the lowest sinusoid, if that is below the lowest semitone
_WIDE = 3  # semitones per band above
_HIGHEST = 0.475  # of the sample rate
_NOISE_BORDERS = (0.0, 200.0, 600.0, 1400.0, 3000.0)  # hertz; the last band ends at the highest frequency
_TONAL = 4.0  # times the median around it: a peak that is not due to noise
_AROUND, _PEAK = 24, 3  # bins on either side: for that median, and for the width of a peak
_SOFTEST = 1e-4  # smallest magnitude of a peak
_NOISE_GAIN = 2.0  # a band of full-scale noise would have half the amplitude of a sinusoid
_SCALES = (8.0, 4.0)  # for sinusoids and noise: few sinusoids sound at a time
_LEAST = 1e-3  # of the strongest component's power; weaker components are not scaled up further
_EVEN = 0.4  # this fraction of the components gets about the same power, the others less


@dataclass(frozen=True)
class LatentMap:
    """A linear map between spectral values and latents.

    Attributes:
        components: (P, K), the spectral values of each latent.
        centre: (P,), the spectral values of latents of 0.
    """

    components: Tensor
    centre: Tensor

    @classmethod
    def fit(cls, values: Tensor, count: int) -> LatentMap:
        """Fit `count` (K) latents to the spectral values (B, P, T) of many sounds."""
        centre = values.mean(dim=(0, 2))
        rest = values - centre[:, None]
        moment = torch.einsum("bpt,bqt->pq", rest, rest).double() / (len(values) * values.shape[2])
        powers, directions = (part.flip(-1) for part in torch.linalg.eigh(moment))
        powers, directions = powers[:count].clamp(min=0), directions[:, :count]
        sizes = (powers + powers[int(_EVEN * count)].clamp(min=_LEAST * float(powers[0]))).sqrt()
        sizes = sizes * (powers / sizes.square()).mean().sqrt()
        return cls((directions * sizes).to(values), centre)

    def to_latents(self, values: Tensor) -> Tensor:
        """Turn spectral values (B, P, T) into latents (B, K, T)."""
        rest = values - self.centre.to(values)[:, None]
        return torch.einsum("kp,bpt->bkt", self._inverse.to(values), rest)

    @cached_property
    def silence(self) -> Tensor:
        """The latents of a token of silence, (K,)."""
        return self.to_latents(torch.zeros_like(self.centre)[None, :, None])[0, :, 0]

    @cached_property
    def _inverse(self) -> Tensor:
        """The pseudo-inverse of the components, (K, P)."""
        return torch.linalg.pinv(self.components)

    def to_spectrum(self, latents: Tensor) -> Tensor:
        """Turn latents (B, K, T) into the nearest spectral values (B, P, T)."""
        return torch.einsum("pk,bkt->bpt", self.components, latents) + self.centre[:, None]


def check_spectral_sizes(config: AutoencoderConfig, rate: int) -> None:
    """Check that a decoder has enough channels for the spectral values.

    Raises:
        ConfigError: There are more latents than values, or too few channels.
    """
    count = count_spectral_values(rate, config.downsampling_ratio)
    if config.latent_dim > count:
        raise ConfigError(
            f"latent_dim is {config.latent_dim}; at {rate} Hz and {config.downsampling_ratio} samples a "
            f"latent there are only {count} spectral values."
        )
    squares = config.decoder.channels * config.decoder.c_mults[-1]
    if squares < 2 * count:
        raise ConfigError(
            f"The decoder's first layer has {squares} channels; it needs {2 * count}, two per spectral value."
        )


@torch.no_grad()
def read_latent_map(
    decoder: OobleckDecoder, rate: int, ratio: int, device: torch.device | str | None = None
) -> LatentMap:
    """Read the map from a spectral decoder: its first layer turns latents into angles and their negatives.

    Args:
        decoder: The decoder.
        rate: Sample rate in hertz.
        ratio: Samples per token.
        device: Device of the decoder.
    """
    first, count = decoder.layers[0], decoder.config.latent_dim
    gains = compute_angle_gains(rate, ratio)
    angles = slice(0, 2 * len(gains), 2)
    # The layer is run instead of reading its weights, which may be cast, patched or folded only when it runs.
    units = torch.zeros(count + 1, count, 1)
    units[:count, :, 0] = torch.eye(count)
    outputs = first(units.to(device))[:, angles, 0].float().cpu()
    centre = outputs[count]
    return LatentMap((outputs[:count] - centre).T / gains[:, None], centre / gains)


@dataclass(frozen=True)
class Band:
    """A band of sinusoids, in hertz: where they are measured (low to high) and where one is made."""

    low: float
    high: float
    frequency: float


def list_sinusoid_bands(rate: int, ratio: int) -> tuple[Band, ...]:
    """List the bands of sinusoids, from the lowest."""
    turn = rate / ratio
    below = [number for number in range(_FIRST_TURN, 1000) if (number + 0.5) * turn < _LOWEST]
    bands = [Band((n - 0.5) * turn, (n + 0.5) * turn, n * turn) for n in below]
    low = bands[-1].high if bands else _LOWEST * 2 ** (-1 / 24)
    number = 0
    while True:
        step = 1 if number < 12 * _OCTAVES else _WIDE
        high = _LOWEST * 2 ** ((number + step - 0.5) / 12)
        if high > _HIGHEST * rate:
            return tuple(bands)
        bands.append(Band(low, high, max(1, round(math.sqrt(low * high) / turn)) * turn))
        low, number = high, number + step


def list_noise_bands(rate: int) -> tuple[tuple[float, float], ...]:
    """List the noise bands as (low, high) in hertz."""
    borders = [border for border in _NOISE_BORDERS if border < rate / 2] + [rate / 2]
    return tuple(pairwise(borders))


def count_spectral_values(rate: int, ratio: int) -> int:
    """Count the spectral values of a token (P)."""
    return 2 * (len(list_sinusoid_bands(rate, ratio)) + NOISE_PARTS * len(list_noise_bands(rate)))


def measure_spectrum(waveforms: Tensor, rate: int, ratio: int) -> Tensor:
    """Measure spectral values (B, P, S // ratio) of waveforms (B, 2, S); silence gives 0."""
    count = waveforms.shape[-1] // ratio
    sinusoids, rest = _sinusoids(waveforms[..., : count * ratio], rate, ratio)
    noise = _noise(rest, rate, ratio) * _NOISE_GAIN
    amplitudes = torch.cat([sinusoids, noise], dim=2).flatten(1, 2)
    angles = amplitudes.clamp(0, 1).sqrt().asin()
    return angles / compute_angle_gains(rate, ratio)[:, None].to(angles)


def compute_angle_gains(rate: int, ratio: int) -> Tensor:
    """Compute gains (P,): an amplitude is the squared sine of its spectral value times the gain."""
    bands, noise = len(list_sinusoid_bands(rate, ratio)), NOISE_PARTS * len(list_noise_bands(rate))
    return 1 / torch.tensor([_SCALES[0]] * bands + [_SCALES[1]] * noise).repeat(2)


def make_atoms(rate: int, ratio: int) -> Tensor:
    """Compute the sound of an amplitude of 1, (P / 2, 2 * ratio), from half a token before its token."""
    time = torch.arange(2 * ratio) - ratio // 2
    window = torch.hann_window(2 * ratio)
    sinusoids = [
        window * torch.cos(2 * math.pi * band.frequency / rate * time)
        for band in list_sinusoid_bands(rate, ratio)
    ]
    return torch.stack(sinusoids + _noise_atoms(rate, ratio))


def _noise_atoms(rate: int, ratio: int) -> list[Tensor]:
    """Compute windowed noise of mean square 1, always the same, but different in each part of a token."""
    size = 2 * ratio // NOISE_PARTS
    random = torch.Generator().manual_seed(0)
    bins = torch.arange(size // 2 + 1) * rate / size
    atoms = []
    for low, high in list_noise_bands(rate):
        for part in range(NOISE_PARTS):
            spectrum = torch.fft.rfft(torch.randn(size, generator=random))
            noise = torch.fft.irfft(spectrum * ((bins >= low) & (bins < high)), size)
            atom = (
                torch.hann_window(size) * noise / noise.square().mean().clamp(min=1e-12).sqrt() / _NOISE_GAIN
            )
            begin = ratio // 2 + part * ratio // NOISE_PARTS - size // 4
            atoms.append(F.pad(atom, (begin, 2 * ratio - begin - size)))
    return atoms


def _sinusoids(waveforms: Tensor, rate: int, ratio: int) -> tuple[Tensor, Tensor]:
    """Split waveforms (B, 2, S) into amplitudes of spectral peaks (B, 2, bands, T) and a rest (B, 2, S)."""
    size = 2 * ratio
    window = torch.hann_window(size, device=waveforms.device)
    spectrum = torch.fft.rfft(_windows(waveforms, size, ratio) * window)
    magnitudes = spectrum.abs() * (2 / window.sum())
    tonal = _peaks(magnitudes)
    peaks = magnitudes * tonal
    bins = torch.arange(magnitudes.shape[-1]) * rate / size
    amplitudes = []
    for band in list_sinusoid_bands(rate, ratio):
        inside = torch.nonzero((bins >= band.low) & (bins < band.high)).flatten().tolist()
        if not inside:
            inside = [round(band.frequency * size / rate)]
        amplitudes.append(peaks[..., inside[0] : inside[-1] + 1].amax(dim=-1))
    near = F.max_pool1d(tonal.flatten(0, 2).float(), 2 * _PEAK + 1, 1, _PEAK).view_as(magnitudes) > 0
    pieces = torch.fft.irfft(spectrum.masked_fill(near, 0), size)  # the windows add up to 1
    return torch.stack(amplitudes, dim=2), _overlap_add(pieces, ratio)


def _peaks(magnitudes: Tensor) -> Tensor:
    """Find the peaks of magnitudes (B, 2, T, bins), as bool of the same shape."""
    from scipy.ndimage import median_filter

    count = magnitudes.shape[-1]
    padded = F.pad(magnitudes.flatten(0, 1), (2, 2), mode="reflect").unflatten(0, magnitudes.shape[:2])
    highest = padded.unfold(-1, 5, 1).amax(dim=-1)
    size = 2 * min(_AROUND, count - 1) + 1
    # Row by row, scipy is 14 times as fast as torch's median of windows.
    rows = [median_filter(row, size, mode="mirror") for row in magnitudes.flatten(0, 2).cpu().numpy()]
    usual = torch.from_numpy(np.stack(rows)).to(magnitudes).view_as(magnitudes)
    return (magnitudes >= highest) & (magnitudes > _TONAL * usual) & (magnitudes > _SOFTEST)


def _noise(waveforms: Tensor, rate: int, ratio: int) -> Tensor:
    """Measure root mean squares (B, 2, bands * parts, T) of waveforms (B, 2, S)."""
    hop = ratio // NOISE_PARTS
    window = torch.hann_window(2 * hop, device=waveforms.device)
    power = torch.fft.rfft(_windows(waveforms, 2 * hop, hop) * window).abs().square()
    power = power / (window.square().sum() * hop)  # adds up to the mean square
    bins = torch.arange(power.shape[-1]) * rate / (2 * hop)
    powers = [power[..., (bins >= low) & (bins < high)].sum(dim=-1) for low, high in list_noise_bands(rate)]
    levels = torch.stack(powers, dim=2).sqrt()  # (B, 2, bands, T * parts)
    return levels.unflatten(3, (-1, NOISE_PARTS)).transpose(3, 4).flatten(2, 3)


def _windows(waveforms: Tensor, size: int, hop: int) -> Tensor:
    """Cut (..., S) into windows around each hop, (..., S / hop, size)."""
    side = (size - hop) // 2
    return F.pad(waveforms, (side, side)).unfold(-1, size, hop)


def _overlap_add(pieces: Tensor, ratio: int) -> Tensor:
    """Add pieces (B, 2, T, 2 * ratio), each a token after the previous one, to (B, 2, T * ratio)."""
    count = pieces.shape[2]
    total = F.pad(pieces[..., :ratio].flatten(2), (0, ratio)) + F.pad(
        pieces[..., ratio:].flatten(2), (ratio, 0)
    )
    side = ratio // 2
    return total[..., side : side + count * ratio]
