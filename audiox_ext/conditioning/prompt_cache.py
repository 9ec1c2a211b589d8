"""What prompts came to in the conditioners, kept for the next run with the same ones.

A second sound with another seed then needs neither the text encoder nor the vision tower.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_LIMIT = 64 * 2**20  # bytes; a published model's text or video takes 0.4 MB


class PromptCache:
    """Tokens by prompts, the least recently used forgotten first. It dies with the model that holds it."""

    def __init__(self, limit: int = _LIMIT) -> None:
        """limit: bytes of tokens that are kept."""
        self.limit = limit
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable) -> Tensor | None:
        """A copy of the tokens that were kept under this key, or None."""
        tokens = self._kept.pop(key, None)
        if tokens is None:
            return None
        self._kept[key] = tokens  # now the most recently used
        return tokens.clone()

    def put(self, key: Hashable, tokens: Tensor) -> None:
        """Keep a copy of some tokens, however large, and forget what is then too much."""
        self._kept[key] = tokens.clone()
        while self._kept and sum(kept.nbytes for kept in list(self._kept.values())) > self.limit:
            self._kept.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()


def cache_key(name: str, module: nn.Module, prompts: Sequence[Any], device: Hashable) -> Hashable | None:
    """What the tokens of a batch of prompts depend on; None where they must be made anew.

    Made anew are those that random numbers have a part in, and those through which gradients may flow.
    """
    if module.draws_random_numbers or module.training or torch.is_grad_enabled():
        return None
    return name, _state_of(module), device, tuple(_fingerprint(prompt) for prompt in prompts)


def _state_of(module: nn.Module) -> int:
    """Another number for another set of weights, or for the same after they were written to."""
    weights = (*module.parameters(), *module.buffers())
    return hash(tuple((id(w), 0 if w.is_inference() else w._version) for w in weights))


def _fingerprint(prompt: Any) -> Hashable:
    """Equal for prompts of equal content."""
    if isinstance(prompt, Mapping):
        return tuple((key, _fingerprint(prompt[key])) for key in sorted(prompt))
    if isinstance(prompt, Tensor):
        content = prompt.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
        return (
            tuple(prompt.shape),
            str(prompt.dtype),
            hashlib.blake2b(content, digest_size=16).digest(),
        )
    return prompt
