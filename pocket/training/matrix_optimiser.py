"""Two optimisers as one: Muon for the matrices of a network's blocks, AdamW for everything else.

Muon takes all directions of a matrix's gradient as equally strong, so that what is rare in the data is learnt
as soon as what is common (Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982, whose scale lets both have
the same learning rate). torch's own computes in bfloat16 alone, which many processors take a hundred times
longer for, and knows no convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ROUNDS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # takes singular values in (0, 1] near 1, quickly rather than exactly
_RMS = 0.2  # of a step, as AdamW's usually is


class Muon(torch.optim.Optimizer):
    """matrices: (A, B), or (A, B, K) of convolutions, each of whose K places is a matrix of its own."""

    def __init__(self, matrices: Sequence[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """closure: computes the gradients, and is called once."""
        result = _evaluated(closure)
        for group in self.param_groups:
            for value in group["params"]:
                if value.grad is None:
                    continue
                state = self.state[value]
                if not state:
                    state["momentum"] = torch.zeros_like(value)
                momentum = state["momentum"].lerp_(value.grad, 1 - _MOMENTUM)
                direction = value.grad.lerp(momentum, _MOMENTUM)
                value.mul_(1 - group["lr"] * group["weight_decay"])
                size = _RMS * math.sqrt(max(value.shape[:2]))
                value.add_(_orthogonal(direction), alpha=-group["lr"] * size)
        return result


def _evaluated(closure: Callable[[], Any] | None) -> Any:
    """What a closure gives, with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _orthogonal(matrices: Tensor) -> Tensor:
    """(A, B) or (A, B, K) -> the same with all singular values near 1, by a Newton-Schulz iteration."""
    x = matrices.flatten(2).movedim(2, 0) if matrices.dim() > 2 else matrices[None]
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    # Lying as they are read: of a convolution's, the products take four times as long otherwise.
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).contiguous()
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x if wide else x.mT
    return x.movedim(0, 2).reshape(matrices.shape)


class MatrixOptimiser(torch.optim.Optimizer):
    """matrices: what `Muon` changes. others: an optimiser of all others."""

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: torch.optim.Optimizer,
        *,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        muon = Muon(matrices, lr=learning_rate, weight_decay=weight_decay)
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, others)
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        """The parts' own, so that a learning rate that is set in one reaches its part."""
        return [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """closure: computes the gradients, and is called once."""
        result = _evaluated(closure)
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
