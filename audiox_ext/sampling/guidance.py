"""Classifier-free guidance: the network's conditional and unconditional predictions made one.

B batch, C channels, L latents. Source: Ho and Salimans 2022 (arXiv 2207.12598); rescaling, Lin et al. 2023
(arXiv 2305.08891).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..model import Network
from ..networks.block_cache import BlockCache


class GuidedVelocity:
    """(x (B, C, L), t (B,)) -> velocity (B, C, L), with the conditioning fixed.

    context: (B, N, D). negative: (B, N, D), or None for the trained unconditional input, zeros. cfg_scale: 1
    makes one pass; else both predictions run as one batch, v = u + cfg_scale * (c - u). scale_phi: in [0, 1],
    how far the standard deviation over the channels is brought back to the conditional one's. between: (low,
    high) times, guidance where low < t <= high and the conditional prediction alone elsewhere, at half the
    cost (Kynkäänniemi et al. 2024, arXiv 2404.07724); None for guidance at all times. split: the two
    predictions run one after the other, with half the activations; they are made whole, whatever `reuse`.
    """

    def __init__(
        self,
        network: Network,
        context: Tensor,
        negative: Tensor | None = None,
        cfg_scale: float = 1.0,
        scale_phi: float = 0.0,
        between: tuple[float, float] | None = None,
        split: bool = False,
    ) -> None:
        self.network, self.cfg_scale, self.scale_phi = network, cfg_scale, scale_phi
        self.between = between
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
        # What the steps without guidance want; most runs have none.
        partly = self.guided and between is not None
        self.conditional = self.context.first(context.shape[0]) if partly else self.context

    def __call__(self, x: Tensor, t: Tensor, reuse: BlockCache | None = None) -> Tensor:
        """reuse: see `BlockCache`; the caller keeps one for each sequence of passes."""
        if not (self.guided and self._is_time_for_guidance(t)):
            return self.network(x, t, self.conditional, reuse)
        conditional, unconditional = self._both(x, t, reuse)
        v = unconditional + self.cfg_scale * (conditional - unconditional)
        if self.scale_phi:
            ratio = conditional.std(dim=1, keepdim=True) / v.std(dim=1, keepdim=True)
            v = self.scale_phi * v * ratio + (1 - self.scale_phi) * v
        return v

    def _is_time_for_guidance(self, t: Tensor) -> bool:
        if self.between is None:
            return True
        low, high = self.between
        return low < float(t[0]) <= high  # all items are at one time; waits for the device

    def _both(self, x: Tensor, t: Tensor, reuse: BlockCache | None) -> tuple[Tensor, Tensor]:
        """The conditional and the unconditional prediction."""
        if self.split:
            return self.network(x, t, self.context), self.network(x, t, self.other)
        both = self.network(torch.cat([x, x]), torch.cat([t, t]), self.context, reuse)
        conditional, unconditional = both.chunk(2)
        return conditional, unconditional
