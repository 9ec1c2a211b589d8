"""Decides on which device each part of a model is while it is used."""

from __future__ import annotations

import getpass
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from .errors import InputError, is_out_of_memory
from .mmap import release_module_pages
from .utf8 import get_logger

log = get_logger(__name__)

# In one linear layer. Measured: docs/performance.md, "Threads".
_MULTIPLICATIONS_PER_THREAD = 25_000_000


class Placement(Protocol):
    """Brings a part of a model to the device that it runs on."""

    def use(self, part: str, module: nn.Module, activation_bytes: int) -> torch.device:
        """Prepare a part that is about to run. May raise to end the run; the model stays usable.

        Args:
            part: A name from `AudioXModel.parts`.
            module: The part.
            activation_bytes: An estimate of the memory it needs besides its weights.

        Returns:
            The device for its inputs.
        """
        ...

    def check_cancelled(self) -> None:
        """Raise to end the run. Called often while a part runs; the error reaches the caller."""
        ...

    def free_memory(self, *, models: bool = False) -> None:
        """Free cached memory after it ran out.

        Args:
            models: The run is over, so models may leave the device, too.
        """
        ...


class DevicePlacement:
    """Moves every part to one device at its first use.

    When another part is used, the memory of the previous one is freed: with `offload` its weights on the
    device, and on the CPU the pages that can be read from the checkpoint again (`mmap.release_pages`).
    """

    def __init__(self, device: torch.device | str, *, offload: bool = False) -> None:
        """Place parts on a device.

        Args:
            device: Device that the parts run on.
            offload: Keep a part on the device only while it is in use, and on the CPU otherwise.
        """
        self.device = torch.device(device)
        self.offload = offload and self.device.type != "cpu"
        self._in_use: nn.Module | None = None
        self._waiting: list[_Waiting] = []

    def use(self, part: str, module: nn.Module, activation_bytes: int) -> torch.device:
        """Bring a part to the device, as in `Placement.use`."""
        if self._in_use is not module:
            self._leave()
        self._in_use = module
        if not self.offload:
            module.to(self.device)
            return self.device
        # Each weight is recorded as it moves, so that all of them return if memory runs out midway.
        for weight in (*module.parameters(), *module.buffers()):
            if weight.device.type == "cpu":
                self._waiting.append(_bring(weight, self.device))
        return self.device

    def check_cancelled(self) -> None:
        """Do nothing: without a host only an exception in the callback ends a run."""

    def free_memory(self, *, models: bool = False) -> None:
        """Free the device's cache; with `models`, offloaded weights return to the CPU first."""
        if models:
            self._leave()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def _leave(self) -> None:
        """Free the memory of the part in use."""
        previous, self._in_use = self._in_use, None
        if previous is None:
            return
        if self.offload:
            for weight in reversed(self._waiting):
                weight.put_back()
            self._waiting = []
            self.free_memory()
        if self.device.type == "cpu" or self.offload:
            release_module_pages(previous)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    """A weight on a device, with its original on the CPU, so that its return takes no time or memory."""

    weight: Tensor
    on_cpu: Tensor
    version: int

    def put_back(self) -> None:
        """Return the weight to the CPU; it is copied only if it was changed on the device."""
        changed = self.weight._version != self.version
        self.weight.data = self.weight.data.cpu() if changed else self.on_cpu


def _copy_to(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to a device. A function of its own, so that tests can make it fail."""
    return tensor.to(device)


def _bring(weight: Tensor, device: torch.device) -> _Waiting:
    """Move a weight from the CPU to a device."""
    on_cpu = weight.data
    weight.data = _copy_to(on_cpu, device)
    return _Waiting(weight=weight, on_cpu=on_cpu, version=weight._version)


@contextmanager
def explain_out_of_memory(placement: Placement, doing: str, advice: str) -> Iterator[None]:
    """Turn an out-of-memory error inside the block into an `InputError`. Other errors pass unchanged.

    Args:
        placement: Frees the memory.
        doing: The end of the sentence "Memory ran out while ...".
        advice: The settings that the user can lower or shorten.

    Raises:
        InputError: Memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        placement.free_memory(models=True)
        raise InputError(
            f"Memory ran out while {doing}. {advice}, or free memory that other programs use. ({error})"
        ) from None


def choose_thread_count(width: int, positions: int, available: int) -> int:
    """Return how many threads of the processor speed up a network.

    Args:
        width: width of the network.
        positions: positions in a pass: latents per item times items.
        available: the highest number, 1 or more.

    Returns:
        1 for a small network, in which waking a thread takes as long as its work; at most `available`.
    """
    return max(1, min(available, width * width * positions // _MULTIPLICATIONS_PER_THREAD))


def provide_compiler_cache() -> None:
    """Name a cache folder for torch's compiler if torch cannot: a user without a name makes it fail.

    That happens in containers, when a module of torch is first used, whether or not anything is compiled.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        folder = Path(tempfile.gettempdir()) / f"torchinductor_{getattr(os, 'getuid', lambda: 'unknown')()}"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))


def pick_best_device() -> torch.device:
    """Return CUDA where it is available, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def resolve_device(device: torch.device | str) -> torch.device:
    """Return the requested device; for "cuda" without a CUDA device, the best other one.

    Args:
        device: A device, or its name, such as "cuda", "cuda:1", "mps" or "cpu".

    Raises:
        InputError: The name is not a device, or the device is not available.
    """
    try:
        requested = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"{device!r} is not a device. Choose cuda, cuda:1, mps or cpu.") from None
    if requested.type == "cuda":
        if not torch.cuda.is_available():
            log.info("No CUDA device is available; running on %s.", pick_best_device())
            return pick_best_device()
        if requested.index is not None and requested.index >= torch.cuda.device_count():
            raise InputError(
                f"{requested} is not available: this machine has {torch.cuda.device_count()} CUDA device(s)."
            )
    if requested.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"No Apple GPU is available. Choose {pick_best_device()}.")
    if requested.type not in ("cuda", "mps", "cpu"):
        raise InputError(f"{requested} is not supported. Choose cuda, mps or cpu.")
    return requested
