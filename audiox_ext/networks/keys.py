"""Names of weights: the keys that published checkpoints use, from the modules that are built here.

Module attributes equal the published keys. The exceptions: a weight-normalised convolution is a pair of
tensors in a file, and torch's fused projections are layers here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]
"""The shape of each tensor, by its key."""


def published_shapes(module: nn.Module) -> Shapes:
    """The keys and shapes that a published checkpoint has for this module (which may be on the meta device).

    Every parameter and persistent buffer; a submodule with `weight_norm = True` shows weight_g (d0, 1, 1) and
    weight_v instead of weight; a submodule with a method `unused_keys() -> dict[str, tuple[int, ...]]`, names
    relative to it, adds those: keys that published files hold, without influence, for which nothing is built.
    """
    shapes: Shapes = {}
    for name, submodule in module.named_modules(remove_duplicate=False):
        prefix = f"{name}." if name else ""
        for key, tensor in _own_tensors(submodule):
            if key == "weight" and getattr(submodule, "weight_norm", False) is True:
                shapes[f"{prefix}weight_g"] = (tensor.shape[0], *[1] * (tensor.dim() - 1))
                shapes[f"{prefix}weight_v"] = tuple(tensor.shape)
            else:
                shapes[prefix + key] = tuple(tensor.shape)
        unused = getattr(submodule, "unused_keys", None)
        if callable(unused):
            shapes |= {prefix + key: tuple(shape) for key, shape in unused().items()}
    return shapes


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False, remove_duplicate=False)
    for key, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        if key not in module._non_persistent_buffers_set:
            yield key, buffer


def published_key(key: str) -> str:
    """The name that a checkpoint gives to one of our keys: fused projections are no layers there."""
    return re.sub(r"\.in_proj\.(weight|bias)$", r".in_proj_\1", key)


def module_key(key: str) -> str:
    """The inverse of `published_key`."""
    return re.sub(r"\.in_proj_(weight|bias)$", r".in_proj.\1", key)
