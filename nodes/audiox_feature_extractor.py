"""The AudioX Feature Extractor node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from comfy_api.latest import Input, io

from ..audiox_ext.errors import InputError
from ..audiox_ext.utf8 import get_logger
from .comfy.paths import get_model_folders, open_feature_cache
from .comfy.progress import check_cancelled
from .shared.choices import check_choice
from .shared.fingerprints import Fingerprint
from .shared.sockets import (
    AudioXFeaturesSocket,
    AudioXModelHandle,
    AudioXModelSocket,
    WidgetValue,
    refuse_none,
    require_model,
)
from .shared.state import FINGERPRINTS, SYNCHFORMERS

if TYPE_CHECKING:
    from torch import Tensor

    from ..audiox_ext.media.frames import Resize
    from ..audiox_ext.media.object_mask import ObjectMask

log = get_logger(__name__)

RESIZE_MODES = ("squash", "crop")

# Of all published models; a connected model's own configuration takes precedence.
_VIDEO_FPS = 5.0
_SECONDS = 10.0

# The sampler's minimum, in seconds; a video of one or two frames is shorter.
_MIN_SECONDS = 0.05


class AudioXExtractFeatures(io.ComfyNode):
    """Extract the features of a video that a model needs to follow it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declare the node's inputs and outputs."""
        return io.Schema(
            node_id="AudioXExtractFeatures",
            display_name="AudioX Feature Extractor",
            category="audio/AudioX",
            description=(
                "Reads the frames that a model needs to follow a video, at exact times, and their sync "
                "features. Results are kept on disk (<user directory>/audiox_cache/features, at most 2 GiB; "
                "safe to delete), so a second run with the same video and settings is quick."
            ),
            inputs=[*_declare_widgets(), *_declare_sockets(), *_declare_mask(), *_declare_later_widgets()],
            outputs=[
                AudioXFeaturesSocket.Output(display_name="features", tooltip="For the AudioX Sampler."),
                io.Float.Output(
                    display_name="duration",
                    tooltip=(
                        "Seconds of video in the range, up to 600: connect it to the sampler's duration."
                        " For a single image: the duration above, or the model's length. For a slideshow: "
                        "the number of images times seconds_per_image."
                    ),
                ),
                io.Float.Output(display_name="fps", tooltip="Frames per second of the source video."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: WidgetValue) -> Fingerprint:
        """Fingerprint the Synchformer weights.

        ComfyUI does not say here which model is connected, so these are the weights for no model.

        Args:
            inputs: the node's inputs.
        """
        return FINGERPRINTS.fingerprint_synchformer()

    @classmethod
    @refuse_none
    def execute(
        cls,
        start: float,
        duration: float,
        resize: Resize,
        fps: float,
        video: Input.Video | None = None,
        images: Tensor | None = None,
        video_info: Mapping[str, Any] | None = None,
        model: AudioXModelHandle | None = None,
        mask: Tensor | None = None,
        mask_strength: float = 1.0,
        mask_clip: bool = True,
        mask_sync: bool = True,
        seconds_per_image: float = 0.0,
    ) -> io.NodeOutput:
        """Extract the features of the connected video or images, or read them from the cache.

        The arguments are the inputs; see their tooltips.
        """
        from ..audiox_ext.conditioning.video_features import (
            MAX_SECONDS,
            extract_video_features,
            seconds_to_cover,
        )
        from ..audiox_ext.media.frames import TimeRange
        from .shared.video_input import read_clip

        check_choice("resize", resize, RESIZE_MODES)
        handle = None if model is None else require_model(model)
        seconds = handle.conditioning_seconds if handle else _SECONDS
        clip = read_clip(
            video,
            images,
            fps=fps,
            video_info=video_info,
            time_range=TimeRange(start=start, duration=duration or None),
            seconds=seconds,
            seconds_per_image=seconds_per_image,
        )
        weights, fingerprint = _find_synchformer(handle)
        features = extract_video_features(
            clip.source,
            encode_sync=SYNCHFORMERS.make_encoder(weights, fingerprint, handle) if weights else None,
            sync_fingerprint=fingerprint,
            time_range=clip.time_range,
            trim=clip.trim,
            video_fps=handle.video_fps if handle else _VIDEO_FPS,
            seconds=seconds_to_cover(
                clip.source, at_least=seconds, time_range=clip.time_range, trim=clip.trim
            ),
            resize=resize,
            mask=_read_mask(mask, mask_strength, clip=mask_clip, sync=mask_sync),
            cache=open_feature_cache(),
            check_cancelled=check_cancelled,
        )
        sampler_seconds = max(_MIN_SECONDS, min(features.duration, MAX_SECONDS))
        return io.NodeOutput(features, sampler_seconds, clip.fps or features.fps)


def _read_mask(mask: Tensor | None, strength: float, *, clip: bool, sync: bool) -> ObjectMask | None:
    """Combine the inputs for the object mask, if one is connected."""
    from ..audiox_ext.media.object_mask import ObjectMask

    return None if mask is None else ObjectMask(mask=mask, strength=strength, clip=clip, sync=sync)


def _declare_widgets() -> list[io.Input]:
    """Declare the required widgets."""
    return [
        io.Float.Input(
            "start",
            default=0.0,
            min=0.0,
            max=86400.0,
            step=0.1,
            tooltip="Second of the video at which to begin. Counts from the start of the trimmed video.",
        ),
        io.Float.Input(
            "duration",
            default=0.0,
            min=0.0,
            max=86400.0,
            step=0.1,
            tooltip=(
                "Seconds of video to use, up to 600; 0 = to the end. Reading takes 5 MB of memory a second."
            ),
        ),
        io.Combo.Input(
            "resize",
            options=list(RESIZE_MODES),
            default="squash",
            tooltip=(
                "How frames become square. squash: the whole picture, out of proportion, as the models were "
                "trained. crop: the middle of the picture, in proportion."
            ),
        ),
        io.Float.Input(
            "fps",
            default=24.0,
            min=0.01,
            max=1000.0,
            step=0.001,
            tooltip=(
                "Frames per second of `images`. Not used for a VIDEO, which knows its own, or with "
                "video_info. For pictures that are shown for seconds each, see seconds_per_image."
            ),
        ),
    ]


def _declare_sockets() -> list[io.Input]:
    """Declare the inputs to connect, except the mask."""
    return [
        io.Video.Input(
            "video",
            optional=True,
            tooltip="The video, for example from Load Video. Only needed frames are decoded.",
        ),
        io.Image.Input(
            "images",
            optional=True,
            tooltip=(
                "Frames instead of a video; set fps, or connect video_info as well. A single image is a "
                "still: it is held for the duration, or for the model's own length if that is 0. With "
                "seconds_per_image they are a slideshow."
            ),
        ),
        io.Custom("VHS_VIDEOINFO").Input(
            "video_info",
            optional=True,
            tooltip=(
                "From a Video Helper Suite loader: its loaded_fps replaces the fps widget for `images`. Not "
                "used for a VIDEO."
            ),
        ),
        AudioXModelSocket.Input(
            "model",
            optional=True,
            tooltip=(
                "The model the features are for: sets its frame rate and least length, and uses the "
                "Synchformer weights in its folder. Without it: 5 frames a second, 10 s, and Synchformer "
                "weights from any known folder."
            ),
        ),
    ]


def _declare_mask() -> list[io.Input]:
    """Declare the object mask."""
    return [
        io.Mask.Input(
            "mask",
            optional=True,
            tooltip=(
                "The object to score, white on black; the rest is greyed out before the model sees it. One "
                "mask for all frames, or one a frame: of the whole video, or of the part that is used. Any "
                "size; it belongs to the upright picture."
            ),
        ),
    ]


def _declare_later_widgets() -> list[io.Input]:
    """Declare widgets that are optional, so that workflows without them still run."""
    return [
        io.Float.Input(
            "mask_strength",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.05,
            optional=True,
            tooltip=(
                "How much of what is outside the mask is greyed out. 1 = all of it, 0 = no masking. Not used "
                "without a mask."
            ),
        ),
        io.Boolean.Input(
            "mask_clip",
            default=True,
            optional=True,
            tooltip=(
                "Mask the pictures that tell the model what is seen. Off: it sees the whole scene, and only "
                "the timing follows the object."
            ),
        ),
        io.Boolean.Input(
            "mask_sync",
            default=True,
            optional=True,
            tooltip=(
                "Mask the pictures that tell the model when things happen (Synchformer). Off: movement in "
                "the background counts for the timing, too."
            ),
        ),
        io.Float.Input(
            "seconds_per_image",
            default=0.0,
            min=0.0,
            max=600.0,
            step=0.1,
            optional=True,
            tooltip=(
                "Above 0: `images` are a slideshow, each shown for so many seconds; fps and video_info are "
                "not used then. 0 = images are the frames of a video, see fps."
            ),
        ),
    ]


def _find_synchformer(handle: AudioXModelHandle | None) -> tuple[Path | None, str]:
    """Return Synchformer's weights and their fingerprint; (None, "") for features without sync.

    Raises `InputError` if the model needs sync features and there are no weights.
    """
    from ..audiox_ext.checkpoints.catalog import find_synchformer
    from ..audiox_ext.checkpoints.state_dict import fingerprint_weights

    if handle is not None and not handle.needs_sync:
        return None, ""
    folders = get_model_folders()
    path = handle.find_synchformer(folders) if handle else find_synchformer(folders)
    if path is not None:
        return path, fingerprint_weights(path)
    problem = (
        "No Synchformer weights (synchformer_state_dict.safetensors or .pth) in the model's folder, "
        "models/selva or models/mmaudio."
    )
    if handle is not None:
        raise InputError(
            f"{problem} {handle.name} needs them for video prompts, with outputs {handle.model.sync_width} "
            "wide. Put the file beside the model's config.json."
        )
    FINGERPRINTS.note_features_without_sync()
    log.warning(
        "AudioX: %s The features hold frames only; AudioX-MAF and AudioX-Turbo will refuse them.", problem
    )
    return None, ""
