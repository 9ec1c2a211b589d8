"""Muon for the matrices of a network's blocks, combined with another optimiser for everything else.

Muon gives all directions of a gradient matrix equal strength, so that rare features are learnt as soon as
common ones. torch's own Muon computes only in bfloat16, which is a hundred times slower on many CPUs, and
does not support convolutions.

Source: Jordan et al. 2024; Liu et al. 2025, arXiv 2502.16982, for the scale that allows one
learning rate for both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

_MOMENTUM = 0.95
_ROUNDS = 5
_QUINTIC = (3.4445, -4.7750, 2.0315)  # moves singular values in (0, 1] close to 1 in few rounds
_RMS = 0.2  # root mean square of a step, as usual for AdamW


class Muon(torch.optim.Optimizer):
    """Muon for matrices, and for convolutions as one matrix per position of the kernel."""

    def __init__(self, matrices: Sequence[nn.Parameter], *, lr: float, weight_decay: float) -> None:
        """Register the parameters.

        Args:
            matrices: Parameters (A, B) or (A, B, K).
            lr: Learning rate.
            weight_decay: Decoupled weight decay.
        """
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters.

        Args:
            closure: Computes the gradients; called once.

        Returns:
            The result of the closure, None without one.
        """
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
    """Result of a closure, computed with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _orthogonal(matrices: Tensor) -> Tensor:
    """Matrices with all singular values moved close to 1, by a Newton-Schulz iteration."""
    x = matrices.flatten(2).movedim(2, 0) if matrices.dim() > 2 else matrices[None]
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    # Contiguous memory makes the products of a convolution four times faster.
    x = (x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).contiguous()
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x if wide else x.mT
    return x.movedim(0, 2).reshape(matrices.shape)


class MatrixOptimiser(torch.optim.Optimizer):
    """Two optimisers as one: Muon for some matrices, and another for the other parameters."""

    def __init__(
        self,
        matrices: Sequence[nn.Parameter],
        others: torch.optim.Optimizer,
        *,
        learning_rate: float,
        weight_decay: float,
    ) -> None:
        """Combine the optimisers.

        Args:
            matrices: Parameters that Muon updates.
            others: Optimiser of all other parameters.
            learning_rate: Learning rate of Muon.
            weight_decay: Weight decay of Muon.
        """
        muon = Muon(matrices, lr=learning_rate, weight_decay=weight_decay)
        self._parts: tuple[torch.optim.Optimizer, ...] = (muon, others)
        super().__init__(self._groups(), {})

    def _groups(self) -> list[dict[str, Any]]:
        """The groups of both, shared, so that a schedule of the learning rate reaches them."""
        return [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters.

        Args:
            closure: Computes the gradients; called once.

        Returns:
            The result of the closure, None without one.
        """
        result = _evaluated(closure)
        for part in self._parts:
            part.step()
        return result

    def state_dict(self) -> dict[str, Any]:
        """Return the state of both optimisers for a checkpoint."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint.

        Args:
            state_dict: Result of `state_dict`.
        """
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = self._groups()
