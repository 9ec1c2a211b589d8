"""A sound told by how strong its sinusoids and its bands of noise are, token by token, and by no phase.

Latents that hold waves differ with the phase of each, so a prompt says next to nothing of any of them, and a
small network spends all that it has on them. Of strengths a prompt says a lot. The sound that is made of
them has phases of its own (Serra and Smith 1990, "Spectral modeling synthesis").

A token is `ratio` samples, a latent of an autoencoder of that ratio. Sinusoids are heard in windows of two
tokens, and made at multiples of one turn a token, so that what the same filter makes of each token goes on
where the one before ends. Noise is what is left, in four parts of a token.

Few things are heard at a time, and left and right are much alike: latents are the principal components of
strengths, their mean taken away, the strongest about as large as each other. Of deviation 1 and around 0
they are what the v objective asks least of: where data is small beside the noise of time 1, a network
has to hand on the noise in all channels, more or less of it at each time.

B batch, S samples, T tokens, K latents of a token, P its strengths: of the left channel its sinusoids, then
its noise, band by band in their parts; then those of the right.
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

NOISE_PARTS = 4  # of a token, in which noise is told
REACH = 3  # tokens on either side that the strengths of a token depend on, at most
_LOWEST, _OCTAVES = 110.0, 5  # hertz; from here semitones are told apart, over so many octaves
_FIRST_TURN = 4  # turns a token of the lowest sinusoid, if that is below the lowest semitone
_WIDE = 3  # semitones in a band above
_HIGHEST = 0.475  # of the sample rate
_NOISE_BORDERS = (0.0, 200.0, 600.0, 1400.0, 3000.0)  # hertz; the last band goes on to the highest frequency
_TONAL = 4.0  # times the median around it: a peak that is no chance of noise
_AROUND, _PEAK = 24, 3  # bins on either side: of that median, and of what belongs to a peak
_SOFTEST = 1e-4  # magnitude of a peak
_NOISE_GAIN = 2.0  # a band of full-scale noise would have half the strength of a sinusoid
_SCALES = (8.0, 4.0)  # of sinusoids and noise: few sinusoids are there at a time
_LEAST = 1e-3  # of the strongest component's power; nothing below is made as large as the others
_EVEN = 0.4  # this share of the components comes out with about the same power, the others with less


@dataclass(frozen=True)
class LatentMap:
    """Latents are components of strengths, which they make again: components (P, K), centre (P,)."""

    components: Tensor
    centre: Tensor

    @classmethod
    def fit(cls, told: Tensor, count: int) -> LatentMap:
        """count: K. told: (B, P, T) of many sounds."""
        centre = told.mean(dim=(0, 2))
        rest = told - centre[:, None]
        moment = torch.einsum("bpt,bqt->pq", rest, rest).double() / (len(told) * told.shape[2])
        powers, directions = (value.flip(-1) for value in torch.linalg.eigh(moment))
        powers, directions = powers[:count].clamp(min=0), directions[:, :count]
        sizes = (powers + powers[int(_EVEN * count)].clamp(min=_LEAST * float(powers[0]))).sqrt()
        sizes = sizes * (powers / sizes.square()).mean().sqrt()
        return cls((directions * sizes).to(told), centre)

    def to_latents(self, told: Tensor) -> Tensor:
        """(B, P, T) -> (B, K, T)."""
        rest = told - self.centre.to(told)[:, None]
        return torch.einsum("kp,bpt->bkt", self._inverse.to(told), rest)

    @cached_property
    def silence(self) -> Tensor:
        """The latents of a token of silence, (K,)."""
        return self.to_latents(torch.zeros_like(self.centre)[None, :, None])[0, :, 0]

    @cached_property
    def _inverse(self) -> Tensor:
        return torch.linalg.pinv(self.components)

    def to_spectrum(self, latents: Tensor) -> Tensor:
        """(B, K, T) -> (B, P, T), the nearest that there are."""
        return torch.einsum("pk,bkt->bpt", self.components, latents) + self.centre[:, None]


def check_spectral_sizes(config: AutoencoderConfig, rate: int) -> None:
    """Raises `ConfigError` for a decoder that has no room for the strengths there are."""
    wanted = count_spectral_values(rate, config.downsampling_ratio)
    if config.latent_dim > wanted:
        raise ConfigError(
            f"latent_dim is {config.latent_dim}; at {rate} Hz and {config.downsampling_ratio} samples a "
            f"latent there are only {wanted} strengths to tell."
        )
    squares = config.decoder.channels * config.decoder.c_mults[-1]
    if squares < 2 * wanted:
        raise ConfigError(
            f"The decoder's first layer has {squares} channels; it needs {2 * wanted}, two for each strength."
        )


@torch.no_grad()
def read_latent_map(
    decoder: OobleckDecoder, rate: int, ratio: int, device: torch.device | str | None = None
) -> LatentMap:
    """What the latents of a decoder of strengths are, which lies on `device`: its first layer turns them into
    angles, each strength's and its negative.
    """
    first, count = decoder.layers[0], decoder.config.latent_dim
    gains = compute_angle_gains(rate, ratio)
    angles = slice(0, 2 * len(gains), 2)
    # Asked, not read: whoever casts, patches or folds weights does so when a layer runs.
    asked = torch.zeros(count + 1, count, 1)
    asked[:count, :, 0] = torch.eye(count)
    told = first(asked.to(device))[:, angles, 0].float().cpu()
    centre = told[count]
    return LatentMap((told[:count] - centre).T / gains[:, None], centre / gains)


@dataclass(frozen=True)
class Band:
    """Where a sinusoid is looked for, and where it is made; hertz."""

    low: float
    high: float
    made: float


def list_sinusoid_bands(rate: int, ratio: int) -> tuple[Band, ...]:
    """All bands, the lowest first."""
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
    """From and to, in hertz."""
    borders = [border for border in _NOISE_BORDERS if border < rate / 2] + [rate / 2]
    return tuple(pairwise(borders))


def count_spectral_values(rate: int, ratio: int) -> int:
    """P."""
    return 2 * (len(list_sinusoid_bands(rate, ratio)) + NOISE_PARTS * len(list_noise_bands(rate)))


def measure_spectrum(waveforms: Tensor, rate: int, ratio: int) -> Tensor:
    """(B, 2, S) -> (B, P, S // ratio), 0 for silence; see `compute_angle_gains`."""
    count = waveforms.shape[-1] // ratio
    sinusoids, rest = _sinusoids(waveforms[..., : count * ratio], rate, ratio)
    noise = _noise(rest, rate, ratio) * _NOISE_GAIN
    amplitudes = torch.cat([sinusoids, noise], dim=2).flatten(1, 2)
    angles = amplitudes.clamp(0, 1).sqrt().asin()
    return angles / compute_angle_gains(rate, ratio)[:, None].to(angles)


def compute_angle_gains(rate: int, ratio: int) -> Tensor:
    """(P,): an amplitude is the squared sine of a strength times this, which is what a snake makes of it."""
    bands, noise = len(list_sinusoid_bands(rate, ratio)), NOISE_PARTS * len(list_noise_bands(rate))
    return 1 / torch.tensor([_SCALES[0]] * bands + [_SCALES[1]] * noise).repeat(2)


def make_atoms(rate: int, ratio: int) -> Tensor:
    """(P / 2, 2 * ratio): what an amplitude of 1 sounds like, from half a token before its token on."""
    time = torch.arange(2 * ratio) - ratio // 2
    window = torch.hann_window(2 * ratio)
    sinusoids = [
        window * torch.cos(2 * math.pi * band.made / rate * time) for band in list_sinusoid_bands(rate, ratio)
    ]
    return torch.stack(sinusoids + _noise_atoms(rate, ratio))


def _noise_atoms(rate: int, ratio: int) -> list[Tensor]:
    """Noise of mean square 1 under a window, the same ever after, another one in each part of a token."""
    size = 2 * ratio // NOISE_PARTS
    random = torch.Generator().manual_seed(0)
    bins = torch.arange(size // 2 + 1) * rate / size
    made = []
    for low, high in list_noise_bands(rate):
        for part in range(NOISE_PARTS):
            spectrum = torch.fft.rfft(torch.randn(size, generator=random))
            noise = torch.fft.irfft(spectrum * ((bins >= low) & (bins < high)), size)
            atom = (
                torch.hann_window(size) * noise / noise.square().mean().clamp(min=1e-12).sqrt() / _NOISE_GAIN
            )
            begin = ratio // 2 + part * ratio // NOISE_PARTS - size // 4
            made.append(F.pad(atom, (begin, 2 * ratio - begin - size)))
    return made


def _sinusoids(waveforms: Tensor, rate: int, ratio: int) -> tuple[Tensor, Tensor]:
    """(B, 2, S) -> the amplitudes (B, 2, bands, T) of peaks in the spectrum, and the rest (B, 2, S)."""
    size = 2 * ratio
    window = torch.hann_window(size, device=waveforms.device)
    spectrum = torch.fft.rfft(_windows(waveforms, size, ratio) * window)
    magnitudes = spectrum.abs() * (2 / window.sum())
    tonal = _peaks(magnitudes)
    peaks = magnitudes * tonal
    bins = torch.arange(magnitudes.shape[-1]) * rate / size
    found = []
    for band in list_sinusoid_bands(rate, ratio):
        inside = torch.nonzero((bins >= band.low) & (bins < band.high)).flatten().tolist()
        if not inside:
            inside = [round(band.made * size / rate)]
        found.append(peaks[..., inside[0] : inside[-1] + 1].amax(dim=-1))
    near = F.max_pool1d(tonal.flatten(0, 2).float(), 2 * _PEAK + 1, 1, _PEAK).view_as(magnitudes) > 0
    pieces = torch.fft.irfft(spectrum.masked_fill(near, 0), size)  # the windows add up to 1
    return torch.stack(found, dim=2), _overlapped(pieces, ratio)


def _peaks(magnitudes: Tensor) -> Tensor:
    """Bool, as magnitudes (B, 2, T, bins)."""
    from scipy.ndimage import median_filter

    count = magnitudes.shape[-1]
    padded = F.pad(magnitudes.flatten(0, 1), (2, 2), mode="reflect").unflatten(0, magnitudes.shape[:2])
    highest = padded.unfold(-1, 5, 1).amax(dim=-1)
    size = 2 * min(_AROUND, count - 1) + 1
    # Row by row scipy takes a fourteenth of the time that torch's median of windows takes.
    rows = [median_filter(row, size, mode="mirror") for row in magnitudes.flatten(0, 2).cpu().numpy()]
    usual = torch.from_numpy(np.stack(rows)).to(magnitudes).view_as(magnitudes)
    return (magnitudes >= highest) & (magnitudes > _TONAL * usual) & (magnitudes > _SOFTEST)


def _noise(waveforms: Tensor, rate: int, ratio: int) -> Tensor:
    """(B, 2, S) -> (B, 2, bands * parts, T), root mean squares."""
    hop = ratio // NOISE_PARTS
    window = torch.hann_window(2 * hop, device=waveforms.device)
    power = torch.fft.rfft(_windows(waveforms, 2 * hop, hop) * window).abs().square()
    power = power / (window.square().sum() * hop)  # adds up to the mean square
    bins = torch.arange(power.shape[-1]) * rate / (2 * hop)
    found = [power[..., (bins >= low) & (bins < high)].sum(dim=-1) for low, high in list_noise_bands(rate)]
    told = torch.stack(found, dim=2).sqrt()  # (B, 2, bands, T * parts)
    return told.unflatten(3, (-1, NOISE_PARTS)).transpose(3, 4).flatten(2, 3)


def _windows(waveforms: Tensor, size: int, hop: int) -> Tensor:
    """(..., S) -> (..., S / hop, size), each around a hop."""
    side = (size - hop) // 2
    return F.pad(waveforms, (side, side)).unfold(-1, size, hop)


def _overlapped(pieces: Tensor, ratio: int) -> Tensor:
    """(B, 2, T, 2 * ratio), a token apart -> (B, 2, T * ratio)."""
    count = pieces.shape[2]
    total = F.pad(pieces[..., :ratio].flatten(2), (0, ratio)) + F.pad(
        pieces[..., ratio:].flatten(2), (ratio, 0)
    )
    side = ratio // 2
    return total[..., side : side + count * ratio]
