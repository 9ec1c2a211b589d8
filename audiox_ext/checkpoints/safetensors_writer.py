"""Writing a .safetensors file tensor by tensor: no more than a slice of one is in memory at once.

Source: the format's description in the documentation of safetensors, whose own writer wants all tensors at
once.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ..errors import InputError
from ..files import write_atomically
from ..mmap import slices

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNED = 64  # bytes, at which the first tensor begins


def write_safetensors(
    path: Path, tensors: Mapping[str, Tensor], dtypes: Mapping[str, torch.dtype], metadata: Mapping[str, str]
) -> None:
    """Write tensors, each in its type of `dtypes`, or its own. Equal input gives equal files.

    The file has its name when it is whole, and an older one is replaced then. Pages of files that tensors are
    mapped from are let go of. Raises `InputError` when a value is too large for its type, the disk is full or
    the file cannot be written.
    """
    kinds = {key: dtypes.get(key, tensor.dtype) for key, tensor in tensors.items()}

    def place(key: str) -> tuple[bool, int, str]:
        # What fills whole cache lines first, so that it begins at one; of the rest the widest first, so that
        # every tensor begins at a multiple of its own width.
        width = kinds[key].itemsize
        return bool(tensors[key].numel() * width % _ALIGNED), -width, key

    order = sorted(tensors, key=place)
    header, size = _header(tensors, kinds, order, metadata)
    check_space(path.parent, len(header) + size)
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        file.write(header)
        for key in order:
            _write(file, key, tensors[key], kinds[key])


def check_space(folder: Path, size: int) -> None:
    """Raises `InputError` when less than `size` bytes are free there."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise InputError(
            f"{folder} has {free / 1e9:.2f} GB free, and {size / 1e9:.2f} GB are to be written. Free some "
            "space, or choose a folder on another disk. Nothing was written."
        )


def _header(
    tensors: Mapping[str, Tensor],
    kinds: Mapping[str, torch.dtype],
    order: list[str],
    metadata: Mapping[str, str],
) -> tuple[bytes, int]:
    entries: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    for key in order:
        size = tensors[key].numel() * kinds[key].itemsize
        entries[key] = {
            "dtype": _NAMES[kinds[key]],
            "shape": list(tensors[key].shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNED)
    return len(text).to_bytes(8, "little") + text, offset


def _write(file: BinaryIO, key: str, tensor: Tensor, dtype: torch.dtype) -> None:
    for part in slices(tensor):
        _check_range(key, part, dtype)
        file.write(part.to(dtype).contiguous().view(torch.uint8).numpy().data)


def _check_range(key: str, values: Tensor, dtype: torch.dtype) -> None:
    if dtype == values.dtype or not (dtype.is_floating_point and values.is_floating_point()):
        return
    limit = torch.finfo(dtype).max
    if values.numel() and limit < torch.finfo(values.dtype).max:
        largest = max(abs(float(end)) for end in values.aminmax())
        if largest > limit:
            raise InputError(
                f"{key} holds {largest:g}, and {str(dtype).removeprefix('torch.')} ends at {limit:g}. Choose "
                "precision bf16 or fp32. Nothing was written."
            )
