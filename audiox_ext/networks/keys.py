"""The keys of published checkpoints, derived from the modules that are built here.

Attributes of modules equal the published keys, with two exceptions: a file holds a weight-normalised
convolution as a pair of tensors, and torch's fused projections are layers here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import Tensor, nn

Shapes = dict[str, tuple[int, ...]]
"""The shape of each tensor, by its key."""


def published_shapes(module: nn.Module) -> Shapes:
    """List the keys and shapes that a published checkpoint has for a module.

    These are its parameters and persistent buffers. A submodule with `weight_norm = True` has weight_g
    (d0, 1, 1) and weight_v instead of weight. A submodule's method `unused_keys() -> Shapes` adds keys of
    published files that have no influence, by names relative to it.

    Args:
        module: The module; it may be on the meta device.
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
    """Iterate over the parameters and persistent buffers of a module, without those of its submodules."""
    yield from module.named_parameters(recurse=False, remove_duplicate=False)
    for key, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        if key not in module._non_persistent_buffers_set:
            yield key, buffer


def published_key(key: str) -> str:
    """Return a checkpoint's name for one of our keys: it holds fused projections without a layer."""
    return re.sub(r"\.in_proj\.(weight|bias)$", r".in_proj_\1", key)


def module_key(key: str) -> str:
    """Return our name for a key of a checkpoint; the inverse of `published_key`."""
    return re.sub(r"\.in_proj_(weight|bias)$", r".in_proj.\1", key)
