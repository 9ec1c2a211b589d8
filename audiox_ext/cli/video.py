"""The options for videos, pictures and object masks, and the command `extract`."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..utf8 import get_logger
from .common import (
    add_command,
    add_consent,
    add_device,
    add_output,
    check_paths,
    check_suffix,
    model_folders,
)

if TYPE_CHECKING:
    from torch import Tensor

    from ..checkpoints.catalog import ModelFolders
    from ..conditioning.video_features import SyncEncoder, VideoFeatures
    from ..media.frames import ImageSequence
    from ..media.object_mask import ObjectMask
    from ..model import AudioXModel
    from ..model_info import StoredModel
    from .common import Commands

log = get_logger(__name__)

_PLAIN_SECONDS = 10.0  # of features that are not extracted for a certain model


def add_video_options(command: argparse.ArgumentParser, required: bool) -> None:
    """Add --video, the part of it to use, and its object mask."""
    command.add_argument(
        "--video",
        type=Path,
        required=required,
        metavar="PATH",
        help="make sound for this video, picture or folder of pictures",
    )
    command.add_argument(
        "--start", type=float, default=0.0, metavar="SECONDS", help="where to start in the video (default: 0)"
    )
    command.add_argument(
        "--duration",
        type=float,
        default=None,
        metavar="SECONDS",
        help="length to use (default: all)",
    )
    command.add_argument(
        "--resize",
        default="squash",
        choices=("squash", "crop"),
        help="how frames become square (default: squash, as the models were trained)",
    )
    command.add_argument(
        "--seconds-per-image",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="how long each picture of a folder is shown; needed for more than one picture",
    )
    command.add_argument(
        "--mask",
        type=Path,
        metavar="PATH",
        help="make sound for one object: its mask, white on black, as a picture, or as a video or a folder "
        "with one mask per frame",
    )
    command.add_argument(
        "--mask-strength",
        type=float,
        default=1.0,
        metavar="N",
        help="how much of the rest is hidden, from 0 (nothing) to 1 (all; default)",
    )
    command.add_argument(
        "--mask-on",
        default="both",
        choices=("both", "clip", "sync"),
        help="what the mask affects: what is seen (clip), when things happen (sync), or both (default)",
    )


def add_extract(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `extract`."""
    summary = "Extract a video's features to a file, which generate --features uses."
    command = add_command(commands, "extract", common, summary, _extract)
    add_video_options(command, required=True)
    command.add_argument(
        "--model",
        help="extract for this model on disk: its frame rate, length and Synchformer (default: any model)",
    )
    command.add_argument(
        "--synchformer", type=Path, metavar="FILE", help="Synchformer's weights (default: the ones on disk)"
    )
    add_consent(command)
    add_device(command)
    add_output(command, "a .safetensors file")


def load_features(
    options: argparse.Namespace, model: AudioXModel, folders: ModelFolders
) -> VideoFeatures | None:
    """Extract the features of --video, or read those of --features; None without either."""
    if options.features is not None:
        from ..conditioning.feature_cache import read_features

        return read_features(options.features)
    if options.video is None:
        return None
    return _extract_features(options, model, folders, None)


def _extract(options: argparse.Namespace) -> None:
    """Write the features of a video to a file."""
    from ..checkpoints.pretrained import find_stored_model
    from ..conditioning.feature_cache import write_features

    folders = model_folders(options)
    check_suffix(options.output, (".safetensors",))
    check_paths(options)
    model = None if options.model is None else find_stored_model(options.model, folders)
    features = _extract_features(options, model, folders, options.synchformer)
    write_features(options.output, features)
    print(f"{options.output}: {features.duration:.2f} s of video at {features.fps:g} fps")


def _extract_features(
    options: argparse.Namespace,
    model: AudioXModel | StoredModel | None,
    folders: ModelFolders,
    synchformer: Path | None,
) -> VideoFeatures:
    """Extract the features of --video for a model."""
    from ..conditioning.video_features import extract_video_features, seconds_to_cover
    from ..media.frames import TimeRange

    rate: dict[str, Any] = {} if model is None else {"video_fps": model.video_fps}
    encode, fingerprint = _sync_encoder(options, model, folders, synchformer)
    time_range = TimeRange(start=options.start, duration=options.duration)
    native_seconds = _PLAIN_SECONDS if model is None else model.conditioning_seconds
    source = read_video_source(options, native_seconds)
    seconds = seconds_to_cover(source, at_least=native_seconds, time_range=time_range)
    if options.command == "generate" and options.seconds:
        seconds = min(seconds, max(native_seconds, options.seconds))
    return extract_video_features(
        source,
        encode_sync=encode,
        sync_fingerprint=fingerprint,
        time_range=time_range,
        seconds=seconds,
        resize=options.resize,
        mask=_object_mask(options),
        **rate,
    )


def _sync_encoder(
    options: argparse.Namespace,
    model: AudioXModel | StoredModel | None,
    folders: ModelFolders,
    synchformer: Path | None,
) -> tuple[SyncEncoder | None, str]:
    """Load Synchformer if the model needs it. Returns its encoder, or None, and the weights' fingerprint."""
    from ..checkpoints.catalog import find_synchformer
    from ..checkpoints.encoders import find_synchformer_for, load_synchformer
    from ..checkpoints.state_dict import fingerprint_weights
    from ..devices import resolve_device

    if model is not None and not model.needs_sync:
        return None, ""
    if synchformer is None:
        synchformer = (
            find_synchformer_for(model, folders, model.folder) if model else find_synchformer(folders)
        )
    if synchformer is None:
        log.warning(
            "There are no Synchformer weights, so the features do not say when things happen. Put "
            "synchformer_state_dict.safetensors (or .pth) into %s.",
            folders.audiox[0],
        )
        return None, ""
    device = resolve_device(options.device)
    network = load_synchformer(synchformer, device=device, accept_cc_by_nc=options.accept_cc_by_nc)

    def encode(frames: Tensor) -> Tensor:
        """Run Synchformer on its device."""
        features: Tensor = network(frames.to(device))
        return features.float().cpu()

    return encode, fingerprint_weights(synchformer)


def read_video_source(options: argparse.Namespace, native_seconds: float) -> Path | ImageSequence:
    """Return the video, or the pictures of --video as a sequence.

    A single picture lasts for --duration or --seconds, otherwise for `native_seconds`. That may be shorter
    than the sound: after its end the picture stands still anyway.
    """
    from ..media.frames import ImageSequence
    from ..media.images import is_image_path, read_images

    path: Path = options.video
    each: float = options.seconds_per_image
    if not (math.isfinite(each) and each >= 0):
        raise InputError(
            f"--seconds-per-image is {each}. Give the seconds that each picture is shown, above 0."
        )
    if not is_image_path(path):
        if each:
            raise InputError(
                f"--seconds-per-image is for pictures, but {path.name} is a video. Leave the option out."
            )
        return path
    images = read_images(path)
    if not each and len(images) > 1:
        raise InputError(
            f"{path} contains {len(images)} pictures. Give the seconds that each is shown, with "
            "--seconds-per-image."
        )
    requested = options.seconds if options.command == "generate" else 0.0
    if not (math.isfinite(requested) and requested >= 0):
        raise InputError(f"--seconds is {requested}. Give the length of the sound, or 0 for the default.")
    length = options.duration or requested or native_seconds
    return ImageSequence(images, 1 / (each or options.start + length))


def _object_mask(options: argparse.Namespace) -> ObjectMask | None:
    """Read --mask."""
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
