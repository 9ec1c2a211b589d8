"""Synchformer under ComfyUI's memory management, loaded only when features are not in the cache."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from . import comfy_host as host

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.features import SyncEncoder
    from ..audiox_ext.networks.synchformer import Synchformer

log = logging.getLogger(__name__)

# Six segments at a time, about 100 MB each in float32 at the published size, and the frames themselves.
_ACTIVATION_BYTES = 1 << 30

# The last one used, because videos tend to come one after the other: (fingerprint, placement, network).
_last: dict[str, tuple[host.ComfyPlacement, Synchformer]] = {}


def sync_encoder(path: Path, fingerprint: str) -> SyncEncoder:
    """A function that makes sync features with the weights at `path`; it reads them when first called."""

    def encode(frames: Tensor) -> Tensor:
        if fingerprint not in _last:
            _last.clear()
            _last[fingerprint] = _load(path)
        placement, network = _last[fingerprint]
        device = placement.use("synchformer", network, _ACTIVATION_BYTES)
        return network(frames.to(device), check_cancelled=host.check_cancelled).float().cpu()

    return encode


def _load(path: Path) -> tuple[host.ComfyPlacement, Synchformer]:
    from ..audiox_ext.pretrained import load_synchformer

    with host.outside_inference_mode():
        network = load_synchformer(path, operations=host.float32_operations())
    log.info("AudioX: Synchformer is loaded from %s.", path)
    return host.ComfyPlacement({"synchformer": network}), network
