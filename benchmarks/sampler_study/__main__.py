"""Compare samplers, step counts and guidance settings on the same held-out prompts.

    python -m benchmarks.sampler_study audiox-pocket --results study.jsonl
    python -m benchmarks.sampler_study audiox-pocket --results study.jsonl --presets --seeds 4
    python -m benchmarks.sampler_study --results study.jsonl --report docs

The most informative settings run first. You can stop at any time: the file holds every finished setting, and
the same command resumes there. The report consists of `sampler-study.md` and its plots.
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
from audiox_ext.checkpoints.pretrained import Precision, get_pretrained_model
from audiox_ext.checkpoints.state_dict import fingerprint_weights
from audiox_ext.errors import AudioXError, InputError
from audiox_ext.model import AudioXModel

from ..measuring import add_device_options, add_license_option
from ..quality.evaluation import evaluate, reference_of
from ..quality.items import add_item_options, held_out_items, varied_items
from ..quality.sounds import Prompts
from .grid import Trial, full_grid, preset_trials, quick_grid
from .page import comparable, preset_tables, write_report
from .results_file import Result, StudyFile

_DIVERSITY_PROMPTS, _TAKES = 4, 4  # prompts for the diversity, and sounds per prompt
Log = Callable[[str], None]


class StudyRunner:
    """Runs trials with one model, in the precision of each trial."""

    def __init__(
        self, load: Callable[[Precision], AudioXModel], items: int, groups: Sequence[str], batch: int
    ) -> None:
        """Load the model, and prepare the items and their videos once for all trials.

        Args:
            load: Returns the model in a precision.
            items: Number of items per group.
            groups: Groups of items, from `GROUPS`.
            batch: Sounds per batch.

        Raises:
            InputError: If the model does not offer a choice of samplers.
        """
        self._load, self._batch = load, batch
        self._precision: Precision = "fp32"
        self._model = load(self._precision)
        self._device = next(self._model.network.parameters()).device.type
        config = self._model.config
        if config.objective != "v" or config.few_step_count is not None:
            raise InputError("This model has no choice of samplers: study a model with the v objective.")
        seconds = self._model.conditioning_seconds
        self._prompts = Prompts.of(self._model, held_out_items(items, seconds=seconds, groups=groups))
        self._varied = varied_items(_DIVERSITY_PROMPTS, _TAKES, seconds=seconds)
        self._reference = reference_of(self._model, self._prompts.items)

    @property
    def model(self) -> AudioXModel:
        """The model in the precision of the last trial."""
        return self._model

    def run(self, trial: Trial) -> Result:
        """Run one trial. Not every setting works with every model and device.

        Args:
            trial: Settings to use.

        Returns:
            The report, or the error that prevented it.
        """
        report, message = None, ""
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
            message = f"{type(error).__name__}: {error}"
        return Result(trial=trial, report=report, device=self._device, error=message)


def run_study(
    run: Callable[[Trial], Result], trials: Sequence[Trial], file: StudyFile, log: Log, until: float = 0.0
) -> None:
    """Run all trials that the file does not hold yet, in order.

    Args:
        run: Runs one trial.
        trials: All trials of the study.
        file: Receives each result as soon as it exists.
        log: Receives one line per trial.
        until: `time.monotonic()` after which no trial starts; 0 for no limit.
    """
    finished = {result.trial.key for result in file.results()}
    remaining = [trial for trial in trials if trial.key not in finished]
    log(f"{len(trials) - len(remaining)} of {len(trials)} are done.")
    for number, trial in enumerate(remaining, start=len(trials) - len(remaining) + 1):
        if until and time.monotonic() > until:
            log("The time is up.")
            return
        result = run(trial)
        file.append(result)
        outcome = result.error
        if result.report is not None:
            outcome = f"{100 * result.report.mean:.1f} %, {result.report.seconds or 0:.2f} s per sound"
        log(f"{number} of {len(trials)}: {trial.label}: {outcome}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Command-line arguments, by default those of the process.

    Returns:
        The exit status.
    """
    options = _parser().parse_args(arguments)
    try:
        if options.report:
            for path in write_report(options.results, options.report):
                print(path)
        elif options.model is None:
            raise InputError("Name a model to study, or write the report of a study with --report FOLDER.")
        else:
            _study(options)
    except AudioXError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"Stopped. {options.results} holds the finished trials; the same command resumes the study.",
            file=sys.stderr,
        )
        return 130
    return 0


def _study(options: argparse.Namespace) -> None:
    """Run the trials that the options select."""
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in ("items", "batch", "seeds"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} must be at least 1, got {getattr(options, name)}.")

    def load(precision: Precision) -> AudioXModel:
        return get_pretrained_model(
            options.model,
            accept_cc_by_nc=options.accept_cc_by_nc,
            precision=precision,
            device=options.device,
            download=False,
        )[0]

    runner = StudyRunner(load, options.items, options.groups, options.batch)
    model = runner.model
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
    run_study(runner.run, trials, file, lambda text: print(text, file=sys.stderr, flush=True), until)
    if options.presets:
        print(preset_tables(comparable(file.results()), model.defaults))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampler_study", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("model", nargs="?", help="a name such as audiox-pocket, or a folder")
    parser.add_argument(
        "--results", type=Path, required=True, metavar="FILE", help="file of results, to create or resume"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write the report of the results here, and run nothing"
    )
    selection = parser.add_mutually_exclusive_group()
    selection.add_argument("--quick", action="store_true", help="run only a few settings of each kind")
    selection.add_argument("--presets", action="store_true", help="run only the presets, and compare them")
    parser.add_argument("--seeds", type=int, default=4, help="runs per preset (default 4)")
    parser.add_argument("--minutes", type=float, default=0.0, help="start no trial after this time")
    add_item_options(parser, items=4)
    parser.add_argument("--batch", type=int, default=8, help="sounds per batch (default 8)")
    add_device_options(parser)
    add_license_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
