"""LoRAs with random numbers for a model, and the weights they give, computed without the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audiox_ext.checkpoints.adapters.additions import LoraLayer
from audiox_ext.checkpoints.lora_file import Lora, LoraInfo, fingerprint, kind_of, target_shapes


def random_lora(
    model: Any,
    seed: int = 1,
    rank: int = 3,
    alpha: float = 2.0,
    is_target: Callable[[str], bool] = lambda name: True,
    **info: Any,
) -> Lora:
    """A LoRA for the layers that `is_target` selects by name, with changes of the size of the weights."""
    generator = torch.Generator().manual_seed(seed)
    shapes = target_shapes(model.network)
    layers = {}
    for name, shape in shapes.items():
        if not is_target(name):
            continue
        down = torch.randn(rank, *shape[1:], generator=generator)
        filters = (1,) * (len(shape) - 2)
        up = torch.randn(shape[0], rank, *filters, generator=generator)
        scale = 0.3 * model.network.get_parameter(f"{name}.weight").float().std()
        layers[name] = LoraLayer(down=down, up=up * scale, alpha=alpha)
    known: dict[str, Any] = {
        "name": f"random-{seed}",
        "kind": kind_of(model.config),
        "base": model.folder.name,
        "fingerprint": fingerprint(shapes),
        "license": model.config.license,
    }
    return Lora(info=LoraInfo(**known | info), layers=layers)


def explicit_weights(network: nn.Module, loras: list[tuple[Lora, float]]) -> dict[str, Tensor]:
    """W + the sum of strength * alpha / rank * B A of each layer, in float64, by name of the weight."""
    weights = {name: weight.detach().double() for name, weight in network.named_parameters()}
    for lora, strength in loras:
        for name, layer in lora.layers.items():
            assert isinstance(layer, LoraLayer)
            a, b = layer.down.double(), layer.up.double()
            # For convolutions, B has width 1.
            product = torch.einsum("orz,rik->oik" if a.dim() == 3 else "or,ri->oi", b, a)
            key = f"{name}.weight"
            weights[key] = weights[key] + strength * layer.alpha / a.shape[0] * product
    return weights
