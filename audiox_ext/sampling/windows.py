"""Sound of any length: one long latent, denoised through overlapping windows of the network's own length.

At one noise level all windows have the same scalings. A blend of their predictions, with weights of sum 1, is
therefore the blend of their estimates of the clean latents, with every objective. A long run is an ordinary
run with another velocity, so samplers need not know about windows. A prompt that changes inside a window gets
a pass of its own, weighted by its own span of time. Source of both: MultiDiffusion, Bar-Tal et al. 2023
(arXiv 2302.08113).

B batch, C channels, L latents of the whole sound, n latents of one window, W windows, S spans of time, N
context tokens, D their width.
"""

from __future__ import annotations

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
from ..utf8 import get_logger
from .guidance import NO_GUIDANCE, Guidance, GuidedVelocity

log = get_logger(__name__)

Crossfade = Literal["cosine", "linear"]
DEFAULT_BATCH = 4
"""Windows in one pass of the network."""
MAX_PREPARED_BYTES = 2**30
"""Bytes of prepared contexts that are kept from step to step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """A window with one context.

    Attributes:
        start: First latent of the window.
        weights: Weights of the window's prediction in the blend, (n,) float32 in [0, 1].
        window: Index of the window.
        span: Index of the span of time.
    """

    start: int
    weights: Tensor
    window: int
    span: int = 0


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """The positions of the windows.

    Attributes:
        length: Latents of one window.
        starts: First latent of each window. The first is 0; the last window ends with the sound.
    """

    length: int
    starts: tuple[int, ...]

    @property
    def latent_count(self) -> int:
        """Latents of the whole sound."""
        return self.starts[-1] + self.length

    def pieces(self, spans: Tensor | None = None, crossfade: Crossfade = "cosine") -> list[Piece]:
        """Return a piece for each window and each span that has weight in it, window by window.

        Args:
            spans: Weights of the spans (S, L), with sum 1 at every latent; None for one span.
            crossfade: Shape of the crossfade between windows.
        """
        spans = torch.ones(1, self.latent_count) if spans is None else spans
        return [
            Piece(start=start, weights=weight * span_weight.float(), window=window, span=span)
            for window, (start, weight) in enumerate(zip(self.starts, self.weights(crossfade), strict=True))
            for span, span_weight in enumerate(spans[:, start : start + self.length])
            if bool(span_weight.any())
        ]

    def weights(self, crossfade: Crossfade = "cosine") -> Tensor:
        """Return the weights of all windows: (W, n) float32, above 0, with sum 1 at every latent.

        Neighbours crossfade over their whole overlap, by a raised cosine or a line.
        """
        n = self.length
        raw = torch.ones(len(self.starts), n, dtype=torch.float64)
        for index in range(1, len(self.starts)):
            overlap = self.starts[index - 1] + n - self.starts[index]
            # Half a latent away from the ends, so that no weight is 0, and rise and fall add up to 1.
            ramp = (torch.arange(overlap, dtype=torch.float64) + 0.5) / overlap
            if crossfade == "cosine":
                ramp = (ramp * math.pi / 2).sin().square()
            raw[index, :overlap] *= ramp
            raw[index - 1, n - overlap :] *= ramp.flip(0)
        # Where three windows overlap, the products do not add up to 1 without this.
        total = torch.zeros(self.latent_count, dtype=torch.float64)
        for start, weight in zip(self.starts, raw, strict=True):
            total[start : start + n] += weight
        return torch.stack([w / total[s : s + n] for s, w in zip(self.starts, raw, strict=True)]).float()


def plan_windows(latent_count: int, length: int, overlap: int | None = None) -> WindowPlan:
    """Return the fewest windows that cover a sound, spread evenly.

    Args:
        latent_count: Latents of the sound. Up to `length` they are one window.
        length: Latents of one window.
        overlap: Latents by which neighbours overlap at least, 1 to length // 2; default length // 4.

    Raises:
        InputError: The overlap is out of range.
    """
    if latent_count <= length:
        return WindowPlan(length=latent_count, starts=(0,))
    overlap = max(1, length // 4) if overlap is None else overlap
    if not 1 <= overlap <= length // 2:
        raise InputError(
            f"The overlap is {overlap} latents. Windows of {length} latents can overlap "
            f"by 1 to {length // 2}."
        )
    gaps = -(-(latent_count - length) // (length - overlap))
    # Whole-number rounding keeps every step at most length - overlap.
    starts = tuple((latent_count - length) * index // gaps for index in range(gaps + 1))
    return WindowPlan(length=length, starts=starts)


class WindowedVelocity:
    """(x (B, C, L), t (B,)) -> velocity (B, C, L), blended from the guided velocities of all pieces.

    The token contexts of all pieces stay on the device. The values that the network prepares from them for
    its layers are some hundred times larger. They are prepared once for pieces with the same context tensors,
    and kept as long as all of them stay below a limit. Otherwise they are prepared for every pass, which
    costs a few per cent of the pass.

    If memory still runs out, the call is repeated with half the pieces in a pass and nothing
    kept, then with a single piece and the guided pair in two passes. After that it is an `InputError`.
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
        window_batch: int = DEFAULT_BATCH,
        prepared_limit: int = MAX_PREPARED_BYTES,
        reuse_threshold: float = 0.0,
    ) -> None:
        """Choose whether prepared contexts are kept.

        Args:
            network: The denoising network.
            pieces: Pieces of windows.
            contexts: One context (B, N, D) per piece, on the network's device.
            negatives: Negative contexts likewise; None for the trained unconditional context.
            guidance: The rule that combines the predictions.
            placement: Frees memory, and says whether the run was cancelled.
            window_batch: Pieces in one pass of the network, which bounds its activations.
            prepared_limit: Bytes of prepared contexts to keep at most.
            reuse_threshold: Above 0, a pass may skip most of the network, see `BlockCache`.
        """
        assert len(contexts) == len(pieces)
        self.network, self.guidance, self.placement = network, guidance, placement
        self.pieces, self.window_batch = list(pieces), window_batch
        self.contexts, self.negatives = list(contexts), None if negatives is None else list(negatives)
        self.weights = [piece.weights.to(contexts[0].device) for piece in pieces]
        self.keeps_prepared = _kept_bytes(network, contexts, guidance.is_on, window_batch) <= prepared_limit
        self._velocities: dict[tuple[int, ...], GuidedVelocity] = {}
        self.reuse_threshold = reuse_threshold
        # One per first piece of a pass: passes with equal contexts share velocities, but not latents.
        self._reuse: dict[int, BlockCache] = {}
        self._has_retried = False

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity (B, C, L). Raises `InputError` when memory runs out."""
        while True:
            try:
                return self._blend(x, t)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if not self._can_use_less():
                    raise self._out_of_memory_error(error) from None
            # Outside the handler, which keeps the tensors of the failed attempt alive.
            self._use_less()

    def _can_use_less(self) -> bool:
        """Whether the next attempt can use less memory."""
        return not self._has_retried or (self.guidance.is_on and not self.guidance.split)

    def _use_less(self) -> None:
        """Halve the pieces of a pass; if that was done or there is one piece, split the guided pair."""
        window_batch = min(self.window_batch, len(self.pieces))
        if self._has_retried or window_batch == 1:
            self.guidance = replace(self.guidance, split=True)
        self.window_batch = 1 if self._has_retried else max(1, window_batch // 2)
        self._has_retried, self.keeps_prepared = True, False
        self._velocities.clear()
        self._reuse.clear()
        passes = ", in two passes" if self.guidance.is_split else ""
        log.warning("Memory ran out: trying again with %d window(s) at once%s.", self.window_batch, passes)
        self.placement.free_memory()

    def _blend(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the blended velocity (B, C, L)."""
        if len(self.pieces) == 1:
            self.placement.check_cancelled()
            return self._velocity_of(0)(x, t, self._reuse_of(0))
        blended = torch.zeros_like(x)
        for first in range(0, len(self.pieces), self.window_batch):
            self.placement.check_cancelled()
            ranges = [
                slice(piece.start, piece.start + len(piece.weights))
                for piece in self.pieces[first : first + self.window_batch]
            ]
            windows = torch.cat([x[..., span] for span in ranges])
            velocities = self._velocity_of(first)(windows, t.repeat(len(ranges)), self._reuse_of(first))
            for index, (span, v) in enumerate(zip(ranges, velocities.split(x.shape[0]), strict=True), first):
                blended[..., span] += self.weights[index] * v
        return blended

    def _velocity_of(self, first: int) -> GuidedVelocity:
        """Return the guided network with the contexts of the pass that begins with piece `first`."""
        contexts = self.contexts[first : first + self.window_batch]
        negatives = None if self.negatives is None else self.negatives[first : first + self.window_batch]
        key = _key(contexts + (negatives or []))
        if key not in self._velocities:
            if not self.keeps_prepared:
                self._velocities.clear()
            self._velocities[key] = GuidedVelocity(
                self.network,
                torch.cat(contexts),
                None if negatives is None else torch.cat(negatives),
                self.guidance,
            )
        return self._velocities[key]

    def _reuse_of(self, first: int) -> BlockCache | None:
        """Return the block cache of the pass that begins with piece `first`, None if there is none."""
        if not self.reuse_threshold:
            return None
        return self._reuse.setdefault(first, BlockCache(self.reuse_threshold))

    def log_reuse(self) -> None:
        """Log how many passes reused blocks. Call it when the run has ended."""
        passes = sum(reuse.passes for reuse in self._reuse.values())
        if passes:
            reused = sum(reuse.reused for reuse in self._reuse.values())
            log.info(
                "%d of %d passes of the network used the blocks of an earlier one (reuse_threshold %g).",
                reused,
                passes,
                self.reuse_threshold,
            )

    def _out_of_memory_error(self, error: Exception) -> InputError:
        """Free all memory and return the error for the user."""
        self._velocities.clear()
        self.placement.free_memory(models=True)
        tried, lower = "", "batch"
        if len(self.pieces) > 1:
            tried, lower = ", also with fewer windows at once", "batch or window_batch"
        if self.guidance.is_split:
            tried += " and guidance in two passes" if tried else ", also with guidance in two passes"
        return InputError(
            f"Memory ran out while the sound was made{tried}. Lower the {lower}, load the model with a lower "
            f"precision, or free memory that other programs use. ({error})"
        )


def network_bytes(
    network: Network, pieces: Sequence[Piece], contexts: Sequence[Tensor], window_batch: int
) -> int:
    """Estimate the memory of a guided step beside the weights: activations and prepared contexts."""
    batch, tokens, _ = contexts[0].shape
    items = batch * min(window_batch, len(pieces))
    widest = 2 * items * (len(pieces[0].weights) + 1) * 8 * network.config.embed_dim
    prepared = _kept_bytes(network, contexts, True, window_batch)
    if prepared > MAX_PREPARED_BYTES:
        prepared = prepared_bytes(network, items, tokens, guided=True)
    return network.compute_dtype.itemsize * 3 * widest + prepared


def prepared_bytes(network: Network, items: int, tokens: int, guided: bool) -> int:
    """Return an upper bound on the bytes of `prepare_context`'s keys and values, or modulations."""
    config = network.config
    width = 2 * tokens * config.context_dim
    if config.type == "mmdit":
        width = 6 * config.latent_seq_len * config.embed_dim
    return (2 if guided else 1) * items * config.depth * width * network.compute_dtype.itemsize


def move_tensors(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """Move tensors to a device. A tensor that occurs twice is moved once."""
    moved = {id(tensor): tensor.to(device) for tensor in {id(tensor): tensor for tensor in tensors}.values()}
    return [moved[id(tensor)] for tensor in tensors]


def _kept_bytes(network: Network, contexts: Sequence[Tensor], guided: bool, window_batch: int) -> int:
    """Return the bytes that are prepared for all passes with different contexts."""
    groups = [contexts[first : first + window_batch] for first in range(0, len(contexts), window_batch)]
    counts = {_key(group): len(group) for group in groups}
    batch, tokens, _ = contexts[0].shape
    return prepared_bytes(network, sum(counts.values()) * batch, tokens, guided)


def _key(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    """Return a key that is equal only for the same tensor objects."""
    return tuple(id(tensor) for tensor in tensors)
