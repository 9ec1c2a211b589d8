"""Sound of any length: one long latent, denoised through overlapping windows of the network's own length.

At one noise level all windows share the same scalings, so predictions that are blended with weights that sum
to 1 are the blend of the windows' estimates of the clean latents, with every objective. A long run is
therefore an ordinary one with another velocity: no sampler knows of windows. Likewise for prompts that change
inside a window: each has a pass of its own, heard in its own span of time. Source: MultiDiffusion, Bar-Tal et
al. 2023 (arXiv 2302.08113), for both.

B batch, C channels, L latents of the whole, n of one window, W windows, S spans of time, N context tokens, D
their width.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..devices import Placement
from ..errors import InputError, is_out_of_memory
from ..model import Network
from ..networks.block_cache import BlockCache
from .guidance import NO_GUIDANCE, Guidance, GuidedVelocity

log = logging.getLogger(__name__)

Crossfade = Literal["cosine", "linear"]
DEFAULT_BATCH = 4  # windows that go through the network at once
PREPARED_LIMIT = 2**30  # bytes of prepared contexts that are kept from step to step


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """A window as it is heard with one context. start: its first latent. weights: (n,) float32, in [0, 1].

    window, span: which they are, counted from 0.
    """

    start: int
    weights: Tensor
    window: int
    span: int = 0


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """Where windows lie. length: latents of each. starts: in latents; the first 0, the last such that its
    window ends with the whole.
    """

    length: int
    starts: tuple[int, ...]

    @property
    def total(self) -> int:
        """Latents of the whole."""
        return self.starts[-1] + self.length

    def pieces(self, spans: Tensor | None = None, crossfade: Crossfade = "cosine") -> list[Piece]:
        """A piece for each window and each span that is heard in it, window by window.

        spans: how much of each span is heard (S, L), of sum 1 at every latent; None for one span.
        """
        spans = torch.ones(1, self.total) if spans is None else spans
        return [
            Piece(start=start, weights=weight * heard.float(), window=window, span=span)
            for window, (start, weight) in enumerate(zip(self.starts, self.weights(crossfade), strict=True))
            for span, heard in enumerate(spans[:, start : start + self.length])
            if bool(heard.any())
        ]

    def weights(self, crossfade: Crossfade = "cosine") -> Tensor:
        """How much of each window is heard: (W, n) float32, above 0, of sum 1 at every latent.

        Neighbours fade over all that they share, by a raised cosine or a line.
        """
        n = self.length
        raw = torch.ones(len(self.starts), n, dtype=torch.float64)
        for index in range(1, len(self.starts)):
            shared = self.starts[index - 1] + n - self.starts[index]
            # Half a latent away from the ends: no weight is 0, and rise and fall add up to 1.
            ramp = (torch.arange(shared, dtype=torch.float64) + 0.5) / shared
            if crossfade == "cosine":
                ramp = (ramp * math.pi / 2).sin().square()
            raw[index, :shared] *= ramp
            raw[index - 1, n - shared :] *= ramp.flip(0)
        # Where three windows meet the products do not add up to 1 by themselves.
        total = torch.zeros(self.total, dtype=torch.float64)
        for start, weight in zip(self.starts, raw, strict=True):
            total[start : start + n] += weight
        return torch.stack([w / total[s : s + n] for s, w in zip(self.starts, raw, strict=True)]).float()


def plan_windows(total: int, length: int, overlap: int | None = None) -> WindowPlan:
    """The fewest windows of `length` latents that cover `total` ones and overlap by at least `overlap`.

    They are spread evenly, so that no two share much more than others. overlap: 1 to length // 2, default a
    quarter of the length. With total <= length it is one window of `total` latents.
    """
    if total <= length:
        return WindowPlan(length=total, starts=(0,))
    overlap = max(1, length // 4) if overlap is None else overlap
    if not 1 <= overlap <= length // 2:
        raise InputError(
            f"Windows of {length} latents overlap by 1 to {length // 2} latents, not by {overlap}."
        )
    gaps = -(-(total - length) // (length - overlap))
    # Whole-number rounding keeps every step at most length - overlap.
    starts = tuple((total - length) * index // gaps for index in range(gaps + 1))
    return WindowPlan(length=length, starts=starts)


class WindowedVelocity:
    """(x (B, C, L), t (B,)) -> velocity (B, C, L), blended from the pieces' guided velocities; that of a
    single piece as it is.

    contexts, negatives: (B, N, D) a piece, on the network's device; negatives None for the trained
    unconditional input. at_once: pieces in one pass of the network, which bounds its activations.
    reuse_threshold: above 0, a pass may leave out most of the network, see `BlockCache`.

    The token contexts of all pieces stay on the device. What the network makes of them for its layers is some
    hundred times larger: it is made once for pieces whose contexts are the same tensors, and kept as long as
    all of it is below `prepared_limit` bytes, else made anew for each pass, which costs a few per cent of it.
    When memory runs out in spite of that, the call is tried once more without keeping anything and with half
    the pieces at once, then with a single piece and the guided pair in two passes; after that it is an
    `InputError`.
    """

    def __init__(
        self,
        network: Network,
        pieces: Sequence[Piece],
        contexts: Sequence[Tensor],
        negatives: Sequence[Tensor] | None = None,
        guidance: Guidance = NO_GUIDANCE,
        *,
        placement: Placement,
        at_once: int = DEFAULT_BATCH,
        prepared_limit: int = PREPARED_LIMIT,
        reuse_threshold: float = 0.0,
    ) -> None:
        assert len(contexts) == len(pieces)
        self.network, self.guidance, self.placement = network, guidance, placement
        self.pieces, self.at_once = list(pieces), at_once
        self.contexts, self.negatives = list(contexts), None if negatives is None else list(negatives)
        self.weights = [piece.weights.to(contexts[0].device) for piece in pieces]
        self.keeps = _kept_bytes(network, contexts, guidance.is_on, at_once) <= prepared_limit
        self._kept: dict[tuple[int, ...], GuidedVelocity] = {}
        self.reuse_threshold = reuse_threshold
        # By the first piece of a group: groups of equal contexts share these, but not their latents.
        self._reuse: dict[int, BlockCache] = {}
        self._retried = False

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        while True:
            try:
                return self._blend(x, t)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if not self._can_do_with_less():
                    raise self._too_large(error) from None
            # Outside the handler, which keeps the tensors of the failed try alive.
            self._do_with_less()

    def _can_do_with_less(self) -> bool:
        return not self._retried or (self.guidance.is_on and not self.guidance.split)

    def _do_with_less(self) -> None:
        """Halve what is done at once; where that was done, or there is nothing to halve, split the pair."""
        at_once = min(self.at_once, len(self.pieces))
        if self._retried or at_once == 1:
            self.guidance = replace(self.guidance, split=True)
        self.at_once = 1 if self._retried else max(1, at_once // 2)
        self._retried, self.keeps = True, False
        self._kept.clear()
        self._reuse.clear()
        passes = ", in two passes" if self.guidance.is_split else ""
        log.warning("Memory ran out: trying again with %d window(s) at once%s.", self.at_once, passes)
        self.placement.free_memory()

    def _blend(self, x: Tensor, t: Tensor) -> Tensor:
        if len(self.pieces) == 1:
            self.placement.check_cancelled()
            return self._group(0)(x, t, self._reuse_of(0))
        blended = torch.zeros_like(x)
        for first in range(0, len(self.pieces), self.at_once):
            self.placement.check_cancelled()
            spans = [
                slice(piece.start, piece.start + len(piece.weights))
                for piece in self.pieces[first : first + self.at_once]
            ]
            parts = torch.cat([x[..., span] for span in spans])
            v = self._group(first)(parts, t.repeat(len(spans)), self._reuse_of(first))
            for index, (span, part) in enumerate(zip(spans, v.split(x.shape[0]), strict=True), start=first):
                blended[..., span] += self.weights[index] * part
        return blended

    def _group(self, first: int) -> GuidedVelocity:
        """The guided network with the contexts of the pieces from `first` on."""
        contexts = self.contexts[first : first + self.at_once]
        negatives = None if self.negatives is None else self.negatives[first : first + self.at_once]
        key = _key(contexts + (negatives or []))
        if key not in self._kept:
            if not self.keeps:
                self._kept.clear()
            self._kept[key] = GuidedVelocity(
                self.network,
                torch.cat(contexts),
                None if negatives is None else torch.cat(negatives),
                self.guidance,
            )
        return self._kept[key]

    def _reuse_of(self, first: int) -> BlockCache | None:
        if not self.reuse_threshold:
            return None
        return self._reuse.setdefault(first, BlockCache(self.reuse_threshold))

    def say_what_was_reused(self) -> None:
        """To be called when the run has ended."""
        passes = sum(reuse.passes for reuse in self._reuse.values())
        if passes:
            reused = sum(reuse.reused for reuse in self._reuse.values())
            log.info(
                "%d of %d passes of the network used the blocks of an earlier one (reuse_threshold %g).",
                reused,
                passes,
                self.reuse_threshold,
            )

    def _too_large(self, error: Exception) -> InputError:
        self._kept.clear()
        self.placement.free_memory(models=True)
        tried, lower = "", "batch"
        if len(self.pieces) > 1:
            tried, lower = ", also with fewer windows at once", "batch or window_batch"
        if self.guidance.is_split:
            tried += " and guidance in two passes" if tried else ", also with guidance in two passes"
        return InputError(
            f"Memory ran out while the sound was made{tried}. Lower the {lower}, load the model with a lower "
            f"precision, or free memory that others use. ({error})"
        )


def network_bytes(network: Network, pieces: Sequence[Piece], contexts: Sequence[Tensor], at_once: int) -> int:
    """Rough need of a guided step beside the weights: the widest activations and the prepared contexts."""
    batch, tokens, _ = contexts[0].shape
    items = batch * min(at_once, len(pieces))
    widest = 2 * items * (len(pieces[0].weights) + 1) * 8 * network.config.embed_dim
    kept = _kept_bytes(network, contexts, True, at_once)
    if kept > PREPARED_LIMIT:
        kept = prepared_bytes(network, items, tokens, guided=True)
    return network.compute_dtype.itemsize * 3 * widest + kept


def prepared_bytes(network: Network, items: int, tokens: int, guided: bool) -> int:
    """At most what `prepare_context` makes for a batch of `items`: keys and values, or modulations."""
    config = network.config
    width = 2 * tokens * config.context_dim
    if config.type == "mmdit":
        width = 6 * config.latent_seq_len * config.embed_dim
    return (2 if guided else 1) * items * config.depth * width * network.compute_dtype.itemsize


def moved(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on a device; those that were the same remain so."""
    there = {id(tensor): tensor.to(device) for tensor in {id(tensor): tensor for tensor in tensors}.values()}
    return [there[id(tensor)] for tensor in tensors]


def _kept_bytes(network: Network, contexts: Sequence[Tensor], guided: bool, at_once: int) -> int:
    """What is prepared for all groups of `at_once` contexts that differ."""
    groups = [contexts[first : first + at_once] for first in range(0, len(contexts), at_once)]
    counts = {_key(group): len(group) for group in groups}
    batch, tokens, _ = contexts[0].shape
    return prepared_bytes(network, sum(counts.values()) * batch, tokens, guided)


def _key(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(id(tensor) for tensor in tensors)
