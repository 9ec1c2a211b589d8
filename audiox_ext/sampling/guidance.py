"""Classifier-free guidance: combines the network's conditional and unconditional predictions.

B batch, C channels, L latents, N context tokens, D their width. Sources: Ho and Salimans 2022 (arXiv
2207.12598); rescaling, Lin et al. 2023 (arXiv 2305.08891); guidance in a part of the run, Kynkäänniemi et al.
2024 (arXiv 2404.07724).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..model import Network
from ..networks.block_cache import BlockCache


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """The rule that combines the two predictions.

    Attributes:
        scale: v = u + scale * (c - u). With 1 the network runs once, only on the conditional input.
        rescale: 0 to 1: how far the standard deviation over the channels is moved back to that of the
            conditional prediction.
        times: (low, high) times of the network. Guidance is applied where low < t <= high; elsewhere the
            conditional prediction alone is used, at half the cost. None for guidance at all times.
        split: Run the two predictions one after the other, which halves the activations.
    """

    scale: float = 1.0
    rescale: float = 0.0
    times: tuple[float, float] | None = None
    split: bool = False

    @property
    def is_on(self) -> bool:
        """Whether there is any guidance."""
        return self.scale != 1.0

    @property
    def is_split(self) -> bool:
        """Whether there are two predictions, and they run one after the other."""
        return self.split and self.is_on


NO_GUIDANCE = Guidance()


class GuidedVelocity:
    """The network with its conditioning and guidance: (x (B, C, L), t (B,)) -> velocity (B, C, L)."""

    def __init__(
        self,
        network: Network,
        context: Tensor,
        negative: Tensor | None = None,
        guidance: Guidance = NO_GUIDANCE,
    ) -> None:
        """Prepare the contexts for the network's layers.

        Args:
            network: The denoising network.
            context: Conditional context (B, N, D).
            negative: Negative context (B, N, D); None for the trained unconditional context, zeros.
            guidance: The rule that combines the predictions.
        """
        self.network, self.guidance = network, guidance
        if not guidance.is_on or guidance.split:
            self.context = network.prepare_context(context)
        elif negative is None:
            self.context = network.prepare_context(context, zero_items=context.shape[0])
        else:
            self.context = network.prepare_context(torch.cat([context, negative]))
        if guidance.is_split:
            self.unconditional = network.prepare_context(
                torch.zeros_like(context) if negative is None else negative
            )
        # The context of the steps without guidance, if there are any.
        has_plain_steps = guidance.is_on and guidance.times is not None
        self.conditional = self.context.first(context.shape[0]) if has_plain_steps else self.context

    def __call__(self, x: Tensor, t: Tensor, reuse: BlockCache | None = None) -> Tensor:
        """Predict the velocity.

        Args:
            x: Noised latents (B, C, L).
            t: Times (B,), all equal.
            reuse: Blocks of earlier passes; keep one for each sequence of passes. A split pair ignores it.
        """
        if not (self.guidance.is_on and self._is_guided_at(t)):
            return self.network(x, t, self.conditional, reuse)
        conditional, unconditional = self._predict_both(x, t, reuse)
        v = unconditional + self.guidance.scale * (conditional - unconditional)
        phi = self.guidance.rescale
        if phi:
            ratio = conditional.std(dim=1, keepdim=True) / v.std(dim=1, keepdim=True)
            v = phi * v * ratio + (1 - phi) * v
        return v

    def _is_guided_at(self, t: Tensor) -> bool:
        """Whether guidance is applied at this time. Waits for the device."""
        if self.guidance.times is None:
            return True
        low, high = self.guidance.times
        return low < float(t[0]) <= high

    def _predict_both(self, x: Tensor, t: Tensor, reuse: BlockCache | None) -> tuple[Tensor, Tensor]:
        """Return the conditional and the unconditional prediction."""
        if self.guidance.split:
            return self.network(x, t, self.context), self.network(x, t, self.unconditional)
        both = self.network(torch.cat([x, x]), torch.cat([t, t]), self.context, reuse)
        conditional, unconditional = both.chunk(2)
        return conditional, unconditional
