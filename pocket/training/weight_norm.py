"""Weight normalisation: added for training the autoencoder, split into two tensors for publishing.

The engine has one `weight` per convolution, which is all that inference needs.

Source: Salimans and Kingma 2016.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from audiox_ext.config import AutoencoderConfig
from audiox_ext.networks.autoencoder.autoencoder import Autoencoder


@torch.no_grad()
def normalise_weights(module: nn.Module) -> None:
    """Split the weights of convolutions marked `weight_norm` into a length and a direction to train.

    The weights keep their values. Directions get a root mean square of 1, because optimisers with a fixed
    step size would change small directions too fast, and those of the widest layers fastest.

    Args:
        module: Module with the convolutions.
    """
    for layer in module.modules():
        if getattr(layer, "weight_norm", False) is True and not parametrize.is_parametrized(layer):
            parametrizations.weight_norm(layer, "weight", dim=0)
            direction = layer.get_parameter("parametrizations.weight.original1")
            dims = tuple(range(1, direction.dim()))
            direction.div_(direction.square().mean(dims, keepdim=True).sqrt().clamp(min=1e-12))


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Compute a state dict without weight normalisation.

    Args:
        module: Module, normalised or not.

    Returns:
        The detached tensors, with one `weight` per convolution.
    """
    length, direction = (f".parametrizations.weight.original{number}" for number in (0, 1))
    state: dict[str, Tensor] = {}
    for key, tensor in module.state_dict().items():
        if key.endswith(length):
            name = key.removesuffix(length)
            weight = module.get_submodule(name).weight
            assert isinstance(weight, Tensor)
            state[f"{name}.weight"] = weight.detach().clone()
        elif not key.endswith(direction):
            state[key] = tensor.detach()
    return state


def split_weight_norm(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Split a weight into g and v with weight = g * v / ||v||, with norms over all dimensions but the first.

    v has a root mean square of 1, because half precision is inaccurate for small numbers. A filter of zeros
    has g = 0.

    Args:
        weight: Weight (d0, ...).

    Returns:
        g (d0, 1, ...) and v (d0, ...).
    """
    dims = tuple(range(1, weight.dim()))
    length = torch.linalg.vector_norm(weight, dim=dims, keepdim=True)
    size = math.sqrt(weight[0].numel())
    direction = torch.where(length > 0, weight / length.clamp_min(torch.finfo(weight.dtype).tiny), 1 / size)
    return length, direction * size


def copy_plain(trained: Autoencoder, config: AutoencoderConfig) -> Autoencoder:
    """Return a copy of an autoencoder on the CPU without weight normalisation, for evaluation.

    Args:
        trained: The autoencoder.
        config: Its sizes.
    """
    plain = Autoencoder(config, dtype=torch.float32)
    plain.load_state_dict({key: value.cpu() for key, value in plain_state(trained).items()}, strict=True)
    return plain.eval().requires_grad_(False)
