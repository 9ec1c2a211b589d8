"""The commands about what there is: `inspect` or `convert` a checkpoint, `view` a sound, set its `level`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files import write_atomically
from .common import check_places, check_suffix, model_folders

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def add_inspect(commands: Any, common: argparse.ArgumentParser) -> None:
    """The command `inspect`."""
    command = commands.add_parser(
        "inspect", parents=[common], help="what is in a checkpoint, and what is missing; what a LoRA is"
    )
    command.set_defaults(run=_inspect)
    command.add_argument("model", help="a folder, the name of a model on disk, or the file of a LoRA")
    command.add_argument("--json", action="store_true", help="machine-readable")


def add_convert(commands: Any, common: argparse.ArgumentParser) -> None:
    """The command `convert`."""
    command = commands.add_parser(
        "convert", parents=[common], help="rewrite a checkpoint as .safetensors, in the type it is used in"
    )
    command.set_defaults(run=_convert)
    command.add_argument("model", help="a folder, or the name of a model on disk")
    command.add_argument(
        "--accept-cc-by-nc",
        action="store_true",
        help="accept that the published weights are for non-commercial use",
    )
    command.add_argument(
        "--precision",
        default="bf16",
        choices=("fp32", "bf16", "fp16"),
        help="of the network (default bf16); the rest stays float32",
    )
    command.add_argument("--force", action="store_true", help="replace a model that is there")
    command.add_argument("-o", "--output", type=Path, required=True, help="the new model's folder")


def add_view(commands: Any, common: argparse.ArgumentParser) -> None:
    """The command `view`."""
    command = commands.add_parser(
        "view", parents=[common], help="a picture of a sound: its waveform above its spectrogram"
    )
    command.set_defaults(run=_view)
    command.add_argument("sound", type=Path, help="a sound, or a video with sound")
    command.add_argument("--start", type=float, default=0.0, help="seconds into the sound to begin at")
    command.add_argument("--duration", type=float, default=None, help="seconds to show; default all")
    command.add_argument("--width", type=int, default=1100, help="pixels (default 1100)")
    command.add_argument("--height", type=int, default=650, help="pixels (default 650)")
    command.add_argument("-o", "--output", type=Path, required=True, help="a .png, .jpg or .webp file")


def add_level(commands: Any, common: argparse.ArgumentParser) -> None:
    """The command `level`."""
    command = commands.add_parser(
        "level", parents=[common], help="bring a sound to a loudness (ITU-R BS.1770) or a peak level"
    )
    command.set_defaults(run=_level)
    command.add_argument("sound", type=Path, help="a sound, or a video with sound")
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--loudness", type=float, metavar="LUFS", help="such as -16")
    target.add_argument("--peak", type=float, metavar="DBFS", help="such as -1")
    command.add_argument(
        "--ceiling", type=float, default=-1.0, help="dBFS that a loudness may take the peak to (default -1)"
    )
    command.add_argument("-o", "--output", type=Path, required=True, help="a sound file")


def _inspect(options: argparse.Namespace) -> None:
    from ..checkpoints.inspection import describe, describe_lora, inspect_checkpoint, inspect_lora

    if Path(options.model).is_file():
        found = inspect_lora(Path(options.model))
        print(json.dumps(found, indent=1) if options.json else describe_lora(found))
        return
    report = inspect_checkpoint(options.model, model_folders(options))
    print(json.dumps(report, indent=1) if options.json else describe(report))
    if not report["complete"]:
        raise InputError("The checkpoint is not complete; see above.")


def _convert(options: argparse.Namespace) -> None:
    from ..checkpoints.conversion import convert_checkpoint

    path = convert_checkpoint(
        options.model,
        options.output,
        precision=options.precision,
        accept_cc_by_nc=options.accept_cc_by_nc,
        folders=model_folders(options),
        force=options.force,
    )
    print(path)


def _view(options: argparse.Namespace) -> None:
    from ..media.audio_video import read_audio
    from ..plotting.sound_image import draw_sound

    check_suffix(options.output, _PICTURES)
    check_places(options)
    waveform, rate = read_audio(options.sound)
    picture = draw_sound(
        waveform,
        rate,
        size=(options.width, options.height),
        start=options.start,
        duration=options.duration,
        title=options.sound.name,
    )
    with write_atomically(options.output) as temporary:
        picture.save(temporary)
    print(options.output)


def _level(options: argparse.Namespace) -> None:
    from ..media.audio_video import AUDIO_SUFFIXES, read_audio, write_audio
    from ..media.loudness import describe_gains, normalise

    check_suffix(options.output, AUDIO_SUFFIXES)
    check_places(options)
    waveform, rate = read_audio(options.sound)
    by_peak = options.peak is not None
    result = normalise(
        waveform,
        rate,
        mode="peak" if by_peak else "loudness",
        target=options.peak if by_peak else options.loudness,
        ceiling=options.ceiling,
    )
    write_audio(options.output, result, rate)
    print(f"{options.output}: {describe_gains(waveform[None], result[None], rate).partition(': ')[2]}")
