"""LoRA matrices beside the layers of a network, made by peft. The network's own weights are frozen."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from ..checkpoints.adapters.additions import LoraLayer
from ..checkpoints.lora_file import target_shapes
from ..errors import InputError
from ..model import Network
from .settings import LoraSettings

_BLOCKS = r"^transformer\.layers\.\d+\."
_ADAPTER = "default"  # peft's name for a single adapter


def require_peft() -> None:
    """Raise `InputError` if peft is not installed."""
    if importlib.util.find_spec("peft") is None:
        raise InputError(
            'Training a LoRA needs peft, which is not installed. Run: pip install "audiox-ext[train]", '
            "or in this pack's folder: pip install .[train]"
        )


def select_layers(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """Return the names of the layers to adapt.

    Args:
        network: network to search.
        targets: each is the end of a layer's name (to_qkv), or a regular expression to search in it. Empty
            selects every layer in the blocks.

    Raises:
        InputError: a target matches no layer, or is not a regular expression.
    """
    names = list(target_shapes(network))
    selected: set[str] = set()
    for target in targets or (_BLOCKS,):
        try:
            pattern = re.compile(target)
        except re.error as error:
            raise InputError(f"The target {target!r} is not a regular expression ({error}).") from None
        matches = [name for name in names if name.endswith(f".{target}") or pattern.search(name)]
        if not matches:
            ends = sorted({re.sub(_BLOCKS, "", name) for name in names if re.match(_BLOCKS, name)})
            raise InputError(
                f"This network has no layer {target!r}. The layers of its blocks are {', '.join(ends)}."
            )
        selected.update(matches)
    return [name for name in names if name in selected]


def add_adapters(network: Network, settings: LoraSettings) -> None:
    """Add matrices to the selected layers. They begin with an output of zero.

    Their first values come from torch's global generator.

    Raises:
        InputError: a target matches no layer.
    """
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.scale,
        lora_dropout=settings.dropout,
        target_modules=select_layers(network, settings.targets),
    )
    inject_adapter_in_model(config, network, adapter_name=_ADAPTER)
    for parameter in network.parameters():
        if parameter.requires_grad:
            # In half precision, small steps would be rounded away.
            parameter.data = parameter.data.float()


@contextmanager
def disable_adapters(network: nn.Module) -> Iterator[None]:
    """Let the network compute without its adapters while the context lasts."""
    from peft.tuners.lora import LoraLayer as Adapter

    layers = [module for module in network.modules() if isinstance(module, Adapter)]
    for layer in layers:
        layer.set_scale(_ADAPTER, 0)
    try:
        yield
    finally:
        for layer in layers:
            layer.set_scale(_ADAPTER, 1)


def extract_adapters(network: nn.Module, scale: float) -> dict[str, LoraLayer]:
    """Copy the matrices to the CPU, by the name of their layer. scale: their alpha."""
    from peft.tuners.lora import LoraLayer as Adapter

    def copy(matrices: nn.ModuleDict) -> Tensor:
        weight = matrices[_ADAPTER].weight
        assert isinstance(weight, Tensor)
        return weight.detach().cpu().clone()

    return {
        name: LoraLayer(down=copy(module.lora_A), up=copy(module.lora_B), alpha=scale)
        for name, module in network.named_modules()
        if isinstance(module, Adapter)
    }
