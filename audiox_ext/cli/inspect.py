"""The commands `inspect` and `convert` for checkpoints, and `view` and `level` for sounds."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..files import write_atomically
from .common import add_command, add_consent, add_output, check_paths, check_suffix, model_folders

if TYPE_CHECKING:
    from .common import Commands

_PICTURES = (".png", ".jpg", ".jpeg", ".webp")


def add_inspect(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `inspect`."""
    summary = "Show the contents of a model or LoRA, and what a model lacks."
    command = add_command(commands, "inspect", common, summary, _inspect)
    command.add_argument("model", help="the name of a model on disk, a model's folder, or a LoRA's file")
    command.add_argument("--json", action="store_true", help="print JSON")


def add_convert(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `convert`."""
    summary = "Convert a model to one .safetensors file that loads faster and takes less memory."
    command = add_command(commands, "convert", common, summary, _convert)
    command.add_argument("model", help="the name of a model on disk, or its folder")
    add_consent(command)
    command.add_argument(
        "--precision",
        default="bf16",
        choices=("fp32", "bf16", "fp16"),
        help="type of the network's weights; everything else stays float32 (default: bf16)",
    )
    command.add_argument("--force", action="store_true", help="replace the model in the output folder")
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder of the new model"
    )


def add_view(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `view`."""
    summary = "Draw a sound: its waveform above its spectrogram."
    command = add_command(commands, "view", common, summary, _view)
    command.add_argument("sound", type=Path, help="a sound file, or a video with sound")
    command.add_argument(
        "--start", type=float, default=0.0, metavar="SECONDS", help="where to start in the sound (default: 0)"
    )
    command.add_argument(
        "--duration", type=float, default=None, metavar="SECONDS", help="length to show (default: all)"
    )
    command.add_argument(
        "--width", type=int, default=1100, metavar="PIXELS", help="width of the picture (default: 1100)"
    )
    command.add_argument(
        "--height", type=int, default=650, metavar="PIXELS", help="height of the picture (default: 650)"
    )
    add_output(command, "a .png, .jpg or .webp file")


def add_level(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add the command `level`."""
    summary = "Set the loudness (ITU-R BS.1770) or the peak of a sound."
    command = add_command(commands, "level", common, summary, _level)
    command.add_argument("sound", type=Path, help="a sound file, or a video with sound")
    target = command.add_mutually_exclusive_group(required=True)
    target.add_argument("--loudness", type=float, metavar="LUFS", help="loudness of the result, such as -16")
    target.add_argument("--peak", type=float, metavar="DBFS", help="peak of the result, such as -1")
    command.add_argument(
        "--ceiling",
        type=float,
        default=-1.0,
        metavar="DBFS",
        help="highest peak that --loudness may cause (default: -1)",
    )
    add_output(command, "a sound file")


def _inspect(options: argparse.Namespace) -> None:
    """Print a report; an incomplete model is an error."""
    from ..checkpoints.inspection import describe, describe_lora, inspect_checkpoint, inspect_lora

    if Path(options.model).is_file():
        lora = inspect_lora(Path(options.model))
        print(json.dumps(lora, indent=1) if options.json else describe_lora(lora))
        return
    report = inspect_checkpoint(options.model, model_folders(options))
    print(json.dumps(report, indent=1) if options.json else describe(report))
    if not report["complete"]:
        raise InputError("The model is not complete: the report above says what is missing or wrong.")


def _convert(options: argparse.Namespace) -> None:
    """Convert a model and print the new file."""
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
    """Draw a sound and print the picture's file."""
    from ..media.audio_video import read_audio
    from ..plotting.sound_image import draw_sound

    check_suffix(options.output, _PICTURES)
    check_paths(options)
    end = math.inf if options.duration is None else options.start + options.duration + 1
    waveform, rate = read_audio(options.sound, end if end > 0 else math.inf)
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
    """Write the sound with a new loudness or peak, and print what changed."""
    from ..media.audio_video import AUDIO_SUFFIXES, holds_floats, read_audio, write_audio
    from ..media.loudness import describe_gains, normalise

    check_suffix(options.output, AUDIO_SUFFIXES)
    check_paths(options)
    waveform, rate = read_audio(options.sound)
    by_peak = options.peak is not None
    result = normalise(
        waveform,
        rate,
        mode="peak" if by_peak else "loudness",
        target=options.peak if by_peak else options.loudness,
        ceiling=options.ceiling,
    )
    write_audio(options.output, result, rate, keep_floats=holds_floats(options.sound))
    print(f"{options.output}: {describe_gains(waveform[None], result[None], rate).partition(': ')[2]}")
