"""Where the parts of a model live while they are used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import nn

from .errors import InputError
from .networks.chunks import is_out_of_memory as is_out_of_memory

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
    """Every part moves to one device at its first use and stays there."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    def use(self, part: str, module: nn.Module, activation_bytes: int) -> torch.device:
        module.to(self.device)
        return self.device

    def check_cancelled(self) -> None:
        """Nobody can cancel, other than by an exception in the callback."""

    def free_memory(self, *, models: bool = False) -> None:
        """The caller has the model and decides about it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()


@contextmanager
def explained(placement: Placement, doing: str, advice: str) -> Iterator[None]:
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


def best_device() -> torch.device:
    """CUDA where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def available_device(device: torch.device | str) -> torch.device:
    """The device asked for; for "cuda" where there is none, the best there is.

    Raises `InputError` for a name that is no device, or one that is not here.
    """
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"{device!r} is no device. Choose cuda, cuda:1, mps or cpu.") from None
    if wanted.type == "cuda":
        if not torch.cuda.is_available():
            log.info("There is no CUDA device here; running on %s.", best_device())
            return best_device()
        if wanted.index is not None and wanted.index >= torch.cuda.device_count():
            raise InputError(
                f"There is no {wanted}: this machine has {torch.cuda.device_count()} CUDA device(s)."
            )
    if wanted.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"There is no Apple GPU here. Choose {best_device()}.")
    if wanted.type not in ("cuda", "mps", "cpu"):
        raise InputError(f"{wanted} is not supported. Choose cuda, mps or cpu.")
    return wanted
