"""Passes through a network that leave out most of its blocks, where these would say nearly the same again.

From one noise level to the next, what the blocks add to the tokens changes little. How little, the first
block tells: if its own addition is nearly that of the last full pass, then so, one trusts, are those of the
blocks behind it, and their sum is taken from that pass. Not exact, hence off unless asked for.

B batch, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Block = Callable[[Tensor], Tensor]
"""(B, N, D) -> (B, N, D)"""


class BlockCache:
    """What one sequence of passes keeps: of one generation, and in it of one group of windows.

    threshold: up to which relative change of the first block's addition the others' is used again: the mean
    of its absolute difference to the last full pass, divided by its mean there, of the batch item where that
    is largest. All items of a batch, and so both halves of a guided pair, decide together; passes of
    different batch sizes (guided and not) have nothing to do with each other.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.passes, self.reused = 0, 0
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def through(self, blocks: Sequence[Block], tokens: Tensor) -> Tensor:
        """The tokens behind all blocks. Waits for the device, once, to learn the change."""
        first, *others = blocks
        after_first = first(tokens)
        added = after_first - tokens
        self.passes += 1
        kept = self._kept.get(len(tokens))
        if kept is not None and kept[0].shape == added.shape and self._is_near(added, kept[0]):
            self.reused += 1
            return after_first + kept[1]
        tokens = run_blocks(others, after_first)
        self._kept[len(tokens)] = added, tokens - after_first
        return tokens

    def _is_near(self, added: Tensor, before: Tensor) -> bool:
        change = (added - before).abs().float().mean(dim=(1, 2))
        return bool((change <= self.threshold * before.abs().float().mean(dim=(1, 2))).all())


def run_blocks(blocks: Sequence[Block], tokens: Tensor, reuse: BlockCache | None = None) -> Tensor:
    """The tokens behind all blocks, (B, N, D)."""
    if reuse is not None:
        return reuse.through(blocks, tokens)
    for block in blocks:
        tokens = block(tokens)
    return tokens
