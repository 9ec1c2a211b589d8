"""torch.compile for the denoising network, block by block.

All blocks of a network run the same code, so the first one is compiled and the others use it; sizes are
dynamic, so another length, batch or prompt does not compile anew.
"""

from __future__ import annotations

import logging

import torch
from torch import nn

from .model import AudioXModel

log = logging.getLogger(__name__)


def compile_network(model: AudioXModel, device: torch.device | str) -> bool:
    """Compile the blocks of the network when they first run on `device`.

    Returns False, and says why in the log, where torch.compile does not work: the network is left as it was.
    """
    problem = _why_not(torch.device(device))
    if problem:
        log.warning("torch.compile does not work here, so the network is not compiled. %s", problem)
        return False
    for block in model.network.transformer.blocks():
        block.compile(dynamic=True)
    return True


def _why_not(device: torch.device) -> str:
    """An empty string, or what happens when something small is compiled for the device."""
    try:
        compiled = torch.compile(nn.GELU(), dynamic=True)
        with torch.no_grad():
            compiled(torch.zeros(2, 8, device=device))
    except Exception as error:  # compilers and drivers have errors of every kind
        return f"({type(error).__name__}: {(str(error).strip() or '?').splitlines()[0][:200]})"
    return ""
