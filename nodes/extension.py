"""The pack's registration with ComfyUI."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..audiox_ext.license import DISABLE_VARIABLE, is_set
from ..audiox_ext.utf8 import get_logger
from .audiox_choose_variation import AudioXChooseVariation
from .audiox_edit_region import AudioXEditRegion
from .audiox_extend import AudioXExtend
from .audiox_feature_extractor import AudioXExtractFeatures
from .audiox_lora_loader import AudioXLoadLora
from .audiox_lora_trainer import AudioXTrainLora
from .audiox_loudness import AudioXLoudness
from .audiox_model_loader import AudioXLoadModel
from .audiox_sampler import AudioXSample
from .audiox_video_sound import AudioXVideoSound
from .audiox_view import AudioXView
from .comfy.consent import register_consent_check
from .comfy.paths import register_model_folders

log = get_logger(__name__)

NODES: list[type[io.ComfyNode]] = [
    AudioXLoadModel,
    AudioXLoadLora,
    AudioXExtractFeatures,
    AudioXSample,
    AudioXEditRegion,
    AudioXExtend,
    AudioXLoudness,
    AudioXChooseVariation,
    AudioXVideoSound,
    AudioXView,
    AudioXTrainLora,
]


class AudioXExtension(ComfyExtension):
    """The list of nodes; empty if AUDIOX_DISABLE is set, for bundles that must not offer NC weights."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes; ComfyUI calls this once at start.

        Also registers the model folders and the check of consent, because ComfyUI 0.3.64 never calls
        `on_load`.
        """
        if is_set(DISABLE_VARIABLE):
            log.info("AudioX: %s is set, so no AudioX nodes are registered.", DISABLE_VARIABLE)
            return []
        register_model_folders()
        register_consent_check({AudioXLoadModel.define_schema().node_id})
        return NODES
