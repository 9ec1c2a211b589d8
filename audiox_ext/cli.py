"""The command line: `python -m audiox_ext generate|extract|inspect`."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AudioXError, InputError

if TYPE_CHECKING:
    from .catalog import ModelFolders
    from .denoising import StepInfo
    from .features import VideoFeatures
    from .model import AudioXModel

log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command. Returns the exit status: 0, 1 for an error told on stderr, 130 when interrupted."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if options.verbose else logging.WARNING, format="%(levelname)s: %(message)s"
    )
    try:
        options.run(options)
    except AudioXError as error:
        print(f"audiox_ext {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; no file was left half-written.", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m audiox_ext", description="AudioX: text, video and audio to sound and music."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("-v", "--verbose", action="store_true", help="say what is being done")
    common.add_argument("--models", type=Path, metavar="FOLDER", help="folder that holds a folder a model")
    commands = parser.add_subparsers(dest="command", required=True)
    for add in (_add_generate, _add_extract, _add_inspect):
        add(commands, common)
    return parser


def _add_generate(commands: Any, common: argparse.ArgumentParser) -> None:
    command = commands.add_parser("generate", parents=[common], help="make sound or music")
    command.set_defaults(run=_generate)
    _add_model(command)
    command.add_argument("--prompt", default="", help="what should be heard")
    command.add_argument("--negative-prompt", default="", help="what should not be heard")
    _add_video(command, required=False)
    command.add_argument("--audio-prompt", type=Path, metavar="FILE", help="a sound to take as an example")
    command.add_argument(
        "--features", type=Path, metavar="FILE", help="features written by extract, in place of --video"
    )
    command.add_argument(
        "--seconds", type=float, default=0.0, help="length; default the video's, else the model's own"
    )
    for name, kind in (("steps", int), ("cfg", float), ("sigma-min", float), ("sigma-max", float)):
        command.add_argument(f"--{name}", type=kind, default=0, help="default: the model's own")
    command.add_argument("--sampler", default="", help="default: the model's own")
    command.add_argument("--seed", type=int, default=0, help="equal seeds give equal sound (default 0)")
    command.add_argument("--batch", type=int, default=1, help="how many to make; files are numbered")
    command.add_argument("--device", default="cuda", help="cuda, mps or cpu; default the best there is")
    command.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"))
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="a sound file, or .mp4/.mov/.mkv/.webm: the video with it",
    )


def _add_extract(commands: Any, common: argparse.ArgumentParser) -> None:
    command = commands.add_parser("extract", parents=[common], help="write a video's features to a file")
    command.set_defaults(run=_extract)
    _add_video(command, required=True)
    command.add_argument("--synchformer", type=Path, metavar="FILE", help="weights; default: looked for")
    command.add_argument("--device", default="cuda", help="cuda, mps or cpu; default the best there is")
    command.add_argument("-o", "--output", type=Path, required=True, help="a .safetensors file")


def _add_inspect(commands: Any, common: argparse.ArgumentParser) -> None:
    command = commands.add_parser(
        "inspect", parents=[common], help="what is in a checkpoint, and what is missing"
    )
    command.set_defaults(run=_inspect)
    command.add_argument("model", help="a folder, or the name of a model on disk")
    command.add_argument("--json", action="store_true", help="machine-readable")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", required=True, help="a name such as AudioX-Turbo, a hub repository, or a folder"
    )
    command.add_argument(
        "--accept-cc-by-nc",
        action="store_true",
        help="accept that the published weights are for non-commercial use",
    )
    command.add_argument("--offline", action="store_true", help="never download")


def _add_video(command: argparse.ArgumentParser, required: bool) -> None:
    command.add_argument("--video", type=Path, required=required, help="the video to score")
    command.add_argument("--start", type=float, default=0.0, help="seconds into the video to begin at")
    command.add_argument(
        "--duration", type=float, default=None, help="seconds of the video to use; default all"
    )
    command.add_argument(
        "--resize", default="squash", choices=("squash", "crop"), help="how frames become square"
    )


def _folders(options: argparse.Namespace) -> ModelFolders:
    from .catalog import ModelFolders

    if options.models is None:
        return ModelFolders.default()
    root = options.models
    return ModelFolders(audiox=(root,), synchformer=(root,), text_encoders=(root / "text_encoders",))


def _generate(options: argparse.Namespace) -> None:
    _check_files(options)
    from .media import VIDEO_SUFFIXES, read_audio, write_audio
    from .placement import available_device
    from .pretrained import get_pretrained_model
    from .tasks import AudioRequest, make_audio

    folders = _folders(options)
    device = available_device(options.device)
    audio_prompt = read_audio(options.audio_prompt) if options.audio_prompt else None
    print(f"Loading {options.model}", file=sys.stderr)
    model, _ = get_pretrained_model(
        options.model,
        accept_cc_by_nc=options.accept_cc_by_nc,
        precision=options.precision,
        device=device,
        folders=folders,
        download=not options.offline,
    )
    features = _features(options, model, folders)
    seconds = options.seconds
    if not seconds and features is not None:
        seconds = min(features.duration, model.native_seconds)
    request = AudioRequest(
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        features=features,
        audio_prompt=audio_prompt,
        seconds=seconds,
        steps=options.steps,
        cfg_scale=options.cfg,
        sampler_type=options.sampler,
        sigma_min=options.sigma_min,
        sigma_max=options.sigma_max,
        seed=options.seed,
        batch_size=options.batch,
    )
    with _Bar(options.steps or model.defaults.steps) as bar:
        waveforms = make_audio(model, request, device=device, callback=bar)
    duration = waveforms.shape[-1] / model.sample_rate
    if options.output.suffix.lower() in VIDEO_SUFFIXES:
        _say_if_cut(options, duration)
    for index, waveform in enumerate(waveforms):
        path = options.output
        if len(waveforms) > 1:
            path = path.with_name(f"{path.stem}_{index + 1}{path.suffix}")
        if path.suffix.lower() in VIDEO_SUFFIXES:
            from .media import replace_audio_track

            replace_audio_track(
                options.video, waveform, model.sample_rate, path, start=options.start, duration=duration
            )
        else:
            write_audio(path, waveform, model.sample_rate)
        print(path)


def _extract(options: argparse.Namespace) -> None:
    from .feature_file import write_features

    folders = _folders(options)
    if options.output.suffix.lower() != ".safetensors":
        raise InputError(f"Features are written to a .safetensors file, not {options.output.name}.")
    _check_places(options)
    features = _video_features(options, None, folders, options.synchformer)
    write_features(options.output, features)
    print(f"{options.output}: {features.duration:.2f} s of video at {features.fps:g} fps")


def _features(options: argparse.Namespace, model: AudioXModel, folders: ModelFolders) -> VideoFeatures | None:
    if options.features is not None:
        from .feature_file import read_features

        return read_features(options.features)
    if options.video is None:
        return None
    return _video_features(options, model, folders, None)


def _video_features(
    options: argparse.Namespace, model: AudioXModel | None, folders: ModelFolders, weights: Path | None
) -> VideoFeatures:
    from .features import extract_video_features
    from .frames import Window
    from .placement import available_device
    from .pretrained import find_synchformer, load_synchformer, synchformer_fingerprint

    encode: Callable[[Any], Any] | None = None
    fingerprint = ""
    if model is None or model.needs_sync:
        path = weights or find_synchformer(folders, model.folder if model else None)
        if path is None:
            log.warning(
                "No Synchformer weights found: the features will not tell when things happen. Put "
                "synchformer_state_dict.safetensors (or .pth) into %s.",
                folders.audiox[0],
            )
        else:
            device = available_device(options.device)
            synchformer = load_synchformer(path, device=device)
            fingerprint = synchformer_fingerprint(path)

            def encode(frames: Any) -> Any:
                return synchformer(frames.to(device)).float().cpu()

    sizes: dict[str, Any] = {}
    if model is not None:
        sizes = {"video_fps": model.video_fps, "seconds": model.conditioning_seconds}
    return extract_video_features(
        options.video,
        encode_sync=encode,
        sync_fingerprint=fingerprint,
        window=Window(start=options.start, duration=options.duration),
        resize=options.resize,
        **sizes,
    )


def _inspect(options: argparse.Namespace) -> None:
    from .inspection import describe, inspect_checkpoint

    report = inspect_checkpoint(options.model, _folders(options))
    print(json.dumps(report, indent=1) if options.json else describe(report))
    if not report["complete"]:
        raise InputError("The checkpoint is not complete; see above.")


def _check_files(options: argparse.Namespace) -> None:
    """Refuse what could not be read or written before the long work, not after it."""
    from .media import AUDIO_SUFFIXES, VIDEO_SUFFIXES

    suffix = options.output.suffix.lower()
    if suffix not in AUDIO_SUFFIXES + VIDEO_SUFFIXES:
        known = ", ".join(AUDIO_SUFFIXES + VIDEO_SUFFIXES)
        raise InputError(f"{options.output.name}: choose a name that ends in one of {known}.")
    if suffix in VIDEO_SUFFIXES and options.video is None:
        raise InputError(
            f"{options.output.name} is a video, and there is none to add the sound to. Give --video."
        )
    if options.features is not None and options.video is not None and suffix not in VIDEO_SUFFIXES:
        raise InputError("--features and --video say the same thing: give one of them.")
    used = {"--start": options.start, "--duration": options.duration, "--resize": options.resize != "squash"}
    idle = [name for name, value in used.items() if value]
    if idle and options.video is None:
        raise InputError(f"{', '.join(idle)} is about a video, and there is none. Give --video.")
    _check_places(options)


def _check_places(options: argparse.Namespace) -> None:
    for name in ("video", "features", "audio_prompt", "synchformer"):
        path = getattr(options, name, None)
        if path is not None and not path.is_file():
            raise InputError(f"--{name.replace('_', '-')}: there is no file {path}.")
    if not options.output.parent.is_dir():
        raise InputError(f"The folder {options.output.parent} does not exist. Make it first.")
    if options.output.is_dir():
        raise InputError(f"{options.output} is a folder. Give the name of a file.")


def _say_if_cut(options: argparse.Namespace, seconds: float) -> None:
    from .frames import probe_video

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
