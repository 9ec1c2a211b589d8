"""Merges equal neighbours in a context into one token: the same attention for less work.

Attention to n copies of a token equals attention to one of them with log n added to its logit. Copies are
common: padding of a text, silence and hidden parts of an audio prompt. With a text prompt alone AudioX-MAF
has about 140 different tokens of 1979.

B batch, N tokens, M tokens after merging, D their width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TERMS = 4  # most copies for a run whose weight is a sum of rounded exponentials


def merge_equal_tokens(context: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor | None]:
    """Merge each run of equal tokens into one.

    Args:
        context: (B, N, D). Tokens are equal if their values are; -0.0 equals 0.0.
        dtype: Type of the bias. In half precision, where the rounded logarithm of a long run would be wrong
            by several per cent, a run becomes a few copies whose weights add up to its length.

    Returns:
        The merged context (B, M, D), and a bias (B, M) to add to the logits of its tokens. Items with fewer
        tokens are padded with tokens whose bias is minus infinity. Without equal neighbours the context is
        unchanged and the bias None.
    """
    differs = torch.ones(context.shape[:2], dtype=torch.bool, device=context.device)
    differs[:, 1:] = (context[:, 1:] != context[:, :-1]).any(dim=-1)
    if bool(differs.all()):
        return context, None
    items = [_merge_runs(item, dtype) for item in differs.cpu()]
    width = max(len(biases) for _, biases in items)
    if width >= context.shape[1]:
        return context, None
    index = torch.zeros(len(items), width, dtype=torch.long)
    bias = torch.full((len(items), width), -math.inf)
    for item, (firsts, biases) in enumerate(items):
        index[item, : len(firsts)] = torch.tensor(firsts)
        bias[item, : len(biases)] = torch.tensor(biases)
    index = index.to(context.device)[..., None].expand(-1, -1, context.shape[-1])
    return context.gather(1, index), bias.to(context.device, dtype)


def _merge_runs(differs: Tensor, dtype: torch.dtype) -> tuple[list[int], list[float]]:
    """Find the positions of the tokens to keep, and their biases.

    differs: (N,), whether each token differs from the previous one.
    """
    starts = torch.nonzero(differs).flatten().tolist()
    ends = [*starts[1:], len(differs)]
    tokens = [
        (start, bias)
        for start, end in zip(starts, ends, strict=True)
        for bias in _split_count(end - start, dtype)
    ]
    return [start for start, _ in tokens], [bias for _, bias in tokens]


def _split_count(count: int, dtype: torch.dtype) -> list[float]:
    """Return biases, exact in `dtype`, whose exponentials add up to `count`. In float32 one is enough."""
    if count == 1 or dtype.itemsize >= 4:
        return [math.log(count)]
    biases: list[float] = []
    rest = float(count)
    while len(biases) < _TERMS and rest > 1e-5 * count:
        # Rounded down, so that the rest never becomes negative.
        below = math.log(rest) - abs(math.log(rest)) * torch.finfo(dtype).eps
        biases.append(float(torch.tensor(below).to(dtype)))
        rest -= math.exp(biases[-1])
    return biases
