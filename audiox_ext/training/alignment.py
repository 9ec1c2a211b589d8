"""How a sound is, latent by latent, as numbers that a network inside can be asked for.

A network that is asked after a few of its blocks how the sound will be learns much sooner what its prompts
mean (Yu et al. 2024, arXiv 2410.06940, ask for the features of an encoder; here it is what can be heard).
The layer that asks is thrown away after the training.

B batch, S samples, L latents, D width, F numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_LOWEST = 55.0  # hertz
_OCTAVES = 7
_SUBFRAMES = 4  # of a latent, in which the level is taken
_FLOOR = 1e-3  # of magnitudes, -60 dB
_PLACES = 8  # frequencies of the code of the place


def descriptors(waveforms: Tensor, rate: int, ratio: int) -> Tensor:
    """(B, 2, S) at a rate -> (B, S // ratio, F): level of each semitone of both channels together, level of
    each channel in quarters of a latent, and the place in the sound. All about -1 to 1.
    """
    count = waveforms.shape[-1] // ratio
    tones = _semitones(waveforms.mean(dim=1), rate, ratio)[:, :count]
    levels = waveforms[..., : count * ratio].unflatten(-1, (count, _SUBFRAMES, -1)).square().mean(-1).sqrt()
    levels = levels.permute(0, 2, 1, 3).flatten(2)
    place = _places(count, waveforms.device).expand(len(waveforms), -1, -1)
    return torch.cat([_scaled(tones), _scaled(levels), place], dim=-1)


def descriptor_count(rate: int) -> int:
    """F."""
    return len(_centres(rate)) + 2 * _SUBFRAMES + 2 * _PLACES


def _scaled(magnitudes: Tensor) -> Tensor:
    """The logarithm, -1 for silence to 1 for full scale."""
    return 1 - 2 * (magnitudes.clamp(max=1) + _FLOOR).log() / math.log(_FLOOR)


def _centres(rate: int) -> Tensor:
    tones = _LOWEST * 2 ** (torch.arange(12 * _OCTAVES) / 12)
    return tones[tones < 0.45 * rate]


def _semitones(waveforms: Tensor, rate: int, ratio: int) -> Tensor:
    """(B, S) -> (B, L, tones): the largest magnitude within a semitone, as that of a sine."""
    size = 2 ** round(math.log2(rate / 4))  # a quarter of a second: tells semitones apart from 70 Hz on
    window = torch.hann_window(size, device=waveforms.device)
    spectrum = torch.stft(waveforms, size, ratio, window=window, return_complex=True).abs()
    spectrum = spectrum * (2 / window.sum())
    bins = torch.arange(size // 2 + 1) * rate / size
    bands = []
    for centre in _centres(rate).tolist():
        near = torch.nonzero((12 * (bins / centre).clamp(min=1e-9).log2()).abs() <= 0.5).flatten().tolist()
        near = near or [round(centre * size / rate)]
        bands.append(spectrum[:, near[0] : near[-1] + 1].amax(dim=1))
    return torch.stack(bands, dim=-1)


def _places(count: int, device: torch.device) -> Tensor:
    """(L, 2 * _PLACES): sines and cosines from half a turn over the whole sound to a turn in five latents."""
    turns = 0.5 * (count / 5 / 0.5) ** (torch.arange(_PLACES, device=device) / (_PLACES - 1))
    angles = 2 * math.pi * turns * ((torch.arange(count, device=device) + 0.5) / count)[:, None]
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Alignment(nn.Module):
    """Asks one of the blocks. tokens (B, 1 + L, D), the time token first."""

    def __init__(self, width: int, numbers: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, numbers)
        )
        self._tokens: Tensor | None = None

    def listen_to(self, block: nn.Module) -> None:
        """From now on keeps what the block gives."""

        def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
            self._tokens = output

        block.register_forward_hook(keep)

    def loss(self, wanted: Tensor) -> Tensor:
        """Mean squared error of what the block's last tokens say of (B, L, F)."""
        assert self._tokens is not None
        said = self.layers(self._tokens[:, 1:].float())
        self._tokens = None
        return F.mse_loss(said, wanted)
