"""torch.compile for the denoising network, block by block.

All blocks of a network run the same code, so the first one is compiled and the others use it; sizes are
dynamic, so another length, batch or prompt does not compile anew once a few kinds of them have been seen (one
sound or several, with equal tokens in the prompt or without).
"""

from __future__ import annotations

import logging

import torch
from torch import nn

from .model import AudioXModel

log = logging.getLogger(__name__)


def compile_network(model: AudioXModel, device: torch.device | str) -> bool:
    """Compile the blocks of the network when they first run on `device`, which takes a minute or so.

    Returns False, and says why in the log, where torch.compile does not work: the network is left as it was.
    On a processor it works and is of no use: matrix products take nearly all the time, and the compiled ones
    are slower than the engine's own.
    """
    if torch.device(device).type == "cpu":
        log.warning("On a processor a compiled network is slower than one that is not.")
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
