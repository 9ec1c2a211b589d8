"""Where the parts of a model live while they are used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .errors import InputError, is_out_of_memory
from .mmap import release_module_pages

log = logging.getLogger(__name__)


class Placement(Protocol):
    """Brings a part of a model to the device that it is to run on."""

    def use(self, part: str, module: nn.Module, activation_bytes: int) -> torch.device:
        """Called right before a part runs.

        part: a name from `AudioXModel.parts`. activation_bytes: an estimate of what it needs beside its
        weights. Returns the device for its inputs. May raise to end the run; the model stays usable.
        """
        ...

    def check_cancelled(self) -> None:
        """Called often while a part runs. May raise to end the run; what it raises reaches the caller."""
        ...

    def free_memory(self, *, models: bool = False) -> None:
        """Give back what is cached, after memory ran out. models: the run is over: let go of models, too."""
        ...


class DevicePlacement:
    """Every part moves to one device at its first use and stays there; with offload, only while it is used.

    What was in use before is let go of when another part comes: with offload its weights on the device, and
    on the CPU those of its pages that can be read again from the checkpoint (see `mapped.release_pages`).
    """

    def __init__(self, device: torch.device | str, *, offload: bool = False) -> None:
        self.device = torch.device(device)
        self.offload = offload and self.device.type != "cpu"
        self._in_use: nn.Module | None = None
        self._waiting: list[_Waiting] = []

    def use(self, part: str, module: nn.Module, activation_bytes: int) -> torch.device:
        if self._in_use is not module:
            self._leave()
        self._in_use = module
        if not self.offload:
            module.to(self.device)
            return self.device
        # One by one, so that what is there goes back also when memory runs out in the middle.
        for weight in (*module.parameters(), *module.buffers()):
            if weight.device.type == "cpu":
                self._waiting.append(_bring(weight, self.device))
        return self.device

    def check_cancelled(self) -> None:
        """Nobody can cancel, other than by an exception in the callback."""

    def free_memory(self, *, models: bool = False) -> None:
        """The caller has the model and decides about it, other than about what waits on the CPU."""
        if models:
            self._leave()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def _leave(self) -> None:
        left, self._in_use = self._in_use, None
        if left is None:
            return
        if self.offload:
            for weight in reversed(self._waiting):
                weight.put_back()
            self._waiting = []
            self.free_memory()
        if self.device.type == "cpu" or self.offload:
            release_module_pages(left)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting:
    """A weight that is on a device, and what it was on the CPU: going back costs neither time nor memory."""

    weight: Tensor
    on_cpu: Tensor
    version: int

    def put_back(self) -> None:
        changed = self.weight._version != self.version
        self.weight.data = self.weight.data.cpu() if changed else self.on_cpu


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device)


def _bring(weight: Tensor, device: torch.device) -> _Waiting:
    """Bring a weight from the CPU to a device."""
    on_cpu = weight.data
    weight.data = _copied(on_cpu, device)
    return _Waiting(weight=weight, on_cpu=on_cpu, version=weight._version)


@contextmanager
def explain_out_of_memory(placement: Placement, doing: str, advice: str) -> Iterator[None]:
    """Makes an `InputError` of running out of memory inside it; all else passes untouched.

    doing: the sentence "Memory ran out while ..." from there on. advice: what to lower or shorten.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        placement.free_memory(models=True)
        raise InputError(
            f"Memory ran out while {doing}. {advice}, or free memory that others use. ({error})"
        ) from None


def pick_best_device() -> torch.device:
    """CUDA where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def resolve_device(device: torch.device | str) -> torch.device:
    """The device asked for; for "cuda" where there is none, the best there is.

    Raises `InputError` for a name that is no device, or one that is not here.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"{device!r} is no device. Choose cuda, cuda:1, mps or cpu.") from None
    if wanted.type == "cuda":
        if not torch.cuda.is_available():
            log.info("There is no CUDA device here; running on %s.", pick_best_device())
            return pick_best_device()
        if wanted.index is not None and wanted.index >= torch.cuda.device_count():
            raise InputError(
                f"There is no {wanted}: this machine has {torch.cuda.device_count()} CUDA device(s)."
            )
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"There is no Apple GPU here. Choose {pick_best_device()}.")
    if wanted.type not in ("cuda", "mps", "cpu"):
        raise InputError(f"{wanted} is not supported. Choose cuda, mps or cpu.")
    return wanted
