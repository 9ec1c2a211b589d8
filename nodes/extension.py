"""The pack's registration with ComfyUI."""

from __future__ import annotations

from functools import wraps
from typing import Any

from comfy_api.latest import ComfyExtension, io

from ..audiox_ext.license import DISABLE_VARIABLE, is_set
from ..audiox_ext.utf8 import escape_surrogates, get_logger, is_valid
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
_checked_nodes: set[type[io.ComfyNode]] = set()  # those whose outputs `_make_texts_valid` checks


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
        for node in NODES:
            _make_texts_valid(node)
        return NODES


def _make_texts_valid(node: type[io.ComfyNode]) -> None:
    """Make every text in a node's output valid UTF-8, whatever file names and prompts it quotes.

    Other nodes write it to files, metadata and the browser, and a lone surrogate would make them fail. A
    second call changes nothing.
    """
    if node in _checked_nodes:
        return
    _checked_nodes.add(node)
    execute = node.execute.__func__

    @wraps(execute)
    def checked(cls: type[io.ComfyNode], *args: Any, **inputs: Any) -> io.NodeOutput:
        output = execute(cls, *args, **inputs)
        output.args = tuple(_escape(value) for value in output.args)
        if output.ui is not None:
            shown = output.ui if isinstance(output.ui, dict) else output.ui.as_dict()
            escaped = _escape(shown)
            if escaped is not shown:
                output.ui = escaped
        return output

    node.execute = classmethod(checked)


def _escape(value: Any) -> Any:
    """Escape the texts in a value. What needs no change is returned as the same object."""
    if isinstance(value, str):
        return value if is_valid(value) else escape_surrogates(value)
    if type(value) is dict:
        parts = [part for item in value.items() for part in item]
        escaped = [_escape(part) for part in parts]
        whole: Any = dict(zip(escaped[::2], escaped[1::2], strict=True))
    elif type(value) in (list, tuple):
        parts = list(value)
        escaped = [_escape(part) for part in parts]
        whole = type(value)(escaped)
    else:
        return value
    is_changed = any(new is not old for new, old in zip(escaped, parts, strict=True))
    return whole if is_changed else value
