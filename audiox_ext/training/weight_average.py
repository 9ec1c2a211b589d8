"""The exponential moving average of weights, which makes better sounds than the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Of the parameters of a module that are trained.

    decay: how much of it stays at a step. It starts lower, as (1 + n) / (10 + n) after n steps, or the first
    weights, which are random, would stay for long.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module, self._decay = module, decay
        self._kept = {name: value.detach().clone() for name, value in self._trained()}

    @torch.no_grad()
    def update(self, steps: int) -> None:
        """Take in the weights after so many steps."""
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for name, value in self._trained():
            # What was made before the module moved to its device follows it.
            kept = self._kept[name] = self._kept[name].to(value.device)
            kept.lerp_(value.detach(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module has the average as its weights; afterwards its own again."""
        own = {name: value.detach().clone() for name, value in self._trained()}
        self._copy(self._kept)
        try:
            yield
        finally:
            self._copy(own)

    def state_dict(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        return dict(self._kept)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """From a checkpoint. Raises KeyError for one of another module."""
        self._kept = {name: state[name].to(value.device).clone() for name, value in self._trained()}

    def _trained(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, value) for name, value in self._module.named_parameters() if value.requires_grad)

    @torch.no_grad()
    def _copy(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self._trained():
            value.copy_(values[name])
