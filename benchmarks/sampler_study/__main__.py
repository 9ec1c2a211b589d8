"""Which sampler, how many steps, how much guidance: every setting on the same held-out prompts.

    python -m benchmarks.sampler_study audiox-pocket --results study.jsonl
    python -m benchmarks.sampler_study audiox-pocket --results study.jsonl --presets --seeds 4
    python -m benchmarks.sampler_study --results study.jsonl --report docs

The most telling settings come first. It may be stopped at any time: what is done is in the file, and the same
command goes on from there. The report is `sampler-study.md` with its pictures.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from audiox_ext.checkpoints.catalog import find_files
from audiox_ext.checkpoints.pretrained import get_pretrained_model
from audiox_ext.checkpoints.state_dict import fingerprint_weights
from audiox_ext.errors import AudioXError, InputError
from audiox_ext.model import AudioXModel

from ..quality.evaluation import evaluate, reference_of
from ..quality.items import GROUPS, held_out_items, varied_items
from ..quality.sounds import Prompts
from .grid import Trial, full_grid, preset_trials, quick_grid
from .page import comparable, preset_tables, write_report
from .results_file import Result, StudyFile

_VARIED, _TAKES = 4, 4
Say = Callable[[str], None]


class Laboratory:
    """A model in the precisions that are asked for, with what all trials share: items and their videos."""

    def __init__(
        self, load: Callable[[str], AudioXModel], items: int, groups: Sequence[str], batch: int
    ) -> None:
        """load: gives the model in a precision. items: of each group. Raises InputError for a model that has
        no choice of samplers.
        """
        self._load, self._batch = load, batch
        self._precision, self._model = "fp32", load("fp32")
        self._device = next(self._model.network.parameters()).device.type
        config = self._model.config
        if config.objective != "v" or config.few_step_count is not None:
            raise InputError("This model has no choice of samplers: study one with the v objective.")
        seconds = self._model.conditioning_seconds
        self._prompts = Prompts.of(self._model, held_out_items(items, seconds=seconds, groups=groups))
        self._varied = varied_items(_VARIED, _TAKES, seconds=seconds)
        self._reference = reference_of(self._model, self._prompts.items)

    @property
    def model(self) -> AudioXModel:
        """In the precision that was last asked for."""
        return self._model

    def run(self, trial: Trial) -> Result:
        """What comes of it, or why nothing did: not every setting works with every model and processor."""
        report, why = None, ""
        try:
            if trial.precision != self._precision:
                self._model = self._load(trial.precision)
                self._precision = trial.precision
            report = evaluate(
                self._model,
                self._prompts,
                trial.sampling,
                reference=self._reference,
                varied=self._varied if trial.diverse else (),
                seed=trial.seed,
                batch=self._batch,
            )
        except (AudioXError, RuntimeError) as error:
            why = f"{type(error).__name__}: {error}"
        return Result(trial=trial, report=report, device=self._device, error=why)


def run_study(
    run: Callable[[Trial], Result], trials: Sequence[Trial], file: StudyFile, say: Say, until: float = 0.0
) -> None:
    """Do what is not in the file yet, in this order. until: the time of `time.monotonic` after which nothing
    is begun, 0 for none.
    """
    done = {result.trial.key for result in file.results()}
    left = [trial for trial in trials if trial.key not in done]
    say(f"{len(trials) - len(left)} of {len(trials)} are done.")
    for number, trial in enumerate(left, start=len(trials) - len(left) + 1):
        if until and time.monotonic() > until:
            say("The time is up.")
            return
        result = run(trial)
        file.append(result)
        told = result.error
        if result.report is not None:
            told = f"{100 * result.report.mean:.1f} %, {result.report.seconds or 0:.2f} s a sound"
        say(f"{number} of {len(trials)}: {trial.label}: {told}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        if options.report:
            for path in write_report(options.results, options.report):
                print(path)
        elif options.model is None:
            raise InputError("Name a model to study, or give --report FOLDER to write of what was measured.")
        else:
            _study(options)
    except AudioXError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"Stopped. {options.results} holds what is done; the same command goes on.", file=sys.stderr)
        return 130
    return 0


def _study(options: argparse.Namespace) -> None:
    if options.threads:
        torch.set_num_threads(options.threads)
    if min(options.items, options.batch, options.seeds) < 1:
        raise InputError("--items, --batch and --seeds must be at least 1.")

    def load(precision: str) -> AudioXModel:
        return get_pretrained_model(
            options.model,
            accept_cc_by_nc=options.accept_cc_by_nc,
            precision=precision,  # type: ignore[arg-type]
            device=options.device,
            download=False,
        )[0]

    laboratory = Laboratory(load, options.items, options.groups, options.batch)
    model = laboratory.model
    assert model.folder is not None
    subject = {
        "model": model.folder.name,
        "weights": fingerprint_weights(find_files(model.folder).weights),
        "items": options.items,
        "groups": list(options.groups),
        "defaults": asdict(model.defaults),
    }
    if options.presets:
        trials = preset_trials(model.defaults, options.seeds)
    else:
        trials = quick_grid(model.defaults) if options.quick else full_grid(model.defaults, options.seeds)
    file = StudyFile(options.results, subject)
    until = time.monotonic() + 60 * options.minutes if options.minutes else 0.0
    run_study(laboratory.run, trials, file, lambda text: print(text, file=sys.stderr, flush=True), until)
    if options.presets:
        print(preset_tables(comparable(file.results()), model.defaults))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampler_study", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("model", nargs="?", help="a name such as audiox-pocket, or a folder")
    parser.add_argument("--results", type=Path, required=True, metavar="FILE", help="where results are kept")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write of the results, and run nothing")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true", help="a few settings of each kind")
    which.add_argument("--presets", action="store_true", help="the presets alone, against each other")
    parser.add_argument("--seeds", type=int, default=4, help="of the presets (default 4)")
    parser.add_argument("--items", type=int, default=4, help="of each group (default 4)")
    parser.add_argument("--groups", nargs="+", choices=tuple(GROUPS), default=tuple(GROUPS), metavar="GROUP")
    parser.add_argument("--batch", type=int, default=8, help="sounds that are made at once")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin nothing after so long")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of the processor; default what torch takes")
    parser.add_argument("--accept-cc-by-nc", action="store_true", help="as for `python -m audiox_ext`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
