"""Where the parts of a model live while they are used."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn


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
