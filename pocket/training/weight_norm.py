"""Weight normalisation while the autoencoder is trained, and its two tensors in what is published.

The engine keeps one `weight` a convolution, which is all that inference needs. Source: Salimans and Kingma
2016.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize


@torch.no_grad()
def normalise_weights(module: nn.Module) -> None:
    """Each convolution that is marked `weight_norm` gets a length and a direction, which are trained instead
    of its weight. The weights are what they were.

    Directions are of size 1: an optimiser whose steps have a size of their own would turn small ones about in
    no time, and the widest layers first.
    """
    for layer in module.modules():
        if getattr(layer, "weight_norm", False) is True and not parametrize.is_parametrized(layer):
            parametrizations.weight_norm(layer, "weight", dim=0)
            direction = layer.get_parameter("parametrizations.weight.original1")
            dims = tuple(range(1, direction.dim()))
            direction.div_(direction.square().mean(dims, keepdim=True).sqrt().clamp(min=1e-12))


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of the same module without the normalisation, detached: one `weight` a convolution."""
    length, direction = (f".parametrizations.weight.original{number}" for number in (0, 1))
    state: dict[str, Tensor] = {}
    for key, tensor in module.state_dict().items():
        if key.endswith(length):
            name = key.removesuffix(length)
            state[f"{name}.weight"] = module.get_submodule(name).weight.detach().clone()  # type: ignore[operator]
        elif not key.endswith(direction):
            state[key] = tensor.detach()
    return state


def split_weight_norm(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(d0, ...) -> weight_g (d0, 1, ...) and weight_v, with weight = g * v / ||v||, norms over all but d0.

    v is of size 1, not of the weight's: half precision holds small numbers badly. A filter of zeros has
    length 0.
    """
    dims = tuple(range(1, weight.dim()))
    length = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    size = math.sqrt(weight[0].numel())
    direction = torch.where(length > 0, weight / length.clamp_min(torch.finfo(weight.dtype).tiny), 1 / size)
    return length, direction * size
