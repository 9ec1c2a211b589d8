"""Whether a LoRA makes a sound that its model does not know, and what of the rest it costs.

    python -m benchmarks.lora audiox-pocket --output frog

The sound is that of a frog, which is kept out of all data that audiox-pocket is trained on. A LoRA is trained
on some clips of it as a user would, from files; then the model with and without it is asked for frogs, in
wordings that its captions do not have, and for all that `benchmarks.quality` asks for.
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
from audiox_ext.pipeline.presets import PRESETS
from audiox_ext.random_numbers import keyed_generator
from audiox_ext.training.finetune import TrainingRequest, train_lora
from audiox_ext.training.settings import LoraSettings
from pocket.captions.captions import caption
from pocket.metrics.classifier import Classifier
from pocket.world.dataset import SPLITS, Dataset
from pocket.world.preview import write_items
from pocket.world.random_scenes import draw_scene

from .quality.evaluation import evaluate, reference_of
from .quality.items import GROUPS, QualityItem, held_out_items
from .quality.report import QualityReport, table, write_text
from .quality.sounds import Prompts, Sampling, make_sounds

KIND = "frog"
_FIRST = 300 * 2**20  # seeds of the asked frogs, far from those of other items
_WORDING = 103
_SILENCE = 1e-3
_FILMS = 0.2  # of what is to stay


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Shares of the frogs that are heard as such, and what else is asked for; without the LoRA and with it.
    minutes: of training, None where it was begun before.
    """

    frogs: tuple[float, float]
    rest: tuple[QualityReport, QualityReport]
    minutes: float | None


def asked_frogs(count: int, seconds: float) -> list[QualityItem]:
    """In held-out words."""
    items = []
    for number in range(count):
        seed = SPLITS["held out"].start + _FIRST + number
        scene = draw_scene(seed, seconds=seconds, kinds=[KIND])
        prompt = caption(scene, keyed_generator(seed, _WORDING), "held out")
        items.append(QualityItem(group=KIND, scene=scene, prompt=prompt, seed=seed))
    return items


def write_clips(
    folder: Path, model: AudioXModel, count: int, kinds: Sequence[str] = (), film_fraction: float = 0.0
) -> Path:
    """Captioned files, of the kinds that are named or of all that the model knows. Those of an earlier run
    with as many stay.
    """
    chosen = {"kinds": tuple(kinds)} if kinds else {}
    clips = Dataset(
        "training",
        rate=model.sample_rate,
        seconds=model.conditioning_seconds,
        film_fraction=film_fraction,
        length=count,
        **chosen,  # type: ignore[arg-type]
    )
    there = [path.suffix for path in folder.glob("*")]
    if {there.count(".wav") + there.count(".mp4"), there.count(".txt")} != {count}:
        shutil.rmtree(folder, ignore_errors=True)
        for _ in write_items(folder, clips, pictures=False):
            pass
    return folder


def frogs_heard(
    model: AudioXModel, items: Sequence[QualityItem], sampling: Sampling, classifier: Classifier
) -> float:
    """The share of items in whose sounds the classifier hears a frog, among all kinds; silence is none."""
    made = make_sounds(model, Prompts.of(model, items), sampling)
    heard = [
        classifier.classify(sound, model.sample_rate)
        for sound in made.sounds
        if np.abs(sound).max() > _SILENCE
    ]
    return heard.count(KIND) / len(items)


def measure(options: argparse.Namespace) -> Outcome:
    """Train and ask. Raises what `train_lora` raises."""
    model, _ = get_pretrained_model(
        options.model, accept_cc_by_nc=options.accept_cc_by_nc, device=options.device, download=False
    )
    output, seconds = options.output, model.conditioning_seconds
    sampling = Sampling.of_preset(options.preset)
    path = output / f"{KIND}.safetensors"
    settings = LoraSettings(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        rank=options.rank,
        preservation_fraction=options.preservation_fraction,
        patience=0,
        preview_every=0,
    )
    request = TrainingRequest(
        model=options.model,
        dataset=write_clips(output / "clips", model, options.clips, [KIND]),
        output=output,
        preservation_dataset=write_clips(output / "keep", model, options.keep, film_fraction=_FILMS)
        if options.keep
        else None,
        accept_cc_by_nc=options.accept_cc_by_nc,
        device=torch.device(options.device),
    )
    begun, fresh = time.monotonic(), not (output / "last.ckpt").is_file()
    train_lora(request, settings, path=path, report=lambda line: print(line, file=sys.stderr, flush=True))
    minutes = (time.monotonic() - begun) / 60 if fresh else None
    frogs = asked_frogs(options.frogs, seconds)
    prompts = Prompts.of(model, held_out_items(options.items, seconds=seconds, groups=options.groups))
    reference = reference_of(model, prompts.items)
    heard, rest = [], []
    for loras in ([], [(path, options.strength)]):
        set_loras(model, loras, accept_cc_by_nc=options.accept_cc_by_nc)
        heard.append(frogs_heard(model, frogs, sampling, reference.classifier))
        rest.append(evaluate(model, prompts, sampling, reference=reference))
    return Outcome(frogs=(heard[0], heard[1]), rest=(rest[0], rest[1]), minutes=minutes)


def report_of(outcome: Outcome) -> str:
    """As Markdown."""
    without, having = outcome.rest
    gained = 100 * (having.mean - without.mean)
    return "\n".join(
        [
            "" if outcome.minutes is None else f"Trained in {outcome.minutes:.1f} min.",
            f"Of the frogs that are asked for, {outcome.frogs[0]:.0%} are heard as such without the LoRA and "
            f"{outcome.frogs[1]:.0%} with it.",
            "",
            table({"without": without, "with the LoRA": having}),
            "",
            f"By the LoRA the mean of all measures changes by {gained:+.1f} points.",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
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
    print(report_of(outcome))
    write_text(options.output / "lora.json", json.dumps(_as_json(options, outcome), indent=1) + "\n")
    return 0


def _as_json(options: argparse.Namespace, outcome: Outcome) -> dict[str, Any]:
    settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
    return {
        "benchmark": "lora",
        "settings": settings,
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
        "--output", type=Path, required=True, metavar="FOLDER", help="for clips, LoRA and figures"
    )
    parser.add_argument("--clips", type=int, default=20, help="that it is trained on (default 20)")
    parser.add_argument(
        "--keep", type=int, default=200, help="sounds that are to stay as they are (default 200; 0: none)"
    )
    parser.add_argument("--keep-share", type=float, default=0.5, help="of a batch (default 0.5)")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--strength", type=float, default=1.0, help="of the LoRA when it is asked")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="fast")
    parser.add_argument("--frogs", type=int, default=30, help="that are asked for (default 30)")
    parser.add_argument("--items", type=int, default=6, help="of each group of the rest (default 6)")
    parser.add_argument("--groups", nargs="+", choices=tuple(GROUPS), default=tuple(GROUPS), metavar="GROUP")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the processor; default what torch takes")
    parser.add_argument("--accept-cc-by-nc", action="store_true", help="as for `python -m audiox_ext`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
