"""Window boundaries are inaudible: statistics over many seeds, each with a control that must fail.

With random weights a network's windows disagree as no trained ones do, and its output changes wholly from
latent to latent, so that not even a hard cut would be seen. Here the network is exact instead: latents are a
Gaussian process whose memory is some seconds long, and the network's prediction is its true posterior mean
over the window that it sees. The rest is the tiny Turbo's.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from scipy.stats import wilcoxon
from torch import Tensor

from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.devices import DevicePlacement
from audiox_ext.pipeline.generate import generate_diffusion_cond
from audiox_ext.pipeline.synthesis import decode_latents
from audiox_ext.sampling.windows import WindowPlan, plan_windows

SEEDS, SECONDS, WINDOW = 20, 60, 320
PLAN = plan_windows(SECONDS * 16000 // 512, WINDOW)
ENDS = 8  # frames at either end of a sound, where the decoder sees padding zeros
MEMORIES = ((10.0, 0.3), (120.0, 0.7))  # (latents, fraction of the variance)


class ExactNetwork:
    """The velocity E[noise - x0 | x_t] of x_t = (1 - t) x0 + t noise, for one length of window."""

    def __init__(self, length: int) -> None:
        distance = (torch.arange(length)[:, None] - torch.arange(length)).abs().double()
        covariance = sum(share * torch.exp(-distance / memory) for memory, share in MEMORIES)
        values, vectors = torch.linalg.eigh(covariance)
        self.values, self.vectors = values.clamp(min=1e-9).float(), vectors.float()

    def prepare_context(self, context: Tensor, zero_items: int = 0) -> None:
        """Nothing: it makes one kind of sound."""

    def forward(self, x: Tensor, t: Tensor, context: None, reuse: None = None) -> Tensor:
        """x: (B, C, L), t: (B,), all equal."""
        now = float(t[0])
        gain = (1 - now) * self.values / ((1 - now) ** 2 * self.values + now**2)
        return (x - (x @ self.vectors * gain) @ self.vectors.T) / now


@pytest.fixture(scope="module")
def exact_model(tiny_folder: Any) -> Any:
    model, _ = get_pretrained_model(tiny_folder("turbo"))
    exact = ExactNetwork(WINDOW)
    model.network.forward, model.network.prepare_context = exact.forward, exact.prepare_context
    return model


@pytest.fixture(scope="module")
def long_latents(exact_model: Any) -> Tensor:
    """(SEEDS, C, L), made through overlapping windows."""
    return latents(exact_model, PLAN.latent_count, range(SEEDS))


def latents(model: Any, count: int, seeds: range) -> Tensor:
    """(B, C, count), one item per seed."""
    # Tokens in place of prompts, which nothing here uses.
    tokens = {name: torch.zeros(1, 128, model.config.cond_dim) for name in model.config.conditioners}
    return generate_diffusion_cond(
        model,
        seeds=seeds,
        batch_size=len(seeds),
        sample_size=count * 512,
        conditioning_tensors=tokens,
        device="cpu",
        return_latents=True,
    )


def hard_cuts(model: Any) -> Tensor:
    """The control: windows made one by one, cut in the middle of their overlaps and joined."""
    middles = [
        (later + earlier + WINDOW) // 2 for earlier, later in zip(PLAN.starts, PLAN.starts[1:], strict=False)
    ]
    borders = [0, *middles, PLAN.latent_count]
    parts = []
    for index, (start, begin, end) in enumerate(zip(PLAN.starts, borders[:-1], borders[1:], strict=True)):
        seeds = range(1000 * (index + 1), 1000 * (index + 1) + SEEDS)
        parts.append(latents(model, WINDOW, seeds)[..., begin - start : end - start])
    return torch.cat(parts, dim=-1)


def edges_of(plan: WindowPlan) -> list[int]:
    """The latents where windows begin, end, and hand over."""
    ends = [start + plan.length for start in plan.starts[:-1]]
    middles = [(a + b) // 2 for a, b in zip(plan.starts[1:], ends, strict=True)]
    return sorted([*plan.starts[1:], *ends, *middles])


def spectral_flux(sound: Tensor, hop: int = 512) -> Tensor:
    """(C, S) -> (S // hop,): how far the magnitude spectrum of all channels' mean moves from frame to frame,
    relative to its size (L2). Frame k is about latent k.
    """
    window = torch.hann_window(2 * hop)
    spectrum = torch.stft(sound.mean(dim=0), 2 * hop, hop, window=window, return_complex=True).abs()
    return (spectrum[:, 1:] - spectrum[:, :-1]).norm(dim=0) / spectrum[:, 1:].norm(dim=0).clamp(min=1e-9)


def flux_of(model: Any, latents: Tensor) -> Tensor:
    """(SEEDS, C, L) -> (SEEDS, L - 2 ENDS) flux of the decoded sounds, without their ends."""
    sounds = (decode_latents(model, z[None], DevicePlacement("cpu"))[0] for z in latents)
    return torch.stack([spectral_flux(sound)[ENDS:-ENDS] for sound in sounds])


def near(places: list[int], length: int) -> Tensor:
    """(length,) bool: within a latent of a place."""
    chosen = torch.zeros(length, dtype=torch.bool)
    for place in places:
        chosen[max(0, place - 1) : place + 2] = True
    return chosen


def rank_of_borders(flux: Tensor) -> float:
    """Rank, in [0, 1], of the mean flux at the borders among the means at as many random other places."""
    length, edges = flux.shape[1], [edge - ENDS for edge in edges_of(PLAN)]
    around = flux.mean(dim=0)
    smooth = torch.stack([around[:-2], around[1:-1], around[2:]]).mean(dim=0)  # of a place and its neighbours
    at_borders = smooth[[edge - 1 for edge in edges]].mean()
    free = [p for p in range(4, length - 4) if not bool(near(edges, length)[p - 1 : p + 2].any())]
    generator = torch.Generator().manual_seed(0)
    others = torch.stack(
        [
            smooth[
                [free[int(i)] - 1 for i in torch.randperm(len(free), generator=generator)[: len(edges)]]
            ].mean()
            for _ in range(2000)
        ]
    )
    return float((others < at_borders).float().mean())


def overlaps(plan: WindowPlan) -> Tensor:
    """(L,) bool: where two windows overlap."""
    count = torch.zeros(plan.latent_count)
    for start in plan.starts:
        count[start : start + plan.length] += 1
    return count > 1


@pytest.mark.slow
def test_the_spectrum_moves_at_borders_as_anywhere_else(exact_model: Any, long_latents: Tensor) -> None:
    flux = flux_of(exact_model, long_latents)
    assert 0.025 <= rank_of_borders(flux) <= 0.975
    shared = overlaps(PLAN)[ENDS : ENDS + flux.shape[1]]
    inside, outside = flux[:, shared].mean(dim=1), flux[:, ~shared].mean(dim=1)
    assert wilcoxon(inside, outside).pvalue > 0.01


@pytest.mark.slow
def test_hard_cuts_are_found(exact_model: Any) -> None:
    """The control of the test above."""
    assert rank_of_borders(flux_of(exact_model, hard_cuts(exact_model))) > 0.999


def test_blending_keeps_the_loudness(long_latents: Tensor) -> None:
    """Blends of uncorrelated sounds would lose up to 30 % of the standard deviation in the middle."""
    latents = long_latents
    weights = PLAN.weights()
    middle = torch.zeros(PLAN.latent_count, dtype=torch.bool)
    for start, weight in zip(PLAN.starts, weights, strict=True):
        middle[start : start + PLAN.length] |= (weight > 0.25) & (weight < 0.75)
    level = latents.square().mean(dim=(1, 2)).sqrt()
    inside = latents[..., middle].square().mean(dim=(1, 2)).sqrt() / level
    outside = latents[..., ~overlaps(PLAN)].square().mean(dim=(1, 2)).sqrt() / level
    error = (inside - outside).std() / SEEDS**0.5
    assert abs(float((inside - outside).mean())) < 0.02 + 2 * float(error)


def test_later_windows_do_not_repeat_the_opening(long_latents: Tensor) -> None:
    """Windows share their context, but not their noise: their first seconds are as strange to each other as
    any others.
    """
    latents = long_latents
    second = 31
    opening = latents[..., :second]

    def likeness(start: int) -> Tensor:
        part = latents[..., start : start + second]
        return torch.nn.functional.cosine_similarity(opening.flatten(1), part.flatten(1))  # (SEEDS,)

    at_starts = torch.stack([likeness(start) for start in PLAN.starts[1:]]).mean(dim=0)
    elsewhere = torch.stack([likeness(start + WINDOW // 2) for start in PLAN.starts[1:-1]]).mean(dim=0)
    assert wilcoxon(at_starts, elsewhere, alternative="greater").pvalue > 0.01
    # The control: the opening itself, repeated at every start.
    again = torch.ones(SEEDS)
    assert wilcoxon(again, elsewhere, alternative="greater").pvalue < 0.01
