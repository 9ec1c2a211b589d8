"""Memory-mapped weights: converts them to another type, and frees their memory while they are not in use.

A memory-mapped checkpoint occupies memory only where it has been read. On Linux the functions here remove
pages that were read; the next access reads them from the file again. On other systems they do nothing.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from .utf8 import get_logger

log = get_logger(__name__)

_DONTNEED = 4  # MADV_DONTNEED of <sys/mman.h>, the same on all Linux machines that torch runs on
_SLICE = 4 * 2**20  # values per slice
_MIN_BYTES = 2**16  # smaller tensors are not worth a system call

# Bits of an entry of /proc/self/pagemap, from the kernel's Documentation/admin-guide/mm/pagemap.rst.
_IN_FILE, _SWAPPED, _PRESENT = 61, 62, 63


def convert_tensor(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a tensor as `Tensor.to` does, with no more than the result and one slice of it in memory.

    Args:
        tensor: Any tensor. The pages of a memory-mapped one are released slice by slice.
        dtype: The type of the result.

    Returns:
        The converted tensor, or `tensor` itself if it has that type.
    """
    if tensor.dtype == dtype:
        return tensor
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        return tensor.to(dtype)
    result = torch.empty(tensor.shape, dtype=dtype)
    for part, target in zip(iterate_slices(tensor), result.view(-1).split(_SLICE), strict=True):
        target.copy_(part)
    return result


def iterate_slices(tensor: Tensor) -> Iterator[Tensor]:
    """Iterate over the values of a tensor on the CPU, slice by slice.

    Args:
        tensor: Any tensor on the CPU.

    Yields:
        The next values in memory order, one-dimensional, a few million at most. Their pages are released
        when the next slice is requested.
    """
    for part in tensor.contiguous().view(-1).split(_SLICE):
        yield part
        release_pages(part)


def release_module_pages(module: nn.Module) -> None:
    """Release the pages of a module's parameters and buffers, and freed memory that the allocator retains."""
    for tensor in (*module.parameters(), *module.buffers()):
        release_pages(tensor)
    trim = getattr(_system(), "malloc_trim", None)  # not in every C library
    if trim is not None:
        trim(0)


def release_pages(tensor: Tensor) -> None:
    """Remove the pages of a memory-mapped tensor from memory; its values do not change.

    Only pages that the kernel reports as unchanged parts of a file are removed. Anything else stays.
    """
    size = tensor.nbytes
    if tensor.device.type != "cpu" or size < _MIN_BYTES or not tensor.is_contiguous():
        return
    system = _system()
    if system is None:
        return
    first, last = tensor.data_ptr() // mmap.PAGESIZE, -(-(tensor.data_ptr() + size) // mmap.PAGESIZE)
    try:
        runs = list(_clean_runs(first, last))
    except OSError as error:
        log.debug("Pages are not released: %s", error)
        return
    for start, count in runs:
        # A page that cannot be removed stays in memory, as before.
        system.madvise(
            ctypes.c_void_p(start * mmap.PAGESIZE), ctypes.c_size_t(count * mmap.PAGESIZE), _DONTNEED
        )


@lru_cache(maxsize=1)
def _system() -> Any:
    """The C library on systems whose pages can be inspected and removed, else None."""
    if not sys.platform.startswith("linux") or not os.access("/proc/self/pagemap", os.R_OK):
        return None
    try:
        return ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None


def _clean_runs(first: int, last: int) -> Iterator[tuple[int, int]]:
    """Find runs of pages in [first, last) that can be read from a file again, as (first page, count)."""
    import numpy as np

    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(8 * first)
        content = file.read(8 * (last - first))
    entries = np.frombuffer(content, dtype=np.int64)

    def bit(number: int) -> Any:
        return (entries >> number) & 1 == 1

    # A page that was written to belongs to the process, also after it was swapped out. Pages that were never
    # read may be part of a run: removing them has no effect.
    keep = (bit(_PRESENT) & ~bit(_IN_FILE)) | bit(_SWAPPED)
    drop = np.concatenate([[False], ~keep, [False]])
    edges = np.flatnonzero(drop[1:] != drop[:-1])
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield first + start, end - start
