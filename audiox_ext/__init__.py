"""AudioX in plain PyTorch: sound and music from text, video and audio.

This is the engine of the ComfyUI nodes. It also runs without ComfyUI:

    model, config = audiox_ext.get_pretrained_model("AudioX-Turbo", accept_cc_by_nc=True)
    waveform = audiox_ext.generate_diffusion_cond(model, conditioning={"text_prompt": "rain on a roof"})

Names are imported on first use, so that importing this package takes no time.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

# Type checkers read these imports, and at run time `_MODULES` replaces them. A test compares the two.
if TYPE_CHECKING:
    from .checkpoints.catalog import ModelFolders as ModelFolders
    from .checkpoints.lora import set_loras as set_loras
    from .checkpoints.lora_file import Lora as Lora
    from .checkpoints.lora_file import read_lora as read_lora
    from .checkpoints.pretrained import get_pretrained_model as get_pretrained_model
    from .conditioning.video_features import VideoFeatures as VideoFeatures
    from .conditioning.video_features import extract_video_features as extract_video_features
    from .errors import AudioXError as AudioXError
    from .errors import CheckpointError as CheckpointError
    from .errors import ConfigError as ConfigError
    from .errors import InputError as InputError
    from .errors import LicenseError as LicenseError
    from .errors import MediaError as MediaError
    from .errors import ModelNotFoundError as ModelNotFoundError
    from .errors import TrainingError as TrainingError
    from .media.audio_video import read_audio as read_audio
    from .media.audio_video import write_audio as write_audio
    from .model import AudioXModel as AudioXModel
    from .pipeline.editing import AudioEdit as AudioEdit
    from .pipeline.editing import Region as Region
    from .pipeline.generate import generate_diffusion_cond as generate_diffusion_cond
    from .pipeline.make_audio import make_audio as make_audio
    from .pipeline.request import AudioRequest as AudioRequest
    from .pipeline.settings import GenerationSettings as GenerationSettings

__version__ = "0.1.0"


_MODULES = {
    "AudioEdit": ".pipeline.editing",
    "AudioRequest": ".pipeline.request",
    "AudioXError": ".errors",
    "AudioXModel": ".model",
    "CheckpointError": ".errors",
    "ConfigError": ".errors",
    "GenerationSettings": ".pipeline.settings",
    "InputError": ".errors",
    "LicenseError": ".errors",
    "Lora": ".checkpoints.lora_file",
    "MediaError": ".errors",
    "ModelFolders": ".checkpoints.catalog",
    "ModelNotFoundError": ".errors",
    "Region": ".pipeline.editing",
    "TrainingError": ".errors",
    "VideoFeatures": ".conditioning.video_features",
    "extract_video_features": ".conditioning.video_features",
    "generate_diffusion_cond": ".pipeline.generate",
    "get_pretrained_model": ".checkpoints.pretrained",
    "make_audio": ".pipeline.make_audio",
    "read_audio": ".media.audio_video",
    "read_lora": ".checkpoints.lora_file",
    "set_loras": ".checkpoints.lora",
    "write_audio": ".media.audio_video",
}
"""The module of every public name."""

__all__ = sorted({*_MODULES, "__version__"})


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
