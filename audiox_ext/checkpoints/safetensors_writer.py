"""Writes a .safetensors file slice by slice, so that a model larger than the memory can be converted.

The writer of safetensors itself needs all tensors in memory at once. Source: the description of the format in
its documentation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from ..errors import InputError
from ..files import check_space, is_temporary, write_atomically
from ..mmap import iterate_slices
from ..utf8 import escape_surrogates

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNMENT = 64  # bytes, of the first tensor


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype], metadata: Mapping[str, str]
) -> None:
    """Write tensors to a .safetensors file. Equal input gives equal files.

    The file gets its name, and replaces an older one, when it is complete. Memory-mapped pages of the tensors
    are released as they are written.

    Args:
        path: the file.
        tensors: on the CPU, by key.
        dtypes: the types in the file by key, by default the tensor's own. These tensors have to be finite.
        metadata: texts for the file's header; they become valid UTF-8.

    Raises:
        InputError: a value is too large for its type or not finite, a type cannot be stored, the disk is
            full, or the file cannot be written.
    """
    stored_dtypes, order = _plan(tensors, dtypes)
    header, size = _header(tensors, stored_dtypes, order, metadata)
    check_space(path.parent, len(header) + size)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        for key in order:
            if is_temporary(path.parent):
                os.utime(path.parent)  # a folder that has not changed for an hour counts as a leftover
            _write(file, key, tensors[key], stored_dtypes[key], finite=key in dtypes)


def measure_safetensors(
    tensors: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype], metadata: Mapping[str, str]
) -> int:
    """Return the size in bytes of the file that `write_safetensors` writes. The arguments are the same."""
    stored_dtypes, order = _plan(tensors, dtypes)
    header, size = _header(tensors, stored_dtypes, order, metadata)
    return len(header) + size


def _plan(
    tensors: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype]
) -> tuple[dict[str, torch.dtype], list[str]]:
    """Return the types in the file, and the keys in the order of the file."""
    stored_dtypes = {key: dtypes.get(key, tensor.dtype) for key, tensor in tensors.items()}
    for key, dtype in stored_dtypes.items():
        if dtype not in _NAMES:
            raise InputError(
                f"{key} is of type {str(dtype).removeprefix('torch.')}, which cannot be stored. Remove it "
                "from the weights, or save it in another type."
            )

    def place(key: str) -> tuple[bool, int, str]:
        """Sort tensors that fill whole cache lines first, then by width, so that each starts aligned."""
        width = stored_dtypes[key].itemsize
        return bool(tensors[key].numel() * width % _ALIGNMENT), -width, key

    return stored_dtypes, sorted(tensors, key=place)


def _header(
    tensors: Mapping[str, Tensor],
    dtypes: Mapping[str, torch.dtype],
    order: list[str],
    metadata: Mapping[str, str],
) -> tuple[bytes, int]:
    """Return the file's header and the size of all tensors in bytes."""
    texts = {name: escape_surrogates(text) for name, text in sorted(metadata.items())}
    entries: dict[str, Any] = {"__metadata__": texts}
    offset = 0
    for key in order:
        size = tensors[key].numel() * dtypes[key].itemsize
        entries[key] = {
            "dtype": _NAMES[dtypes[key]],
            "shape": list(tensors[key].shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text, offset


def _write(file: BinaryIO, key: str, tensor: Tensor, dtype: torch.dtype, *, finite: bool) -> None:
    """Append a tensor to the file."""
    for part in iterate_slices(tensor):
        _check_range(key, part, dtype)
        if finite and not bool(torch.isfinite(part if part.itemsize > 1 else part.float()).all()):
            raise InputError(
                f"{key} holds NaN or infinity, as after a training that failed. Use other weights. "
                "Nothing was written."
            )
        file.write(part.to(dtype).contiguous().view(torch.uint8).numpy().data)


def _check_range(key: str, values: Tensor, dtype: torch.dtype) -> None:
    """Raise `InputError` for values that a smaller type cannot hold."""
    if dtype == values.dtype or not (dtype.is_floating_point and values.is_floating_point()):
        return
    limit = torch.finfo(dtype).max
    if values.numel() and limit < torch.finfo(values.dtype).max:
        largest = max(abs(float(end)) for end in values.aminmax())
        if largest > limit:
            raise InputError(
                f"{key} contains {largest:g}, more than the {limit:g} that "
                f"{str(dtype).removeprefix('torch.')} can hold. Choose precision bf16 or fp32. "
                "Nothing was written."
            )
