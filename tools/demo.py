"""Run the whole pack once: text and a film in, sounds out, each measured against its prompt.

`python3 run.py demo` prepares an environment and runs this; `python -m tools.demo` runs it in an environment
that is ready. The repository holds everything it needs: the small model audiox-pocket and a film whose events
happen at known times. The demo first makes a sound from a line of text, then the sound of the film.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from audiox_ext.checkpoints.catalog import DEFAULT_MODEL
from tools import audible, demo_report, film

OUT = Path(__file__).resolve().parents[1] / "demo_output"
ANY_VIDEO = "Generate general audio for the video"
SEED = "48"  # the default for the sound from text; 3 seeds in 10 give one beep too many


def main() -> int:
    """Run the demo; returns the exit status."""
    parser = build_parser()
    options, passed_on = parser.parse_known_args()
    refused = next((word for word in passed_on if is_refused(word)), None)
    if refused:
        parser.error(
            f"{refused} cannot be used here: the demo makes words.wav and demo.mp4 in the folder that --out "
            "names. Leave it out, or use `python -m audiox_ext generate`."
        )
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    common = ["--model", options.model, *passed_on]
    if options.video is None and options.prompt is None:
        sound = out / "words.wav"
        if not generate(["--prompt", demo_report.WORDS, "-o", str(sound), "--seed", SEED, *common]):
            return 1
        audible.make_audible(sound)
        demo_report.report_words(sound)
    video: Path = options.video or film.FILM
    prompt = options.prompt or (ANY_VIDEO if options.video else film.PROMPT)
    target = out / "demo.mp4"
    if not generate(["--video", str(video), "--prompt", prompt, "-o", str(target), *common]):
        return 1
    audible.make_audible(target)
    demo_report.report_film(target, knows_events=options.video is None)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the demo's own options."""
    about = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="run.py demo", description=about, allow_abbrev=False)
    parser.add_argument(
        "--model", default=DEFAULT_MODEL, help="name or folder of a model (default: %(default)s)"
    )
    parser.add_argument(
        "--video", type=Path, help=f"score only this video (default: {film.FILM.name} in examples)"
    )
    parser.add_argument(
        "--prompt",
        help=f"score only the video, with this prompt (default: {film.PROMPT!r}; with --video {ANY_VIDEO!r})",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the results (default: %(default)s)")
    parser.epilog = "Other options go to `python -m audiox_ext generate`, except --output and --batch."
    return parser


def is_refused(word: str) -> bool:
    """Return whether an argument, possibly abbreviated, would change which files are written."""
    option = word.split("=")[0]
    if option.startswith("--"):
        return len(option) > 2 and any(name.startswith(option) for name in ("--output", "--batch"))
    return option.startswith("-o")


def generate(arguments: Sequence[str]) -> bool:
    """Show and run `python -m audiox_ext generate`; returns whether it succeeded."""
    from audiox_ext.cli.main import main as run_command

    print(f"\n$ python -m audiox_ext generate --force {shlex.join(arguments)}", flush=True)
    succeeded = run_command(["generate", "--force", *arguments]) == 0
    if not succeeded:
        print("This command failed.", flush=True)
    return succeeded


if __name__ == "__main__":
    sys.exit(main())
