"""Types of the values that travel between nodes, and checks on arrival.

Other packs use the type name AUDIOX_MODEL for their own objects. ComfyUI compares names only, so its editor
accepts a wire from their loader into our sampler. Every node therefore calls `require_model` or a similar
check.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar

from comfy_api.latest import io

from ...audiox_ext.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ...audiox_ext.checkpoints.catalog import ModelFolders
    from ...audiox_ext.conditioning.video_features import VideoFeatures
    from ...audiox_ext.pipeline.editing import AudioEdit
    from ...audiox_ext.pipeline.make_audio import PublishedGenerate
    from ..comfy.placement import ComfyPlacement

Engine = Literal["native", "audiox"]
ENGINES: tuple[Engine, ...] = ("native", "audiox")

WidgetValue = str | int | float | bool | None
"""The value of a widget; None where the input is linked."""

AudioXModelSocket = io.Custom("AUDIOX_MODEL")
AudioXFeaturesSocket = io.Custom("AUDIOX_FEATURES")
AudioXEditSocket = io.Custom("AUDIOX_EDIT")

P = ParamSpec("P")
T = TypeVar("T")


class Audio(TypedDict):
    """ComfyUI's AUDIO: a waveform (B, C, S) and its sample rate in hertz."""

    waveform: Tensor
    sample_rate: int


class ComfySampler(Protocol):
    """ComfyUI's SAMPLER.

    Attributes:
        sampler_function: samples with a model, a start and noise levels.
        extra_options: keyword arguments for it.
    """

    sampler_function: Callable[..., Any]
    extra_options: Mapping[str, Any]


# What an optional input lacks if its value is None.
_NOTHING = {
    "audio": "no sound",
    "audio_prompt": "no sound",
    "init_audio": "no sound",
    "video": "no video",
    "images": "no images",
    "video_info": "no information",
    "mask": "no mask",
    "features": "no features",
    "edit": "no edit",
}


def refuse_none(execute: Callable[P, T]) -> Callable[P, T]:
    """Make a node's `execute` refuse None in its optional inputs for sounds and pictures.

    ComfyUI leaves an unconnected input out, so None means that the connected node output None, as Get Video
    Components does for a video without sound. Taking it for unconnected would ignore what the user connected.

    Args:
        execute: the method; its parameters without a default are left to its own checks.
    """
    required = {name for name, it in signature(execute).parameters.items() if it.default is Parameter.empty}

    @wraps(execute)
    def checked(*args: P.args, **inputs: P.kwargs) -> T:
        for name, nothing in _NOTHING.items():
            if name in inputs and name not in required and inputs[name] is None:
                raise InputError(
                    f"{name} is None: the node connected to it gave {nothing}. Connect another node, or "
                    f"disconnect {name}."
                )
        return execute(*args, **inputs)

    return checked


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioXModelHandle:
    """A loaded model on its way to the nodes that use it.

    Attributes:
        name: the model's name in the loader.
        engine: the code that runs the model: this pack's, or the research package.
        model: the engine's `AudioXModel`, or what the research package loaded.
        config: the contents of config.json.
        folder: the model's folder, or None if the model was not loaded from a known folder.
        placement: moves the parts of a native model between devices. It owns their ModelPatchers, which
            ComfyUI itself references only weakly.
        accepted: whether the loader's user accepted a non-commercial licence.
        base_handle: for a model with a LoRA, the model whose weights it shares. The reference keeps that
            model loaded, so that no loader reads it again.
    """

    name: str
    engine: Engine
    # Left out of repr(): ComfyUI prints the inputs of a failed node, and these would fill pages.
    model: Any = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    folder: Path | None
    placement: ComfyPlacement | None = field(default=None, repr=False)
    accepted: bool = False
    base_handle: AudioXModelHandle | None = field(default=None, repr=False)

    @property
    def video_fps(self) -> float:
        """Frames per second of a video prompt."""
        return self.model.video_fps

    @property
    def conditioning_seconds(self) -> float:
        """Length of video and audio prompts in seconds."""
        return self.model.conditioning_seconds

    @property
    def needs_sync(self) -> bool:
        """Whether a video prompt must include Synchformer features."""
        return self.model.needs_sync

    def find_synchformer(self, folders: ModelFolders) -> Path | None:
        """Find Synchformer weights: those in the model's folder, else others that fit, else None.

        Args:
            folders: further folders to search.
        """
        from ...audiox_ext.checkpoints.encoders import find_synchformer_for

        return find_synchformer_for(self.model, folders, self.folder)

    def research_engine(self) -> PublishedGenerate | None:
        """Return the research package's engine for `make_audio` if it loaded the model, else None."""
        if self.engine != "audiox":
            return None
        from ...audiox_ext.research_package import upstream_generate

        return upstream_generate

    def get_models(self) -> list[Any]:
        """Return the ModelPatchers; newer ComfyUI calls this to see what an output keeps in memory."""
        return self.placement.patchers() if self.placement is not None else []


def require_model(value: AudioXModelHandle) -> AudioXModelHandle:
    """Return the value of a model input if this pack's loader made it.

    Raises:
        InputError: the value is another object; the message names its type.
    """
    return _require(
        value,
        AudioXModelHandle,
        "The model input holds {}, not a model of this pack: another pack uses the name AUDIOX_MODEL for "
        "something else. Connect the AudioX Model Loader of this pack (audio/AudioX).",
    )


def require_features(value: VideoFeatures) -> VideoFeatures:
    """Return the value of a features input if it is this pack's video features.

    Raises:
        InputError: the value is another object; the message names its type.
    """
    from ...audiox_ext.conditioning.video_features import VideoFeatures

    return _require(
        value,
        VideoFeatures,
        "The features input holds {}, not video features of this pack. "
        "Connect the AudioX Feature Extractor of this pack (audio/AudioX).",
    )


def require_edit(value: AudioEdit) -> AudioEdit:
    """Return the value of an edit input if it is this pack's edit.

    Raises:
        InputError: the value is another object; the message names its type.
    """
    from ...audiox_ext.pipeline.editing import AudioEdit

    return _require(
        value,
        AudioEdit,
        "The edit input holds {}, not an edit of this pack. Connect AudioX Edit Region or AudioX Extend "
        "(audio/AudioX).",
    )


def _require(value: T, expected_type: type[T], message: str) -> T:
    """Return `value` if it has the expected type; else raise `InputError` with its type in `message`."""
    if isinstance(value, expected_type):
        return value
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    raise InputError(message.format(name))
