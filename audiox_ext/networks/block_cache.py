"""Skips most blocks of a network when their result would hardly change from one step to the next.

The first block is the test: if what it adds to the tokens is close to what it added in the last full pass,
the sum of what the other blocks added then is used again. This is approximate, and therefore off by default.

B batch, N tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Block = Callable[[Tensor], Tensor]
"""(B, N, D) -> (B, N, D)"""


class BlockCache:
    """The result of the last full pass, for one group of windows of one generation.

    All items of a batch, and so both halves of a guided pair, are skipped or computed together. Passes of
    different batch sizes (guided and unguided) are cached separately.

    Attributes:
        threshold: Largest relative change for which the cached result is used.
        passes: Number of passes.
        reused: Number of passes that used the cached result.
    """

    def __init__(self, threshold: float) -> None:
        """Start with an empty cache.

        Args:
            threshold: Largest relative change of what the first block adds: the mean absolute difference to
                the last full pass, divided by the mean absolute value there. The batch item with the
                largest change decides.
        """
        self.threshold = threshold
        self.passes, self.reused = 0, 0
        self._cached: dict[int, tuple[Tensor, Tensor]] = {}

    def run(self, blocks: Sequence[Block], tokens: Tensor) -> Tensor:
        """Return the tokens (B, N, D) after all blocks. Waits for the device once, to read the change."""
        first, *others = blocks
        after_first = first(tokens)
        added = after_first - tokens
        self.passes += 1
        cached = self._cached.get(len(tokens))
        if cached is not None and cached[0].shape == added.shape and self._is_close(added, cached[0]):
            self.reused += 1
            return after_first + cached[1]
        tokens = run_blocks(others, after_first)
        self._cached[len(tokens)] = added, tokens - after_first
        return tokens

    def _is_close(self, added: Tensor, previous: Tensor) -> bool:
        """Whether the relative change is within the threshold for every item."""
        change = (added - previous).abs().float().mean(dim=(1, 2))
        return bool((change <= self.threshold * previous.abs().float().mean(dim=(1, 2))).all())


def run_blocks(blocks: Sequence[Block], tokens: Tensor, cache: BlockCache | None = None) -> Tensor:
    """Return the tokens (B, N, D) after all blocks; with a cache most blocks may be skipped."""
    if cache is not None:
        return cache.run(blocks, tokens)
    for block in blocks:
        tokens = block(tokens)
    return tokens
