"""Mixes surround sound to stereo by the names of its channels.

C channels, S samples. Source: ITU-R BS.775: centre and surround channels enter left and right at -3 dB, the
LFE channel not at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_3DB = math.sqrt(0.5)
# Left and right shares by FFmpeg's names of channels; all others lie in the centre of the rear.
_LEFT, _RIGHT, _BOTH, _NONE = (1.0, 0.0), (0.0, 1.0), (_3DB, _3DB), (0.0, 0.0)
_SURROUND_LEFT, _SURROUND_RIGHT, _SURROUND_CENTRE = (_3DB, 0.0), (0.0, _3DB), (0.5, 0.5)
_SHARES = {
    **dict.fromkeys(("FL", "FLC", "DL"), _LEFT),
    **dict.fromkeys(("FR", "FRC", "DR"), _RIGHT),
    **dict.fromkeys(("FC", "BFC"), _BOTH),
    **dict.fromkeys(("LFE", "LFE2"), _NONE),
    **dict.fromkeys(("BL", "SL", "WL", "TFL", "TBL", "TSL", "BFL", "SDL", "SSL", "TTL"), _SURROUND_LEFT),
    **dict.fromkeys(("BR", "SR", "WR", "TFR", "TBR", "TSR", "BFR", "SDR", "SSR", "TTR"), _SURROUND_RIGHT),
    **dict.fromkeys(("BC", "TC", "TFC", "TBC"), _SURROUND_CENTRE),
}


def mix_by_names(waveform: Tensor, names: Sequence[str]) -> Tensor | None:
    """Mix to stereo, scaled down as a whole if that would clip.

    Args:
        waveform: (C, S) float32.
        names: FFmpeg's name of each channel.

    Returns:
        (2, S) float32; None if a name is unknown, as in layouts without names.
    """
    if not all(name in _SHARES for name in names):
        return None
    peak = max(1.0, float(waveform.abs().max()))
    mixed = torch.tensor([_SHARES[name] for name in names]).T @ waveform
    return mixed * (peak / max(peak, float(mixed.abs().max())))
