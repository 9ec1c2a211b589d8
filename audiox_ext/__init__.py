"""AudioX in plain PyTorch: text, video and audio to sound and music.

The engine of the ComfyUI nodes, which runs without ComfyUI as well:

    model, config = audiox_ext.get_pretrained_model("AudioX-Turbo", accept_cc_by_nc=True)
    waveform = audiox_ext.generate_diffusion_cond(model, conditioning={"text_prompt": "rain on a roof"})

Names are resolved on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audio_request import AudioRequest
    from .editing import AudioEdit, Region
    from .errors import (
        AudioXError,
        CheckpointError,
        ConfigError,
        InputError,
        LicenseError,
        MediaError,
        ModelNotFoundError,
    )
    from .features import VideoFeatures, extract_video_features
    from .generation import generate_diffusion_cond
    from .lora import set_loras
    from .lora_file import Lora, read_lora
    from .model import AudioXModel
    from .pretrained import ModelFolders, get_pretrained_model
    from .tasks import make_audio

__version__ = "0.1.0"

_HOMES = {
    "AudioEdit": "editing",
    "AudioRequest": "audio_request",
    "AudioXError": "errors",
    "AudioXModel": "model",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "InputError": "errors",
    "LicenseError": "errors",
    "Lora": "lora_file",
    "MediaError": "errors",
    "ModelFolders": "pretrained",
    "ModelNotFoundError": "errors",
    "Region": "editing",
    "VideoFeatures": "features",
    "extract_video_features": "features",
    "generate_diffusion_cond": "generation",
    "get_pretrained_model": "pretrained",
    "make_audio": "tasks",
    "read_lora": "lora_file",
    "set_loras": "lora",
}

__all__ = [
    "AudioEdit",
    "AudioRequest",
    "AudioXError",
    "AudioXModel",
    "CheckpointError",
    "ConfigError",
    "InputError",
    "LicenseError",
    "Lora",
    "MediaError",
    "ModelFolders",
    "ModelNotFoundError",
    "Region",
    "VideoFeatures",
    "__version__",
    "extract_video_features",
    "generate_diffusion_cond",
    "get_pretrained_model",
    "make_audio",
    "read_lora",
    "set_loras",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
