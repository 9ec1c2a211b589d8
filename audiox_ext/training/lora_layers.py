"""The matrices of a LoRA beside the layers of a network, by peft.

The network's own weights stay as they are and get no gradients.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from ..checkpoints.lora_file import LoraLayer, target_shapes
from ..errors import InputError
from ..model import Network
from .settings import LoraSettings

_BLOCKS = r"^transformer\.layers\.\d+\."
_ADAPTER = "default"  # peft's name for the only one


def require_peft() -> None:
    """Raises `InputError` where it is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            'Training a LoRA needs peft, not installed here: pip install "audiox-ext[train]", or in the '
            "folder of this pack pip install .[train]"
        )


def chosen_layers(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """The names of the layers that get matrices: those in the blocks, or those that the targets name.

    A target is the end of a layer's name (to_qkv), or a regular expression that is found in it. Raises
    `InputError` for one that is in no layer.
    """
    names = list(target_shapes(network))
    chosen: set[str] = set()
    for target in targets or (_BLOCKS,):
        try:
            pattern = re.compile(target)
        except re.error as error:
            raise InputError(f"The target {target!r} is no regular expression ({error}).") from None
        found = [name for name in names if name.endswith(f".{target}") or pattern.search(name)]
        if not found:
            ends = sorted({re.sub(_BLOCKS, "", name) for name in names if re.match(_BLOCKS, name)})
            raise InputError(
                f"There is no layer {target!r} in this network. In its blocks are {', '.join(ends)}."
            )
        chosen.update(found)
    return [name for name in names if name in chosen]


def add_adapters(network: Network, settings: LoraSettings) -> None:
    """Put them beside the chosen layers, from torch's global generator; at first they add nothing."""
    from peft import LoraConfig, inject_adapter_in_model

    names = chosen_layers(network, settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale,
        lora_dropout=settings.dropout,
        target_modules=names,
    )
    inject_adapter_in_model(config, network, adapter_name=_ADAPTER)
    for parameter in network.parameters():
        if parameter.requires_grad:
            # Beside weights in half precision, too: small steps would be lost in it.
            parameter.data = parameter.data.float()


@contextmanager
def without_adapters(network: nn.Module) -> Iterator[None]:
    """The network is for a while as if there were none."""
    from peft.tuners.lora import LoraLayer as Adapter

    layers = [module for module in network.modules() if isinstance(module, Adapter)]
    for layer in layers:
        layer.set_scale(_ADAPTER, 0)
    try:
        yield
    finally:
        for layer in layers:
            layer.set_scale(_ADAPTER, 1)


def adapter_layers(network: nn.Module, scale: float) -> dict[str, LoraLayer]:
    """Copies of the matrices, by the name of their layer. scale: their alpha."""
    from peft.tuners.lora import LoraLayer as Adapter

    found: dict[str, LoraLayer] = {}
    for name, module in network.named_modules():
        if isinstance(module, Adapter):
            down, up = (_weight(part) for part in (module.lora_A, module.lora_B))
            found[name] = LoraLayer(down=down, up=up, alpha=scale)
    return found


def _weight(matrices: Any) -> Any:
    return matrices[_ADAPTER].weight.detach().cpu().clone()
