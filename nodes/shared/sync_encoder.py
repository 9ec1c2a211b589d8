"""Synchformer under ComfyUI's memory management, loaded only when features are not in the cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakValueDictionary

from ...audiox_ext.utf8 import get_logger
from ..comfy.placement import ComfyPlacement, outside_inference_mode
from ..comfy.precision import pick_float32_layers
from ..comfy.progress import check_cancelled

if TYPE_CHECKING:
    from torch import Tensor

    from ...audiox_ext.conditioning.video_features import SyncEncoder
    from ...audiox_ext.networks.vision.synchformer import Synchformer
    from .sockets import AudioXModelHandle

log = get_logger(__name__)

# Six segments at a time, about 100 MB each in float32 at the published size, and the frames themselves.
_ACTIVATION_BYTES = 1 << 30


@dataclass(frozen=True, eq=False)
class LoadedSynchformer:
    """Synchformer in memory.

    Attributes:
        placement: moves it between devices.
        network: the network.
    """

    placement: ComfyPlacement
    network: Synchformer


class SynchformerStore:
    """Keeps Synchformer in memory as long as a model that it was used with.

    Several videos, or several extractors in one workflow, then read it once, and freeing the model frees it.
    Without a model there is no such limit, so Synchformer is freed after each use: reading it again takes a
    second or two, keeping it takes half a gigabyte.
    """

    def __init__(self) -> None:
        """Start without networks."""
        self._by_owner: WeakKeyDictionary[AudioXModelHandle, LoadedSynchformer] = WeakKeyDictionary()
        self._by_fingerprint: WeakValueDictionary[str, LoadedSynchformer] = WeakValueDictionary()

    def make_encoder(self, path: Path, fingerprint: str, owner: AudioXModelHandle | None) -> SyncEncoder:
        """Return a function that computes sync features; it reads the weights on its first call.

        Args:
            path: Synchformer's weights.
            fingerprint: identifies their content.
            owner: the model that keeps Synchformer in memory from the first call on.
        """
        from ...audiox_ext.checkpoints.encoders import check_encoder_license

        accepted = owner is not None and owner.accepted

        def encode(segments: Tensor) -> Tensor:
            check_encoder_license(path, accepted)
            loaded = self._by_fingerprint.get(fingerprint)
            if loaded is None:
                loaded = self._by_fingerprint[fingerprint] = load_synchformer_weights(path, accepted)
            if owner is not None:
                self._by_owner[owner] = loaded
            device = loaded.placement.use("synchformer", loaded.network, _ACTIVATION_BYTES)
            return loaded.network(segments.to(device), check_cancelled=check_cancelled).float().cpu()

        return encode


def load_synchformer_weights(path: Path, accepted: bool) -> LoadedSynchformer:
    """Load Synchformer.

    Args:
        path: its weights.
        accepted: whether the user accepted a non-commercial licence.
    """
    from ...audiox_ext.checkpoints.encoders import load_synchformer

    with outside_inference_mode():
        network = load_synchformer(path, operations=pick_float32_layers(), accept_cc_by_nc=accepted)
    log.info("AudioX: loaded Synchformer from %s.", path)
    return LoadedSynchformer(ComfyPlacement({"synchformer": network}), network)
