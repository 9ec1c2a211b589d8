"""Checks tensors that were read from a file: of a usable kind, no larger than the file, finite."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...errors import CheckpointError

_SMALL = 4096  # values; reading these costs nothing beside loading
_TIMES_USED = 4  # tensors may share values, as the two names of an embedding do


def check_sizes(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Check that the file that holds the tensors of a pickle is large enough for them.

    Args:
        path: the file.
        tensors: the tensors by key. Those of kinds that `check_weights` refuses are left out.

    Raises:
        CheckpointError: a tensor repeats its values, or all of them are larger than the file.
    """
    size, total, storages = path.stat().st_size, 0, dict[int, int]()
    for key, tensor in tensors.items():
        if _describe_kind(tensor):
            continue
        needed, stored = tensor.numel() * tensor.itemsize, tensor.untyped_storage()
        storages[stored.data_ptr()] = stored.nbytes()
        total += needed
        if needed > stored.nbytes():
            raise CheckpointError(
                f"{path}: {key} claims {tensor.numel()} values, but the file holds only "
                f"{stored.nbytes() // tensor.itemsize} of them. Download it again."
            )
    if sum(storages.values()) > size or total > _TIMES_USED * size:
        raise CheckpointError(
            f"{path} ({size} bytes) claims tensors of {max(total, *storages.values())} bytes. Download it "
            "again."
        )


def check_weights(path: Path, tensors: Mapping[str, Tensor], other_types: Collection[str] = ()) -> None:
    """Check that tensors can be used as weights.

    Only small tensors are searched for values that are not finite, because large ones stay on the disk until
    they are used. A training that failed leaves them everywhere.

    Args:
        path: the file that they are from.
        tensors: the tensors by key.
        other_types: keys of tensors that may hold whole numbers or any value, because they are not used.

    Raises:
        CheckpointError: a tensor is not a dense tensor of floating-point numbers, or not finite.
    """
    for key, tensor in tensors.items():
        kind = _describe_kind(tensor)
        if not kind and key not in other_types and not tensor.is_floating_point():
            kind = f"of type {_name(tensor.dtype)}"
        if kind:
            raise CheckpointError(
                f"{path}: {key} is {kind}, but weights must be dense tensors of float32, bfloat16, float16, "
                "float64 or float8. Save them in one of these types, or use other weights."
            )
        if key not in other_types and tensor.numel() <= _SMALL:
            check_finite(path, key, tensor)


def check_finite(path: Path, key: str, tensor: Tensor) -> None:
    """Check that a tensor of floating-point numbers has no NaN or infinity.

    Raises:
        CheckpointError: it has.
    """
    if not bool(torch.isfinite(tensor if tensor.itemsize > 1 else tensor.float()).all()):
        raise CheckpointError(
            f"{path}: {key} holds NaN or infinity, as after a training that failed. Use other weights."
        )


def _describe_kind(tensor: Tensor) -> str:
    """Return what makes a tensor unusable, whatever its type, or an empty string."""
    if tensor.is_quantized:
        return f"quantised ({_name(tensor.dtype)})"
    if tensor.is_nested or tensor.layout != torch.strided:
        return f"sparse or nested ({_name(tensor.layout)}, {_name(tensor.dtype)})"
    if tensor.device.type != "cpu":
        return f"without values (device {tensor.device.type}, {_name(tensor.dtype)})"
    return ""


def _name(kind: torch.dtype | torch.layout) -> str:
    """Return a type's name without the prefix of torch."""
    return str(kind).removeprefix("torch.")
