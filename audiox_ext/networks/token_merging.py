"""Equal neighbours in a context, made one token each: the same attention for less work.

Attention to n copies of a token is attention to one of them with log n added to its logit. Copies are common:
the padding of a text, the frames of silence and of what is hidden in an audio prompt; a text alone leaves
AudioX-MAF about 140 different tokens of 1979.

B batch, N tokens, M tokens that are left, D their width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_TERMS = 4  # copies that a run is made of where its logarithm has to be put together from rounded ones


def merge_equal_tokens(context: Tensor, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor | None]:
    """One token for each run of equal ones, and what is to be added to its logits: (B, M, D), (B, M).

    context: (B, N, D). Tokens are equal when their values are: -0.0 is 0.0. Items with fewer tokens than
    others are filled up with ones whose bias is minus infinity. dtype: of the bias; in half precision, where
    the logarithm of a long run would be wrong by per cents, a run is a few copies whose weights add up to its
    length. The bias is None, and the context as it was, when it has no equal neighbours.
    """
    differs = torch.ones(context.shape[:2], dtype=torch.bool, device=context.device)
    differs[:, 1:] = (context[:, 1:] != context[:, :-1]).any(dim=-1)
    if bool(differs.all()):
        return context, None
    items = [_merged(first, dtype) for first in differs.cpu()]
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


def _merged(differs: Tensor, dtype: torch.dtype) -> tuple[list[int], list[float]]:
    """Positions of the tokens to keep, and their biases, from where each token differs from the one before:
    (N,).
    """
    starts = torch.nonzero(differs).flatten().tolist()
    ends = [*starts[1:], len(differs)]
    kept = [
        (start, bias) for start, end in zip(starts, ends, strict=True) for bias in _biases(end - start, dtype)
    ]
    return [start for start, _ in kept], [bias for _, bias in kept]


def _biases(count: int, dtype: torch.dtype) -> list[float]:
    """Numbers of a type whose exponentials add up to a count; a single one in float32."""
    if count == 1 or dtype.itemsize >= 4:
        return [math.log(count)]
    biases: list[float] = []
    rest = float(count)
    while len(biases) < _TERMS and rest > 1e-5 * count:
        # Rounded down, so that what is left to add is never negative.
        below = math.log(rest) - abs(math.log(rest)) * torch.finfo(dtype).eps
        biases.append(float(torch.tensor(below).to(dtype)))
        rest -= math.exp(biases[-1])
    return biases
