"""Synchformer under ComfyUI's memory management, loaded only when features are not in the cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from ..comfy import host

if TYPE_CHECKING:
    from torch import Tensor

    from ...audiox_ext.conditioning.video_features import SyncEncoder
    from ...audiox_ext.networks.vision.synchformer import Synchformer
    from .sockets import AudioXModelHandle

log = logging.getLogger(__name__)

# Six segments at a time, about 100 MB each in float32 at the published size, and the frames themselves.
_ACTIVATION_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class _Loaded:
    placement: host.ComfyPlacement
    network: Synchformer


# It lives as long as a model that it was used with, so that several videos, or several extractors in one
# workflow, read it once, and freeing the model frees it. Without a model nothing tells how long it will be
# wanted, so it goes after each use: reading it again takes a second or two, and keeping it half a gigabyte.
_held: WeakKeyDictionary[AudioXModelHandle, _Loaded] = WeakKeyDictionary()
_in_memory: WeakValueDictionary[str, _Loaded] = WeakValueDictionary()  # by fingerprint of the weights


def sync_encoder(path: Path, fingerprint: str, owner: AudioXModelHandle | None) -> SyncEncoder:
    """A function that makes sync features with the weights at `path`; it reads them when called.

    owner: the model they are used with, which keeps them in memory from then on.
    """

    def encode(frames: Tensor) -> Tensor:
        loaded = _in_memory.get(fingerprint)
        if loaded is None:
            loaded = _in_memory[fingerprint] = _load(path)
        if owner is not None:
            _held[owner] = loaded
        device = loaded.placement.use("synchformer", loaded.network, _ACTIVATION_BYTES)
        return loaded.network(frames.to(device), check_cancelled=host.check_cancelled).float().cpu()

    return encode


def _load(path: Path) -> _Loaded:
    from ...audiox_ext.checkpoints.encoders import load_synchformer

    with host.outside_inference_mode():
        network = load_synchformer(path, operations=host.float32_operations())
    log.info("AudioX: Synchformer is loaded from %s.", path)
    return _Loaded(host.ComfyPlacement({"synchformer": network}), network)
