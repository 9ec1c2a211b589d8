"""A network along time in tiles that overlap by as much as it sees: memory is bounded, and nothing changes.

B batch, C channels, N steps of the input, `factor` steps of the output for each.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def run_in_tiles(
    network: Callable[[Tensor], Tensor],
    x: Tensor,
    out: Tensor,
    *,
    tile: int,
    factor: int,
    overlap: int,
    check: Callable[[], None] | None = None,
) -> Tensor:
    """Fill `out` (B, C_out, N * factor) with what `network` makes of x (B, C, N), `tile` steps at a time.

    overlap: steps on either side of a tile that its result depends on. check: called before each tile; what
    it raises ends the work. Returns `out`.
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
