"""Measure how well a LoRA teaches a model a new sound, and how much the other sounds suffer.

    python -m benchmarks.lora audiox-pocket --output frog

The sound is a frog, which none of audiox-pocket's training data contain. The command trains a LoRA on clips
of frogs, from files as a user would. With and without the LoRA, the model then generates frogs and all
items of `benchmarks.quality`. The prompts for frogs use phrasings that the captions of the clips do not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from audiox_ext.checkpoints.lora import set_loras
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.errors import AudioXError, InputError
from audiox_ext.model import AudioXModel
from audiox_ext.pipeline.settings import PRESETS
from audiox_ext.random_numbers import keyed_generator
from audiox_ext.training.finetune import TrainingRequest, train_lora
from audiox_ext.training.settings import LoraSettings
from pocket.captions.captions import caption
from pocket.metrics.classifier import Classifier
from pocket.world.dataset import SPLITS, Dataset
from pocket.world.kinds import KNOWN_KINDS
from pocket.world.preview import write_items
from pocket.world.random_scenes import draw_scene

from .measuring import add_device_options, add_license_option, settings_of, write_text
from .quality.evaluation import evaluate, reference_of
from .quality.items import QualityItem, add_item_options, held_out_items
from .quality.report import QualityReport, format_table
from .quality.sounds import Prompts, Sampling, generate_sounds

KIND = "frog"
_FIRST_SEED = 300 * 2**20  # of the frogs, far from the seeds of other items
_WORDING = 103  # separates the random numbers of captions from others
_SILENCE = 1e-3  # peak below which a sound counts as silent
_FILM_FRACTION = 0.2  # of the sounds to preserve


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Measurements with and without the LoRA.

    Attributes:
        frogs: Fractions of the frogs that the classifier recognises.
        rest: Measurements of all other items.
        minutes: Duration of the training, None if it was resumed.
    """

    frogs: tuple[float, float]
    rest: tuple[QualityReport, QualityReport]
    minutes: float | None


def frog_items(count: int, seconds: float) -> list[QualityItem]:
    """Draw prompts for frogs, in held-out phrasings.

    Args:
        count: Number of items.
        seconds: Duration of the scenes.

    Returns:
        The items.
    """
    items = []
    for number in range(count):
        seed = SPLITS["held out"].start + _FIRST_SEED + number
        scene = draw_scene(seed, seconds=seconds, kinds=[KIND])
        prompt = caption(scene, keyed_generator(seed, _WORDING), "held out")
        items.append(QualityItem(group=KIND, scene=scene, prompt=prompt, seed=seed))
    return items


def write_clips(
    folder: Path,
    model: AudioXModel,
    count: int,
    kinds: Sequence[str] = KNOWN_KINDS,
    film_fraction: float = 0.0,
) -> Path:
    """Write sounds with captions, unless the folder already holds as many.

    Args:
        folder: Folder to write; other contents are deleted.
        model: Model whose sample rate and duration apply.
        count: Number of clips.
        kinds: Kinds of sound.
        film_fraction: Fraction of clips with a video.

    Returns:
        The folder.
    """
    clips = Dataset(
        "training",
        rate=model.sample_rate,
        seconds=model.conditioning_seconds,
        film_fraction=film_fraction,
        kinds=tuple(kinds),
        length=count,
    )
    suffixes = [path.suffix for path in folder.glob("*")]
    if {suffixes.count(".wav") + suffixes.count(".mp4"), suffixes.count(".txt")} != {count}:
        shutil.rmtree(folder, ignore_errors=True)
        for _ in write_items(folder, clips, pictures=False):
            pass
    return folder


def recognised_fraction(
    model: AudioXModel, items: Sequence[QualityItem], sampling: Sampling, classifier: Classifier
) -> float:
    """Generate sounds and measure how many the classifier recognises as frogs. Silence never counts.

    Args:
        model: Model to use.
        items: Items from `frog_items`.
        sampling: Sampling settings.
        classifier: Classifier of all kinds.

    Returns:
        The fraction of items.
    """
    generated = generate_sounds(model, Prompts.of(model, items), sampling)
    recognised = [
        classifier.classify(sound, model.sample_rate)
        for sound in generated.sounds
        if np.abs(sound).max() > _SILENCE
    ]
    return recognised.count(KIND) / len(items)


def measure(options: argparse.Namespace) -> Outcome:
    """Train the LoRA, then measure the model with and without it.

    Args:
        options: Options of the command.

    Returns:
        The measurements.
    """
    model, _ = get_pretrained_model(
        options.model, accept_cc_by_nc=options.accept_cc_by_nc, device=options.device, download=False
    )
    sampling = Sampling.of_preset(options.preset)
    path = options.output / f"{KIND}.safetensors"
    minutes = _train(model, options, path)
    seconds = model.conditioning_seconds
    frogs = frog_items(options.frogs, seconds)
    prompts = Prompts.of(model, held_out_items(options.items, seconds=seconds, groups=options.groups))
    reference = reference_of(model, prompts.items)
    recognised, rest = [], []
    for loras in ([], [(path, options.strength)]):
        set_loras(model, loras, accept_cc_by_nc=options.accept_cc_by_nc)
        recognised.append(recognised_fraction(model, frogs, sampling, reference.classifier))
        rest.append(evaluate(model, prompts, sampling, reference=reference))
    return Outcome(frogs=(recognised[0], recognised[1]), rest=(rest[0], rest[1]), minutes=minutes)


def _train(model: AudioXModel, options: argparse.Namespace, path: Path) -> float | None:
    """Train the LoRA to a file; minutes, or None if an earlier run was resumed."""
    output: Path = options.output
    settings = LoraSettings(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        rank=options.rank,
        preservation_fraction=options.preservation_fraction,
        patience=0,
        preview_every=0,
    )
    preservation_dataset = None
    if options.preserve:
        preservation_dataset = write_clips(
            output / "preservation", model, options.preserve, film_fraction=_FILM_FRACTION
        )
    request = TrainingRequest(
        model=options.model,
        dataset=write_clips(output / "clips", model, options.clips, [KIND]),
        output=output,
        preservation_dataset=preservation_dataset,
        accept_cc_by_nc=options.accept_cc_by_nc,
        device=torch.device(options.device),
    )
    start, is_new = time.monotonic(), not (output / "last.ckpt").is_file()
    train_lora(request, settings, path=path, report=lambda line: print(line, file=sys.stderr, flush=True))
    return (time.monotonic() - start) / 60 if is_new else None


def format_report(outcome: Outcome) -> str:
    """Format the measurements as Markdown.

    Args:
        outcome: Measurements of `measure`.

    Returns:
        The report.
    """
    without, with_lora = outcome.rest
    change = 100 * (with_lora.mean - without.mean)
    return "\n".join(
        [
            "" if outcome.minutes is None else f"Trained in {outcome.minutes:.1f} min.",
            f"The classifier recognises {outcome.frogs[0]:.0%} of the frogs without the LoRA and "
            f"{outcome.frogs[1]:.0%} with it.",
            "",
            format_table({"without": without, "with the LoRA": with_lora}),
            "",
            f"The LoRA changes the mean of all measures by {change:+.1f} points.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    try:
        if min(options.clips, options.frogs, options.items) < 2:
            raise InputError("--clips, --frogs and --items must be at least 2.")
        outcome = measure(options)
    except AudioXError as error:
        print(error, file=sys.stderr)
        return 1
    print(format_report(outcome))
    write_text(options.output / "lora.json", json.dumps(_as_json(options, outcome), indent=1) + "\n")
    return 0


def _as_json(options: argparse.Namespace, outcome: Outcome) -> dict[str, Any]:
    """The measurements with the options that produced them."""
    return {
        "benchmark": "lora",
        "settings": settings_of(options),
        "frogs": outcome.frogs,
        "rest": [report.as_dict() for report in outcome.rest],
        "minutes": outcome.minutes,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lora", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("model", help="a name such as audiox-pocket, or a folder")
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder for clips, LoRA and report"
    )
    parser.add_argument("--clips", type=int, default=20, help="clips to train on (default 20)")
    parser.add_argument(
        "--preserve", type=int, default=200, help="clips of other sounds to preserve (default 200; 0: none)"
    )
    parser.add_argument(
        "--preservation-fraction",
        type=float,
        default=0.5,
        help="fraction of a batch that is drawn from the sounds to preserve (default 0.5)",
    )
    parser.add_argument("--steps", type=int, default=600, help="training steps (default 600)")
    parser.add_argument("--batch-size", type=int, default=16, help="clips per training batch (default 16)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="learning rate (default 0.001)")
    parser.add_argument("--rank", type=int, default=16, help="rank of the LoRA (default 16)")
    parser.add_argument("--strength", type=float, default=1.0, help="LoRA strength to measure (default 1)")
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default="fast", help="sampling preset (default fast)"
    )
    parser.add_argument("--frogs", type=int, default=30, help="frogs to generate (default 30)")
    add_item_options(parser, items=6)
    add_device_options(parser)
    add_license_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
