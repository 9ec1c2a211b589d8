"""Weights that are pages of a file: taken from there into another type, and let go of while not in use.

A checkpoint that is mapped costs memory only where it has been read. Pages that were read stay in the
process until somebody takes them away, which is done here, where that is possible: on Linux. The next reader
gets them from the file again. Elsewhere the system alone decides, and nothing here does harm.
"""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

_DONTNEED = 4  # MADV_DONTNEED of <sys/mman.h>, the same on all Linux machines that torch runs on
_SLICE = 4 * 2**20  # values that are converted at once
_WORTHWHILE = 2**16  # bytes; less is not asked about

# Bits of an entry of /proc/self/pagemap, from the kernel's Documentation/admin-guide/mm/pagemap.rst.
_IN_FILE, _SWAPPED, _PRESENT = 61, 62, 63


def converted(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """`tensor` in another type, as `Tensor.to` gives it; the tensor itself where it has that type.

    Converted slice by slice, each slice's pages of the file being let go of, so that no more than the result
    and one slice are in memory.
    """
    if tensor.dtype == dtype:
        return tensor
    if not tensor.is_contiguous() or tensor.device.type != "cpu":
        return tensor.to(dtype)
    result = torch.empty(tensor.shape, dtype=dtype)
    for part, target in zip(slices(tensor), result.view(-1).split(_SLICE), strict=True):
        target.copy_(part)
    return result


def slices(tensor: Tensor) -> Iterator[Tensor]:
    """The values of a tensor on the CPU in order, some millions at once; let go of when the next are asked
    for.
    """
    for part in tensor.contiguous().view(-1).split(_SLICE):
        yield part
        let_go(part)


def let_go_of(module: nn.Module) -> None:
    """`let_go` of all parameters and buffers of a module, and of what the allocator keeps of its work."""
    for tensor in (*module.parameters(), *module.buffers()):
        let_go(tensor)
    trim = getattr(_system(), "malloc_trim", None)  # not in every C library
    if trim is not None:
        trim(0)


def let_go(tensor: Tensor) -> None:
    """Take away those pages of a tensor that its file can give back; the tensor stays as it is.

    What is not in a file, or was written to since it was read, stays in memory: so says the kernel of each
    page, not our own bookkeeping, which could not know of writers.
    """
    size = tensor.nbytes
    if tensor.device.type != "cpu" or size < _WORTHWHILE or not tensor.is_contiguous():
        return
    system = _system()
    if system is None:
        return
    first, last = tensor.data_ptr() // mmap.PAGESIZE, -(-(tensor.data_ptr() + size) // mmap.PAGESIZE)
    try:
        runs = list(_clean_runs(first, last))
    except OSError as error:
        log.debug("Pages are not let go of: %s", error)
        return
    for start, count in runs:
        # What fails stays in memory, which is no worse than before.
        system.madvise(
            ctypes.c_void_p(start * mmap.PAGESIZE), ctypes.c_size_t(count * mmap.PAGESIZE), _DONTNEED
        )


@lru_cache(maxsize=1)
def _system() -> Any:
    """The C library where pages can be asked about and taken away, else None."""
    if not sys.platform.startswith("linux") or not os.access("/proc/self/pagemap", os.R_OK):
        return None
    try:
        return ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None


def _clean_runs(first: int, last: int) -> Iterator[tuple[int, int]]:
    """(first page, count) of what can be read again from a file, of the pages from first to before last."""
    import numpy as np

    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        file.seek(8 * first)
        content = file.read(8 * (last - first))
    entries = np.frombuffer(content, dtype=np.int64)

    def bit(number: int) -> Any:
        return (entries >> number) & 1 == 1

    # A page that was written to belongs to the process alone, also when it has been swapped out. One that was
    # never read is nothing to take away, and need not divide a run.
    keep = (bit(_PRESENT) & ~bit(_IN_FILE)) | bit(_SWAPPED)
    drop = np.concatenate([[False], ~keep, [False]])
    edges = np.flatnonzero(drop[1:] != drop[:-1])
    for start, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        yield first + start, end - start
