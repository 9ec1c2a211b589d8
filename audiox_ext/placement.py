"""Where the parts of a model live while they are used."""

from __future__ import annotations

import logging
from typing import Protocol

import torch
from torch import nn

from .errors import InputError

log = logging.getLogger(__name__)


class Placement(Protocol):
    """Brings a part of a model to the device that it is to run on."""

    def use(self, part: str, module: nn.Module, activation_bytes: int) -> torch.device:
        """Called right before a part runs.

        part: a name from `AudioXModel.parts`. activation_bytes: an estimate of what it needs beside its
        weights. Returns the device for its inputs. May raise to end the run; the model stays usable.
        """
        ...


class DevicePlacement:
    """Every part moves to one device at its first use and stays there."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    def use(self, part: str, module: nn.Module, activation_bytes: int) -> torch.device:
        module.to(self.device)
        return self.device


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
