"""The command line's part about videos: which pictures, which part, which object in them; `extract`."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .common import add_device, check_places, model_folders

if TYPE_CHECKING:
    from ..checkpoints.catalog import ModelFolders
    from ..conditioning.video_features import VideoFeatures
    from ..media.frames import ImageSequence
    from ..media.object_mask import ObjectMask
    from ..model import AudioXModel
    from ..model_info import StoredModel

log = logging.getLogger(__name__)


def add_video_options(command: argparse.ArgumentParser, required: bool) -> None:
    """Add the options of `frame_source` and `object_mask`, and which part of the video is meant."""
    command.add_argument(
        "--video", type=Path, required=required, help="the video, picture or folder of pictures to score"
    )
    command.add_argument("--start", type=float, default=0.0, help="seconds into the video to begin at")
    command.add_argument(
        "--duration", type=float, default=None, help="seconds of the video to use; default all"
    )
    command.add_argument(
        "--resize", default="squash", choices=("squash", "crop"), help="how frames become square"
    )
    command.add_argument(
        "--seconds-per-image", type=float, default=0.0, help="how long each picture of a slideshow is shown"
    )
    command.add_argument(
        "--mask",
        type=Path,
        help="the object to score, white on black: a picture, or a video or a folder with one mask a frame",
    )
    command.add_argument(
        "--mask-strength", type=float, default=1.0, help="0: no masking, 1: the rest is all grey (default)"
    )
    command.add_argument(
        "--mask-on",
        default="both",
        choices=("both", "clip", "sync"),
        help="what the mask is for: what is seen (clip), when things happen (sync), or both",
    )


def frame_source(options: argparse.Namespace, shortest: float) -> Path | ImageSequence:
    """The video, or the pictures as one. A single picture is held for the duration or the seconds that are
    asked for, or else for `shortest` seconds, as it is where the seconds are not those of the whole sound:
    past its end it stands still anyway. Raises InputError and MediaError.
    """
    from ..media.frames import ImageSequence
    from ..media.images import is_image_path, read_images

    path: Path = options.video
    each: float = options.seconds_per_image
    if not (math.isfinite(each) and each >= 0):
        raise InputError(f"--seconds-per-image is {each}: give the seconds that each picture is shown.")
    if not is_image_path(path):
        if each:
            raise InputError(f"--seconds-per-image is about pictures, and {path.name} is a video.")
        return path
    images = read_images(path)
    if not each and len(images) > 1:
        raise InputError(
            f"{path} holds {len(images)} pictures: say how long each is shown, with --seconds-per-image."
        )
    wanted = options.seconds if options.command == "generate" else 0.0
    if not (math.isfinite(wanted) and wanted >= 0):
        raise InputError(f"--seconds is {wanted}: give how long the sound is to be, or 0 for the default.")
    held = options.duration or wanted or shortest
    return ImageSequence(images, 1 / (each or options.start + held))


def object_mask(options: argparse.Namespace) -> ObjectMask | None:
    """The mask that the options name. Raises InputError and MediaError."""
    from ..media.images import read_masks
    from ..media.object_mask import ObjectMask

    if options.mask is None:
        return None
    return ObjectMask(
        mask=read_masks(options.mask),
        strength=options.mask_strength,
        clip=options.mask_on in ("both", "clip"),
        sync=options.mask_on in ("both", "sync"),
    )


def add_extract(commands: Any, common: argparse.ArgumentParser) -> None:
    """The command `extract`."""
    command = commands.add_parser("extract", parents=[common], help="write a video's features to a file")
    command.set_defaults(run=_extract)
    add_video_options(command, required=True)
    command.add_argument(
        "--model", help="the model they are for, on disk: its frame rate, length and Synchformer are used"
    )
    command.add_argument("--synchformer", type=Path, metavar="FILE", help="weights; default: looked for")
    add_device(command)
    command.add_argument("-o", "--output", type=Path, required=True, help="a .safetensors file")


def _extract(options: argparse.Namespace) -> None:
    from ..checkpoints.pretrained import find_stored_model
    from ..conditioning.feature_cache import write_features

    folders = model_folders(options)
    if options.output.suffix.lower() != ".safetensors":
        raise InputError(f"Features are written to a .safetensors file, not {options.output.name}.")
    check_places(options)
    model = None if options.model is None else find_stored_model(options.model, folders)
    features = _video_features(options, model, folders, options.synchformer)
    write_features(options.output, features)
    print(f"{options.output}: {features.duration:.2f} s of video at {features.fps:g} fps")


def features_of(
    options: argparse.Namespace, model: AudioXModel, folders: ModelFolders
) -> VideoFeatures | None:
    """The features of --video or --features, None where neither is given."""
    if options.features is not None:
        from ..conditioning.feature_cache import read_features

        return read_features(options.features)
    if options.video is None:
        return None
    return _video_features(options, model, folders, None)


def _video_features(
    options: argparse.Namespace,
    model: AudioXModel | StoredModel | None,
    folders: ModelFolders,
    weights: Path | None,
) -> VideoFeatures:
    from ..checkpoints.catalog import find_synchformer
    from ..checkpoints.encoders import find_synchformer_for, load_synchformer
    from ..checkpoints.state_dict import fingerprint_weights
    from ..conditioning.video_features import extract_video_features, seconds_to_cover
    from ..devices import resolve_device
    from ..media.frames import TimeRange

    encode: Callable[[Any], Any] | None = None
    fingerprint = ""
    if model is None or model.needs_sync:
        found = find_synchformer_for(model, folders, model.folder) if model else find_synchformer(folders)
        path = weights or found
        if path is None:
            log.warning(
                "No Synchformer weights found: the features will not tell when things happen. Put "
                "synchformer_state_dict.safetensors (or .pth) into %s.",
                folders.audiox[0],
            )
        else:
            device = resolve_device(options.device)
            synchformer = load_synchformer(path, device=device)
            fingerprint = fingerprint_weights(path)

            def encode(frames: Any) -> Any:
                return synchformer(frames.to(device)).float().cpu()

    rate: dict[str, Any] = {} if model is None else {"video_fps": model.video_fps}
    window = TimeRange(start=options.start, duration=options.duration)
    shortest = 10.0 if model is None else model.conditioning_seconds
    source = frame_source(options, shortest)
    seconds = seconds_to_cover(source, at_least=shortest, time_range=window)
    if options.command == "generate" and options.seconds:
        seconds = min(seconds, max(shortest, options.seconds))
    return extract_video_features(
        source,
        encode_sync=encode,
        sync_fingerprint=fingerprint,
        time_range=window,
        seconds=seconds,
        resize=options.resize,
        mask=object_mask(options),
        **rate,
    )
