"""The noise of stochastic samplers: a Brownian path, independent of the steps."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from gaussian_data import gaussian_velocity
from golden_cases import assert_close_l2
from torch import Tensor

from audiox_ext.random_numbers import RandomNumbers
from audiox_ext.sampling.denoiser import BrownianNoise, VDenoiser
from audiox_ext.sampling.samplers import sample_v
from audiox_ext.sampling.schedules import noise_levels


def test_brownian_noise_does_not_depend_on_the_steps() -> None:
    x = torch.zeros(1, 2, 64)
    sigmas = torch.tensor([8.0, 4.0, 2.0, 0.0])

    def source() -> BrownianNoise:
        return BrownianNoise(x, sigmas, RandomNumbers.from_seed(5))

    whole = source()(x, sigmas[0], sigmas[2]) * 6**0.5
    parts = source()
    halves = parts(x, sigmas[0], sigmas[1]) * 4**0.5 + parts(x, sigmas[1], sigmas[2]) * 2**0.5
    assert_close_l2(halves, whole, 1e-4)
    assert abs(float(whole.std()) / 6**0.5 - 1) < 0.2


@pytest.mark.parametrize("limit", [2**26, 1])
def test_the_noise_is_that_of_torchsdes_tree(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not depend on how much of the path is cached."""
    import torchsde

    monkeypatch.setattr("audiox_ext.sampling.denoiser.MAX_BROWNIAN_CACHE", limit)
    x, sigmas = torch.zeros(1, 2, 64), noise_levels(60, 0.3, 500)
    (entropy,) = RandomNumbers.from_seed(5).integers(2**63 - 1)
    low, high = float(sigmas[-2]), float(sigmas[0])
    tree = torchsde.BrownianTree(low, x, high, entropy=entropy)
    noise = BrownianNoise(x, sigmas, RandomNumbers.from_seed(5))
    for start, end in pairwise(sigmas[:-1].tolist()):
        within = max(end, round(low, 6)), min(start, round(high, 6))
        expected = -tree(*within) / (start - end) ** 0.5
        assert torch.equal(noise(x, torch.tensor(start), torch.tensor(end)), expected)
    assert not noise(x, sigmas[-2], sigmas[-1]).any()


@pytest.mark.parametrize("name", ["dpmpp-3m-sde", "dpmpp-2m-sde"])
def test_noise_is_drawn_while_a_pass_is_under_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the network has started, before its result is used."""
    events: list[str] = []
    draw = BrownianNoise.__call__

    def spy(self: BrownianNoise, *sigmas: Tensor) -> Tensor:
        events.append("noise")
        return draw(self, *sigmas)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        events.append("pass")
        return gaussian_velocity(x, t)

    monkeypatch.setattr(BrownianNoise, "__call__", spy)
    sample_v(
        VDenoiser(velocity),
        torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0)),
        sampler=name,
        steps=3,
        sigma_min=0.3,
        sigma_max=50.0,
        random=RandomNumbers.from_seed(0),
        callback=lambda info: events.append("report"),
    )
    assert events == ["pass", "noise", "report"] * 3
