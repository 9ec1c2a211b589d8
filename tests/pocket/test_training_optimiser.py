"""The optimiser of the pocket training, and the average of the weights."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from training_miniature import noise

from audiox_ext.training.module import WeightAverage
from pocket.training.matrix_optimiser import MatrixOptimiser, Muon


def layer_and_optimiser() -> tuple[nn.Linear, MatrixOptimiser]:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    others = torch.optim.AdamW([layer.bias], lr=0.1)
    return layer, MatrixOptimiser([layer.weight], others, learning_rate=0.1, weight_decay=0.0)


def learn(layer: nn.Linear, optimiser: MatrixOptimiser, steps: int) -> float:
    for _ in range(steps):

        def gradients() -> Tensor:
            optimiser.zero_grad()
            loss = (layer(noise(32, 6)) - noise(32, 6)[:, :4] - 1).square().mean()
            loss.backward()
            return loss

        loss = optimiser.step(gradients)
    return float(loss.detach())


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (6, 4, 3)])
def test_all_directions_of_a_matrix_are_learnt_at_one_pace(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    optimiser = Muon([weight], lr=0.1, weight_decay=0.0)
    strengths = torch.logspace(0, -2, shape[1])  # of its columns, a hundred times apart
    weight.grad = torch.randn(shape) * strengths.view(1, -1, *[1] * (len(shape) - 2))
    optimiser.step()
    for step in weight.detach().unsqueeze(-1).flatten(2).unbind(-1):
        sizes = torch.linalg.svdvals(step) / (0.1 * 0.2 * math.sqrt(6))
        assert 0.5 < float(sizes.min()) <= float(sizes.max()) < 1.3
    assert float((weight.detach() * weight.grad).sum()) < 0


def test_matrices_and_the_rest_are_optimised_as_one_and_go_on_from_a_checkpoint() -> None:
    layer, optimiser = layer_and_optimiser()
    first = learn(layer, optimiser, 1)
    for group in optimiser.param_groups:
        group["lr"] = 0.05
    assert learn(layer, optimiser, 60) < 0.1 * first
    other, again = layer_and_optimiser()
    other.load_state_dict(layer.state_dict())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for group in (*optimiser.param_groups, *again.param_groups):
        group["lr"] = 0.02  # reaches the parts of one that was read, too
    learn(layer, optimiser, 3)
    learn(other, again, 3)
    assert torch.equal(layer.weight, other.weight)
    assert torch.equal(layer.bias, other.bias)
    for group in again.param_groups:
        group["lr"] = 0.0
    before = other.weight.detach().clone()
    learn(other, again, 1)
    assert torch.equal(before, other.weight)


def test_the_average_follows_the_weights_and_gives_them_back() -> None:
    layer = nn.Linear(3, 2)
    average = WeightAverage(layer, 0.5)
    first = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(1.0)
    average.update(1)  # decay (1 + 1) / (10 + 1)
    with average.apply():
        torch.testing.assert_close(layer.weight, first + (1 - 2 / 11))
    torch.testing.assert_close(layer.weight, first + 1.0)
