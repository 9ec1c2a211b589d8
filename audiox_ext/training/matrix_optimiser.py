"""Two optimisers as one: Muon for the matrices of a network's blocks, AdamW for everything else.

Muon takes all directions of a matrix's gradient as equally strong, so that what is rare in the data is learnt
as soon as what is common (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982, whose scale lets both have
the same learning rate).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from ..errors import InputError


class MatrixOptimiser(torch.optim.Optimizer):
    """matrices: (A, B) parameters that Muon changes. others: an optimiser of all others.

    Raises `InputError` where torch is too old to have Muon.
    """

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: torch.optim.Optimizer,
        *,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise InputError(
                f"Training from nothing needs torch 2.9 or later; here is {torch.__version__}. LoRA and "
                "fine-tuning do without."
            )
        muon = torch.optim.Muon(
            matrices, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, others)
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        """The parts' own, so that a learning rate that is set in one reaches its part."""
        return [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """closure: computes the gradients, and is called once."""
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        for part in self._parts:
            part.step()
        return result

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """From a checkpoint."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()
