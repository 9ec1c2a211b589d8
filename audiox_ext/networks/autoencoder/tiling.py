"""Runs a network along time in tiles or chunks: memory is bounded, and the result is the same.

Neighbours overlap by as much of the input as an output depends on.

B batch, C channels, N steps of the input, `factor` steps of the output for each, S samples, L latents, hop
the product of the strides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from ...config import OobleckDecoderConfig, OobleckEncoderConfig
from ...errors import InputError

Check = Callable[[], None]
"""Called before each piece; what it raises ends the work."""

Free = Callable[[], None]
"""Gives back the memory that a device caches."""


class ChunkedDecoder(Protocol):
    """Latents (B, latent_dim, L) -> waveform (B, out_channels, L * hop); `OobleckDecoder` is one."""

    config: OobleckDecoderConfig

    @property
    def receptive_field(self) -> int:
        """Number of latents on either side that affect the samples of a latent."""
        ...

    def __call__(self, latents: Tensor, /) -> Tensor:
        """Decode all latents at once."""
        ...


class ChunkedEncoder(Protocol):
    """Waveform (B, in_channels, S) -> (B, latent_dim, L); `OobleckEncoder` is one."""

    config: OobleckEncoderConfig

    @property
    def receptive_field(self) -> int:
        """Number of latents on either side whose samples affect a latent."""
        ...

    def __call__(self, waveform: Tensor, /) -> Tensor:
        """Encode the whole waveform at once."""
        ...


def run_in_tiles(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    out: Tensor,
    *,
    tile: int,
    factor: int,
    overlap: int,
    check: Check | None = None,
) -> Tensor:
    """Compute network(x), tile by tile.

    Args:
        network: (B, C, N) -> (B, C_out, N * factor), along time.
        x: (B, C, N).
        out: Takes the result, (B, C_out, N * factor).
        tile: Steps of x per tile.
        factor: Steps of the output per step of x.
        overlap: Steps on either side of a tile that its output depends on.
        check: Called before each tile. An error that it raises ends the work.

    Returns:
        `out`.
    """
    length = x.shape[-1]
    for start in range(0, length, tile):
        if check is not None:
            check()
        end, before = min(start + tile, length), min(overlap, start)
        piece = network(x[..., start - before : end + overlap])
        first = before * factor
        out[..., start * factor : end * factor] = piece[..., first : first + (end - start) * factor]
    return out


def decode_in_chunks(
    decoder: ChunkedDecoder,
    latents: Tensor,
    chunk: int,
    overlap: int | None = None,
    check: Check | None = None,
) -> Tensor:
    """Compute decoder(latents) in chunks that meet without a seam.

    Args:
        decoder: The decoder.
        latents: (B, latent_dim, L).
        chunk: Latents that a chunk contributes. Up to this length all latents are decoded at once.
        overlap: Latents of context on either side; by default, and at least, the decoder's receptive field.
        check: Called before each chunk. An error that it raises ends the work.

    Returns:
        (B, out_channels, L * hop).

    Raises:
        InputError: `chunk` is below 1 or `overlap` too small.
    """
    overlap = _resolve_overlap("decoder", chunk, overlap, decoder.receptive_field)
    length = latents.shape[-1]
    hop = math.prod(decoder.config.strides)
    if length <= chunk:
        _call(check)
        return decoder(latents)
    waveform = latents.new_empty(latents.shape[0], decoder.config.out_channels, length * hop)
    return run_in_tiles(decoder, latents, waveform, tile=chunk, factor=hop, overlap=overlap, check=check)


def encode_in_chunks(
    encoder: ChunkedEncoder,
    waveform: Tensor,
    chunk: int,
    overlap: int | None = None,
    check: Check | None = None,
) -> Tensor:
    """Compute encoder(waveform) in chunks that begin at multiples of the hop.

    Args:
        encoder: The encoder.
        waveform: (B, in_channels, S) of any length.
        chunk: Latents that a chunk contributes, as in `decode_in_chunks`.
        overlap: Latents of context on either side, as there.
        check: Called before each chunk. An error that it raises ends the work.

    Returns:
        (B, latent_dim, L).

    Raises:
        InputError: `chunk` is below 1 or `overlap` too small.
    """
    overlap = _resolve_overlap("encoder", chunk, overlap, encoder.receptive_field)
    hop = math.prod(encoder.config.strides)
    length = waveform.shape[-1] // hop
    if length <= chunk:
        _call(check)
        return encoder(waveform)
    pieces: list[Tensor] = []
    for start in range(0, length, chunk):
        _call(check)
        end, before = min(start + chunk, length), min(overlap, start)
        # The last chunk also takes the remaining samples, which do not fill a latent.
        stop = None if end == length else (end + overlap) * hop
        piece = encoder(waveform[..., (start - before) * hop : stop])
        pieces.append(piece[..., before : None if end == length else before + chunk])
    return torch.cat(pieces, dim=-1)


def _call(check: Check | None) -> None:
    """Call a check, if there is one."""
    if check is not None:
        check()


def _resolve_overlap(part: str, chunk: int, overlap: int | None, needed: int) -> int:
    """Check a chunk and an overlap, and return the overlap to use."""
    if chunk < 1:
        raise InputError(f"A chunk of the {part} must have at least 1 latent, got {chunk}.")
    if overlap is not None and overlap < needed:
        raise InputError(
            f"Chunks of this {part} must overlap by at least {needed} latents to meet without a seam, "
            f"got {overlap}."
        )
    return needed if overlap is None else overlap
