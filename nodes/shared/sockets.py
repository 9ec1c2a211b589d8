"""What travels along the pack's own wires, and the checks on arrival.

Other packs use the type name AUDIOX_MODEL for objects of their own, and ComfyUI compares names only: a wire
from their loader into our sampler is accepted by the editor. So every node asks here before it uses what it
was given.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from comfy_api.latest import io

from ...audiox_ext.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ...audiox_ext.checkpoints.catalog import ModelFolders
    from ...audiox_ext.conditioning.video_features import VideoFeatures
    from ...audiox_ext.pipeline.editing import AudioEdit
    from ...audiox_ext.pipeline.request import AudioRequest
    from ...audiox_ext.sampling.denoiser import StepInfo
    from ..comfy.host import ComfyPlacement

Engine = Literal["native", "audiox"]

AudioXModelSocket = io.Custom("AUDIOX_MODEL")
AudioXFeaturesSocket = io.Custom("AUDIOX_FEATURES")
AudioXEditSocket = io.Custom("AUDIOX_EDIT")


@dataclass(frozen=True, kw_only=True, eq=False)
class AudioXModelHandle:
    """A loaded model on its way to the nodes that use it.

    model: the engine's `AudioXModel`, or with engine "audiox" what the research package loaded.
    config: the dict of config.json. folder: where the files are, None if the model knows no folder.
    placement: moves the parts of a native model between devices; it owns their ModelPatchers, which ComfyUI
    itself only refers to weakly. accepted: whether the loader was given a yes to a non-commercial licence.
    made_from: what a model with a LoRA shares its weights with, held so that no loader reads them again.
    """

    name: str
    engine: Engine
    # Not shown: ComfyUI puts the inputs of a node that failed into its error, and these fill pages.
    model: Any = field(repr=False)
    config: dict[str, Any] = field(repr=False)
    folder: Path | None
    placement: ComfyPlacement | None = field(default=None, repr=False)
    accepted: bool = False
    made_from: AudioXModelHandle | None = field(default=None, repr=False)

    @property
    def video_fps(self) -> float:
        """Frames a second of a video prompt."""
        return self.model.video_fps

    @property
    def conditioning_seconds(self) -> float:
        """Length of video and audio prompts."""
        return self.model.conditioning_seconds

    @property
    def needs_sync(self) -> bool:
        """Whether a video prompt must come with Synchformer features."""
        return self.model.needs_sync

    def find_synchformer(self, folders: ModelFolders) -> Path | None:
        """Synchformer's weights for it: those in its folder, else others that fit, else None."""
        from ...audiox_ext.checkpoints.encoders import find_synchformer_for

        return find_synchformer_for(self.model, folders, self.folder)

    def generate(self, request: AudioRequest, callback: Callable[[StepInfo], None]) -> tuple[Tensor, int]:
        """(waveform (B, C, S) float32, its rate).

        `callback` hears of every step and ends the run by raising.
        """
        from ...audiox_ext.pipeline.make_audio import make_audio

        engine: dict[str, Any] = {}
        if self.engine == "audiox":
            from ...audiox_ext.research_package import upstream_generate

            engine = {"generate": upstream_generate}
        return make_audio(self.model, request, callback=callback, **engine), request.rate(self.model)

    def get_models(self) -> list[Any]:
        """The ModelPatchers inside:

        newer ComfyUI asks outputs for them to know what a prompt keeps in memory.
        """
        return self.placement.patchers() if self.placement is not None else []


def require_model(value: object) -> AudioXModelHandle:
    """`value`, if our loader made it. Raises `InputError` that names what arrived instead."""
    if isinstance(value, AudioXModelHandle):
        return value
    raise InputError(
        f"The model input holds {_describe(value)}, not a model of this pack: another pack uses the name "
        "AUDIOX_MODEL for something else. Connect the AudioX Model Loader of this pack (audio/AudioX)."
    )


def require_features(value: object) -> VideoFeatures:
    """`value`, if it is video features of this pack. Raises `InputError` that names what arrived instead."""
    from ...audiox_ext.conditioning.video_features import VideoFeatures

    if isinstance(value, VideoFeatures):
        return value
    raise InputError(
        f"The features input holds {_describe(value)}, not video features of this pack. "
        "Connect the AudioX Feature Extractor of this pack (audio/AudioX)."
    )


def require_edit(value: object) -> AudioEdit:
    """`value`, if it is an edit of this pack. Raises `InputError` that names what arrived instead."""
    from ...audiox_ext.pipeline.editing import AudioEdit

    if isinstance(value, AudioEdit):
        return value
    raise InputError(
        f"The edit input holds {_describe(value)}, not an edit of this pack. Connect AudioX Edit Region or "
        "AudioX Extend (audio/AudioX)."
    )


def _describe(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
