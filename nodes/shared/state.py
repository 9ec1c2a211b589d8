"""The state that the nodes share, created with this module and alive until ComfyUI exits.

ComfyUI runs each node on a new copy of its class, so nodes cannot hold state themselves. Nothing else in the
nodes keeps any; a test may create its own objects of these classes.
"""

from __future__ import annotations

from .fingerprints import DownloadAwareFingerprints
from .model_store import ModelStore
from .sync_encoder import SynchformerStore

FINGERPRINTS = DownloadAwareFingerprints()
MODELS = ModelStore(FINGERPRINTS)
SYNCHFORMERS = SynchformerStore()
