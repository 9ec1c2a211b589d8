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
    from .checkpoints.lora import set_loras
    from .checkpoints.lora_file import Lora, read_lora
    from .checkpoints.pretrained import ModelFolders, get_pretrained_model
    from .conditioning.video_features import VideoFeatures, extract_video_features
    from .errors import (
        AudioXError,
        CheckpointError,
        ConfigError,
        InputError,
        LicenseError,
        MediaError,
        ModelNotFoundError,
    )
    from .model import AudioXModel
    from .pipeline.editing import AudioEdit, Region
    from .pipeline.generate import generate_diffusion_cond
    from .pipeline.make_audio import make_audio
    from .pipeline.request import AudioRequest

__version__ = "0.1.0"

_HOMES = {
    "AudioEdit": "pipeline.editing",
    "AudioRequest": "pipeline.request",
    "AudioXError": "errors",
    "AudioXModel": "model",
    "CheckpointError": "errors",
    "ConfigError": "errors",
    "InputError": "errors",
    "LicenseError": "errors",
    "Lora": "checkpoints.lora_file",
    "MediaError": "errors",
    "ModelFolders": "checkpoints.pretrained",
    "ModelNotFoundError": "errors",
    "Region": "pipeline.editing",
    "VideoFeatures": "conditioning.video_features",
    "extract_video_features": "conditioning.video_features",
    "generate_diffusion_cond": "pipeline.generate",
    "get_pretrained_model": "checkpoints.pretrained",
    "make_audio": "pipeline.make_audio",
    "read_lora": "checkpoints.lora_file",
    "set_loras": "checkpoints.lora",
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
