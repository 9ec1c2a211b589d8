"""Caches encoded prompts for the next run with the same prompts.

A second sound with another seed then needs neither the text encoder nor the vision tower.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_LIMIT = 64 * 2**20  # bytes; a text or a video of a published model takes 0.4 MB


class PromptCache:
    """Tokens by prompt; the least recently used entries are dropped first. It lives as long as its model."""

    def __init__(self, limit: int = _LIMIT) -> None:
        """Create an empty cache.

        Args:
            limit: Bytes of all entries together.
        """
        self.limit = limit
        self._entries: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Hashable) -> Tensor | None:
        """Return a copy of the tokens under a key, or None."""
        tokens = self._entries.pop(key, None)
        if tokens is None:
            return None
        self._entries[key] = tokens  # now the most recently used
        return tokens.clone()

    def put(self, key: Hashable, tokens: Tensor) -> None:
        """Store a copy of tokens, then drop the least recently used entries beyond the limit."""
        self._entries[key] = tokens.clone()
        while self._entries and sum(entry.nbytes for entry in list(self._entries.values())) > self.limit:
            self._entries.popitem(last=False)

    def clear(self) -> None:
        """Drop all entries."""
        self._entries.clear()


def cache_key(name: str, module: nn.Module, prompts: Sequence[Any], device: Hashable) -> Hashable | None:
    """Build a key of everything that the tokens of a batch depend on.

    Args:
        name: Id of the conditioner.
        module: The conditioner.
        prompts: One per batch item.
        device: Device on which the tokens are computed.

    Returns:
        None if the tokens must not be cached: they depend on random numbers, or gradients may flow through
        them.
    """
    if module.draws_random_numbers or module.training or torch.is_grad_enabled():
        return None
    return name, _weights_version(module), device, tuple(_fingerprint(prompt) for prompt in prompts)


def _weights_version(module: nn.Module) -> int:
    """A number that changes when weights are replaced, or changed in place."""
    weights = (*module.parameters(), *module.buffers())
    return hash(tuple((id(w), 0 if w.is_inference() else w._version) for w in weights))


def _fingerprint(prompt: Any) -> Hashable:
    """Return a value that is equal for prompts of equal content."""
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
