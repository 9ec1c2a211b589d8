"""The commands that make sound: `generate`, `edit` and `extend`."""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checkpoints.catalog import DEFAULT_MODEL
from ..errors import InputError, quote_value
from ..files import check_space
from ..utf8 import get_logger
from .common import (
    add_command,
    add_consent,
    add_device,
    add_loras,
    add_output,
    check_paths,
    check_suffix,
    list_outputs,
    model_folders,
    read_loras,
)
from .options import add_sampling_options, add_window_options, settings_from
from .threads import add_threads, limited_threads
from .video import add_video_options, load_features

if TYPE_CHECKING:
    from torch import Tensor

    from ..model import AudioXModel
    from ..pipeline.editing import AudioEdit, Region
    from ..pipeline.request import AudioRequest
    from ..sampling.denoiser import StepInfo
    from .common import Commands

log = get_logger(__name__)

_BYTES_PER_SAMPLE = 3  # of a channel in a .wav file


def add_generate(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `generate`."""
    summary = "Make sound or music from text, video and audio."
    command = add_command(commands, "generate", common, summary, _generate)
    _add_making(command)
    command.add_argument(
        "--seconds",
        type=float,
        default=0.0,
        metavar="SECONDS",
        help="length of the sound in seconds, up to 600 (default: the length of the video, timeline or "
        "--init-audio, or the model's own)",
    )
    command.add_argument(
        "--short-sounds",
        dest="short_sounds",
        action="store_true",
        help="compute only the requested length of a short sound, not the model's own length cut off",
    )
    command.add_argument(
        "--init-audio", type=Path, metavar="FILE", help="make a variation of this sound (default: none)"
    )
    command.add_argument(
        "--init-strength",
        type=float,
        default=0.6,
        metavar="N",
        help="denoising strength of --init-audio, above 0 to 1 (default: 0.6)",
    )
    add_output(command, "a sound file, or .mp4/.mov/.mkv/.webm for the video with the sound")


def add_edit(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `edit`."""
    command = add_command(commands, "edit", common, "Replace parts of a track.", _edit)
    command.add_argument("track", type=Path, help="the track; everything outside the regions stays unchanged")
    command.add_argument(
        "--region",
        action="append",
        required=True,
        metavar="START-END",
        help="part to replace, in seconds, such as 2-3.5; may be repeated",
    )
    command.add_argument(
        "--feather",
        type=float,
        default=0.05,
        metavar="SECONDS",
        help="crossfade inside a region (default: 0.05)",
    )
    command.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="N",
        help="edit strength of the regions, above 0 to 1 (default: 1)",
    )
    _add_making(command)
    add_output(command, "a sound file")


def add_extend(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `extend`."""
    summary = "Extend a track after its end or before its start."
    command = add_command(commands, "extend", common, summary, _extend)
    command.add_argument("track", type=Path, help="the track to extend")
    command.add_argument("--seconds", type=float, required=True, metavar="SECONDS", help="length to add")
    command.add_argument(
        "--side", default="after", choices=("after", "before"), help="where to add it (default: after)"
    )
    _add_making(command)
    add_output(command, "a sound file")


def _add_making(command: argparse.ArgumentParser) -> None:
    """Add the model, prompts and settings, which all of these commands have."""
    command.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        help="a name such as AudioX-Turbo, a hub repository, or a folder (default: %(default)s)",
    )
    add_consent(command)
    command.add_argument("--offline", action="store_true", help="never download")
    command.add_argument(
        "--prompt",
        default="",
        metavar="TEXT",
        help="describe the sound; lines such as '0-4 rain' make a timeline",
    )
    command.add_argument(
        "--negative-prompt", default="", metavar="TEXT", help="describe what the sound should not contain"
    )
    add_video_options(command, required=False)
    command.add_argument(
        "--features", type=Path, metavar="FILE", help="use features written by extract instead of --video"
    )
    command.add_argument(
        "--audio-prompt", type=Path, metavar="FILE", help="make a sound like this reference audio"
    )
    add_window_options(command)
    add_sampling_options(command)
    add_device(command)
    add_threads(command)
    command.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="type of the network's weights (default: auto, the fastest on the device)",
    )
    add_loras(command)
    command.add_argument(
        "--compile",
        action="store_true",
        help="compile the network with torch.compile, for many runs on a GPU",
    )
    command.add_argument(
        "--offload",
        action="store_true",
        help="keep each part of the model on the device only while it runs: slower, but needs less memory",
    )


def _generate(options: argparse.Namespace) -> None:
    from ..media.audio_video import AUDIO_SUFFIXES
    from ..media.muxing import VIDEO_SUFFIXES

    check_suffix(options.output, AUDIO_SUFFIXES + VIDEO_SUFFIXES)
    _check_video(options)
    from ..media.audio_video import read_stereo
    from ..pipeline.settings import MAX_SECONDS

    init = None
    if options.init_audio:
        init = read_stereo(options.init_audio, min(MAX_SECONDS, max(0.0, options.seconds) or math.inf) + 1)
        if not options.seconds and init[0].shape[-1] > MAX_SECONDS * init[1]:
            raise InputError(
                f"--init-audio: {options.init_audio} is longer than {MAX_SECONDS:g} s, the most that one run "
                "makes. Give --seconds to vary only its beginning."
            )
    settings = {
        "duration": options.seconds or None,
        "short_sounds": options.short_sounds,
        "init_strength": options.init_strength,
    }
    _make(options, {"init_audio": init}, settings)


def _edit(options: argparse.Namespace) -> None:
    regions = [_region(text, options) for text in options.region]
    edit = _track(options)
    for region in regions:
        edit = edit.with_region(region)
    _make(options, {"edit": edit})


def _extend(options: argparse.Namespace) -> None:
    from ..pipeline.editing import extension

    track = _track(options)
    _make(options, {"edit": extension(track.waveform, track.rate, options.seconds, options.side)})


def _region(text: str, options: argparse.Namespace) -> Region:
    from ..pipeline.editing import Region

    try:
        start, end = (float(part) for part in text.split("-"))
    except ValueError:
        raise InputError(
            f"--region {quote_value(text)} is not two times. Give its start and end in "
            "seconds, such as 2-3.5."
        ) from None
    return Region(start=start, end=end, feather=options.feather, strength=options.strength)


def _track(options: argparse.Namespace) -> AudioEdit:
    from ..media.audio_video import AUDIO_SUFFIXES, read_audio
    from ..pipeline.editing import AudioEdit

    check_suffix(options.output, AUDIO_SUFFIXES)
    _check_video(options)
    waveform, rate = read_audio(options.track)
    return AudioEdit(waveform=waveform[None], rate=rate)


def _make(
    options: argparse.Namespace, inputs: dict[str, Any], settings: dict[str, Any] | None = None
) -> None:
    """Make the audio and write it, with the number of threads that suits the model. See `_make_audio`."""
    with limited_threads(options, max(1, options.batch)):
        _make_audio(options, inputs, settings or {})


def _make_audio(options: argparse.Namespace, inputs: dict[str, Any], settings: dict[str, Any]) -> None:
    """Load the model, make the audio, write it.

    inputs, settings: Fields of `AudioRequest` and `GenerationSettings` that only one command sets.
    """
    from ..checkpoints.lora import set_loras
    from ..checkpoints.pretrained import get_pretrained_model
    from ..devices import resolve_device
    from ..media.audio_video import read_stereo
    from ..pipeline.make_audio import make_audio
    from ..pipeline.request import AudioRequest
    from ..pipeline.settings import MAX_SECONDS, MIN_SECONDS, GenerationSettings
    from ..pipeline.timeline import Timeline

    folders = model_folders(options)
    device = resolve_device(options.device)
    request = AudioRequest(
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        # Longer reference audio is used in part.
        audio_prompt=read_stereo(options.audio_prompt, MAX_SECONDS + 1) if options.audio_prompt else None,
        settings=GenerationSettings(**settings_from(options) | settings),
        **inputs,
    )
    if isinstance(request.prompt, Timeline):
        print(f"The prompt is a {request.prompt}", file=sys.stderr)
    loras = read_loras(options)
    print(f"Loading {options.model}", file=sys.stderr)
    model, _ = get_pretrained_model(
        options.model,
        accept_cc_by_nc=options.accept_cc_by_nc,
        precision=options.precision,
        compile=options.compile,
        device=device,
        folders=folders,
        download=not options.offline,
        offload=options.offload,
    )
    set_loras(model, loras, accept_cc_by_nc=options.accept_cc_by_nc)
    features = load_features(options, model, folders)
    if features is not None and request.settings.duration is None and request.edit is None:
        # A video of a single frame is shorter than the shortest sound.
        duration = max(MIN_SECONDS, min(features.duration, MAX_SECONDS))
        request = replace(request, settings=replace(request.settings, duration=duration))
    request = replace(request, features=features)
    check_space(options.output.parent, _estimate_bytes(options, model, request))
    with _Bar(options.steps or model.defaults.steps) as bar:
        waveforms = make_audio(model, request, device=device, callback=bar)
    _write(options, model, request, waveforms)


def _estimate_bytes(options: argparse.Namespace, model: AudioXModel, request: AudioRequest) -> int:
    """Return the least number of bytes that the results take: exact for .wav, else 0."""
    if options.output.suffix.lower() != ".wav":
        return 0
    channels = model.config.audio_channels if request.edit is None else request.edit.waveform.shape[-2]
    samples = int(request.seconds(model) * request.rate(model))
    return _BYTES_PER_SAMPLE * channels * samples * request.settings.batch


def _write(options: argparse.Namespace, model: AudioXModel, request: AudioRequest, waveforms: Tensor) -> None:
    from ..media.audio_video import holds_floats, write_audio
    from ..media.muxing import VIDEO_SUFFIXES, replace_audio_track

    keep_floats = request.edit is not None and holds_floats(options.track)
    rate = request.rate(model)
    duration = waveforms.shape[-1] / rate
    is_video = options.output.suffix.lower() in VIDEO_SUFFIXES
    if is_video:
        _say_if_cut(options, duration)
    for path, waveform in zip(list_outputs(options), waveforms, strict=True):
        if is_video:
            replace_audio_track(options.video, waveform, rate, path, start=options.start, duration=duration)
        else:
            write_audio(path, waveform, rate, keep_floats=keep_floats)
        print(path)


def _check_video(options: argparse.Namespace) -> None:
    """Check before the long work that the video can be read and the output can be written."""
    from ..media.audio_video import AUDIO_SUFFIXES
    from ..media.images import is_image_path
    from ..media.muxing import VIDEO_SUFFIXES
    from ..media.pictures import check_film

    suffix = options.output.suffix.lower()
    if suffix in VIDEO_SUFFIXES and options.video is None:
        raise InputError(
            f"{options.output.name} is a video, but there is no video to add the sound to. Give --video."
        )
    if options.features is not None and options.video is not None and suffix not in VIDEO_SUFFIXES:
        raise InputError("--features and --video exclude each other: give one of them.")
    if options.features is not None and options.mask is not None:
        raise InputError(
            "--mask needs the pictures of a video, but --features are already extracted: "
            "give --mask to extract."
        )
    used = {
        "--start": options.start,
        "--duration": options.duration,
        "--resize": options.resize != "squash",
        "--mask": options.mask,
        "--seconds-per-image": options.seconds_per_image,
    }
    idle = [name for name, value in used.items() if value]
    if idle and options.video is None:
        raise InputError(f"{', '.join(idle)} is about a video, but there is none. Give --video.")
    check_paths(options)
    if suffix in VIDEO_SUFFIXES and is_image_path(options.video):
        raise InputError(
            f"{options.video.name} has no moving pictures to copy into {options.output.name}. Give a sound "
            f"file as the output ({', '.join(AUDIO_SUFFIXES)})."
        )
    if suffix in VIDEO_SUFFIXES:
        check_film(options.video)


def _say_if_cut(options: argparse.Namespace, seconds: float) -> None:
    from ..media.probing import probe_video

    rest = probe_video(options.video).duration - options.start
    if rest > seconds + 0.1:
        log.warning(
            "The video goes on for %.2f s, the sound for %.2f s: the result ends with the sound.",
            rest,
            seconds,
        )


class _Bar:
    """A tqdm bar that a step callback moves."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    def __enter__(self) -> _Bar:
        from tqdm import tqdm

        self._bar = tqdm(total=self._steps, desc="Encoding prompts", unit="step")
        return self

    def __call__(self, info: StepInfo) -> None:
        self._bar.total = info.steps
        self._bar.set_description("Decoding" if info.step == info.steps else "Sampling", refresh=False)
        self._bar.update(info.step - self._bar.n)

    def __exit__(self, *reason: object) -> None:
        self._bar.close()
