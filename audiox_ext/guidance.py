"""Classifier-free guidance: the network's conditional and unconditional predictions made one.

B batch, C channels, L latents. Source: Ho and Salimans 2022 (arXiv 2207.12598); rescaling, Lin et al. 2023
(arXiv 2305.08891).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .model import Network


class GuidedVelocity:
    """(x (B, C, L), t (B,)) -> velocity (B, C, L), with the conditioning fixed.

    context: (B, N, D). negative: (B, N, D), or None for the trained unconditional input, zeros. cfg_scale: 1
    makes one pass; else both predictions run as one batch, v = u + cfg_scale * (c - u). scale_phi: in [0, 1],
    how far the standard deviation over the channels is brought back to the conditional one's. split: the two
    predictions run one after the other, with half the activations.
    """

    def __init__(
        self,
        network: Network,
        context: Tensor,
        negative: Tensor | None = None,
        cfg_scale: float = 1.0,
        scale_phi: float = 0.0,
        split: bool = False,
    ) -> None:
        self.network, self.cfg_scale, self.scale_phi = network, cfg_scale, scale_phi
        self.guided = cfg_scale != 1.0
        self.split = split and self.guided
        if not self.guided or self.split:
            self.context = network.prepare_context(context)
        elif negative is None:
            self.context = network.prepare_context(context, zero_items=context.shape[0])
        else:
            self.context = network.prepare_context(torch.cat([context, negative]))
        if self.split:
            self.other = network.prepare_context(torch.zeros_like(context) if negative is None else negative)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        if not self.guided:
            return self.network(x, t, self.context)
        conditional, unconditional = self._both(x, t)
        v = unconditional + self.cfg_scale * (conditional - unconditional)
        if self.scale_phi:
            ratio = conditional.std(dim=1, keepdim=True) / v.std(dim=1, keepdim=True)
            v = self.scale_phi * v * ratio + (1 - self.scale_phi) * v
        return v

    def _both(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional and the unconditional prediction."""
        if self.split:
            return self.network(x, t, self.context), self.network(x, t, self.other)
        conditional, unconditional = self.network(torch.cat([x, x]), torch.cat([t, t]), self.context).chunk(2)
        return conditional, unconditional
