"""Weight-normalised convolutions that are folded when they are first used, and pages of the file until then.

A folded weight belongs to the process, and what is read from a file can be let go of. Half of an autoencoder
is used at the very end of a generation, the other half perhaps never.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .state_dict import fold


def can_fold_late() -> bool:
    """Whether this torch tells a module of everything that reads or replaces its weights (2.5 and newer)."""
    return hasattr(nn.Module, "register_load_state_dict_pre_hook")


def take_pairs(state: dict[str, Tensor], prefix: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Take the pairs (weight_g, weight_v) whose keys begin with `prefix` out of `state`, by key of the
    weight.
    """
    stems = [
        key.removesuffix("_v")
        for key in state
        if key.startswith(prefix) and key.endswith("weight_v") and f"{key.removesuffix('v')}g" in state
    ]
    return {stem: (state.pop(f"{stem}_g"), state.pop(f"{stem}_v")) for stem in stems}


class _Folded(nn.Module):
    """v -> gain * v / ||v||, in the type of v."""

    def __init__(self, gain: Tensor) -> None:
        super().__init__()
        self.register_buffer("gain", gain)
        self.gain: Tensor

    def forward(self, v: Tensor) -> Tensor:
        return fold(self.gain, v).to(v.dtype)


def fold_at_first_use(part: nn.Module, gains: dict[str, Tensor]) -> None:
    """From now on the weights of `part` are folded: by key of the layer's weight, `gains` holds weight_g, and
    the weight itself is still weight_v.

    Whoever reads such a weight gets it folded; it becomes so for good when the part first runs, or when its
    state dict is read or replaced.
    """
    for key, gain in gains.items():
        layer = part.get_submodule(key.rpartition(".")[0])
        # unsafe, because the check that this leaves out would read the weight.
        parametrize.register_parametrization(layer, "weight", _Folded(gain), unsafe=True)
    part.register_forward_pre_hook(_fold_now)
    part.register_state_dict_pre_hook(_fold_now)
    part.register_load_state_dict_pre_hook(_fold_now)


def _fold_now(part: nn.Module, *_: Any) -> None:
    layer: Any  # torch gives it the attributes that are used here
    for layer in list(part.modules()):
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        # Not in inference mode, where the weights would become tensors that nothing can change again.
        with torch.inference_mode(False), torch.no_grad():
            weight = layer.weight
        # By hand: torch's own removal would take the weight away from copies of the layer, too.
        original = layer.parametrizations["weight"].original
        original.data = weight
        del layer.parametrizations
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        layer.register_parameter("weight", original)
