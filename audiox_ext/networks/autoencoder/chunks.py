"""The autoencoder in pieces that overlap by as much as it sees: memory is bounded, and nothing changes.

B batch, C channels, S samples, L latents, hop the product of the strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...config import OobleckDecoderConfig, OobleckEncoderConfig
from ...errors import InputError
from .oobleck import UNIT_FIELD, OobleckDecoder, OobleckEncoder
from .tiles import run_in_tiles

Check = Callable[[], None]
"""Called before each piece; what it raises ends the work."""

Free = Callable[[], None]
"""Gives back the memory that a device caches."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory: torch tells so in several ways."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def receptive_field(config: OobleckDecoderConfig) -> int:
    """How many latents on either side of a latent its samples depend on.

    Followed from the samples of one latent back to the latents; further away, a change of the latents changes
    nothing, not even by the zeros with which a convolution pads what has been cut off.
    """
    first, last = 0, math.prod(config.strides) - 1
    first, last = first - 3, last + 3  # the last convolution
    for stride in config.strides:
        first, last = first - UNIT_FIELD, last + UNIT_FIELD
        # Output o of the transposed convolution reads inputs i: 0 <= o + padding - i * stride < 2 * stride.
        padding = math.ceil(stride / 2)
        first, last = -((2 * stride - 1 - padding - first) // stride), (last + padding) // stride
    return max(-first, last) + 3  # the first convolution


def encoder_receptive_field(config: OobleckEncoderConfig) -> int:
    """How many latents' samples on either side of its own a latent depends on; as `receptive_field`."""
    first, last = -1, 1  # the last convolution
    for stride in reversed(config.strides):
        # Output o of the convolution reads inputs o * stride - padding up to 2 * stride further.
        padding = math.ceil(stride / 2)
        first, last = first * stride - padding, last * stride - padding + 2 * stride - 1
        first, last = first - UNIT_FIELD, last + UNIT_FIELD
    first, last = first - 3, last + 3  # the first convolution
    hop = math.prod(config.strides)
    return max(-(first // hop), last // hop)


def decode_in_chunks(
    decoder: OobleckDecoder,
    latents: Tensor,
    chunk: int,
    overlap: int | None = None,
    check: Check | None = None,
) -> Tensor:
    """What `decoder(latents)` gives, from pieces.

    latents: (B, latent_dim, L). chunk: latents a piece contributes; with L <= chunk it is the plain decode.
    overlap: latents of context on either side, by default and at least `receptive_field(decoder.config)`,
    with which the pieces meet without a seam. Returns (B, out_channels, L * hop). Raises `InputError` when
    chunk is below 1 or overlap too small.
    """
    overlap = _checked("decoder", chunk, overlap, receptive_field(decoder.config))
    length = latents.shape[-1]
    hop = math.prod(decoder.config.strides)
    if length <= chunk:
        _call(check)
        return decoder(latents)
    waveform = latents.new_empty(latents.shape[0], decoder.config.out_channels, length * hop)
    return run_in_tiles(decoder, latents, waveform, tile=chunk, factor=hop, overlap=overlap, check=check)


def encode_in_chunks(
    encoder: OobleckEncoder,
    waveform: Tensor,
    chunk: int,
    overlap: int | None = None,
    check: Check | None = None,
) -> Tensor:
    """What `encoder(waveform)` gives, from pieces that begin at multiples of the hop.

    waveform: (B, in_channels, S), S any. chunk, overlap: in latents, as in `decode_in_chunks`. Returns (B,
    latent_dim, L). Raises `InputError` as there.
    """
    overlap = _checked("encoder", chunk, overlap, encoder_receptive_field(encoder.config))
    hop = math.prod(encoder.config.strides)
    length = waveform.shape[-1] // hop
    if length <= chunk:
        _call(check)
        return encoder(waveform)
    pieces: list[Tensor] = []
    for start in range(0, length, chunk):
        _call(check)
        end, before = min(start + chunk, length), min(overlap, start)
        # The last piece also takes the samples that fill no latent, and whatever they come to.
        stop = None if end == length else (end + overlap) * hop
        piece = encoder(waveform[..., (start - before) * hop : stop])
        pieces.append(piece[..., before : None if end == length else before + chunk])
    return torch.cat(pieces, dim=-1)


def _call(check: Check | None) -> None:
    if check is not None:
        check()


def _checked(part: str, chunk: int, overlap: int | None, needed: int) -> int:
    """The overlap to use."""
    if chunk < 1:
        raise InputError(f"A chunk of the {part} must have at least 1 latent, got {chunk}.")
    if overlap is not None and overlap < needed:
        raise InputError(
            f"Chunks of this {part} must overlap by at least {needed} latents to meet without a seam, "
            f"got {overlap}."
        )
    return needed if overlap is None else overlap
