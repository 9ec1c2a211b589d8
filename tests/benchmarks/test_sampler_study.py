"""The study of samplers: what it tries and in which order, that it can be stopped, and what it concludes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from audiox_ext.config import SAMPLER_NAMES
from audiox_ext.errors import InputError
from audiox_ext.model_info import SamplingDefaults
from audiox_ext.pipeline.settings import PRESETS
from audiox_ext.sampling.schedules import SCHEDULE_NAMES, noise_levels
from benchmarks.quality.report import QualityReport
from benchmarks.quality.sounds import Sampling
from benchmarks.sampler_study.__main__ import main, run_study
from benchmarks.sampler_study.grid import (
    INTERVALS,
    PRECISIONS,
    SAME_SCHEDULES,
    SCALES,
    STEPS,
    THRESHOLDS,
    WITHOUT_SCHEDULE,
    WITHOUT_STEPS,
    Trial,
    full_grid,
    preset_trials,
    quick_grid,
    resolve_defaults,
)
from benchmarks.sampler_study.page import pareto, preset_tables, write_report
from benchmarks.sampler_study.results_file import Result, StudyFile, read_rows, result_of
from benchmarks.sampler_study.verdict import conclusion, verdicts
from pocket.metrics.measures import Score

DEFAULTS = SamplingDefaults(steps=250, cfg_scale=7.0)
SUBJECT = {
    "model": "pocket",
    "weights": "abc",
    "items": 4,
    "groups": ["count"],
    "defaults": asdict(DEFAULTS),
}


def report(count: int = 30, *, of: int = 40, frechet: float = 1.0, **changes: float) -> QualityReport:
    scores = {"count": Score(right=count, total=of, error=None)}
    return QualityReport(items=of, scores=scores, **{"spectral": 2.0, "frechet": frechet, **changes})


def pretended(trial: Trial) -> Result:
    """More steps are better, as far as 50, and bf16 does not work."""
    if trial.precision == "bf16":
        return Result(trial=trial, report=None, device="cpu", error="RuntimeError: not for\nthis processor")
    steps = trial.sampling.steps or 0
    measurements = report(20 + min(steps, 50) // 5 + trial.seed, frechet=2.0 - min(steps, 50) / 100)
    measured = replace(measurements, seconds=steps / 100, evaluations=2.0 * steps, diversity=0.5)
    return Result(trial=trial, report=measured, device="cpu")


def test_every_sampler_schedule_and_setting_is_tried() -> None:
    grid = full_grid(DEFAULTS)
    tried = {(t.sampling.sampler_type, t.sampling.schedule, t.sampling.steps) for t in grid}
    for sampler in SAMPLER_NAMES:
        for schedule in SCHEDULE_NAMES:
            for steps in STEPS:
                if schedule in SAME_SCHEDULES or (
                    sampler in WITHOUT_SCHEDULE and schedule != "polyexponential"
                ):
                    continue
                if sampler not in WITHOUT_STEPS:
                    assert (sampler, schedule, steps) in tried
    assert {t.sampling.sampler_type for t in grid} == set(SAMPLER_NAMES)
    base = resolve_defaults(Sampling.of_preset("balanced"), DEFAULTS)
    for name, values in (
        ("cfg_scale", SCALES),
        ("guidance_interval", INTERVALS),
        ("reuse_threshold", THRESHOLDS),
    ):
        for value in values:
            assert replace(base, **{name: value}) in [t.sampling for t in grid]
    assert {t.precision for t in grid if t.sampling == base} == set(PRECISIONS)
    assert {t.seed for t in grid if t.sampling == base} == set(range(4))


def test_nothing_is_tried_twice_and_the_most_telling_comes_first() -> None:
    grid = full_grid(DEFAULTS)
    assert len({t.key for t in grid}) == len(grid)
    assert [t.sampling.steps for t in grid[:3]] == [25, 50, 250]
    assert [t.part for t in grid[:3]] == ["presets"] * 3
    parts = [t.part for t in grid]
    assert parts.index("guidance") < parts.index("reuse") < parts.index("schedules")
    assert max(t.sampling.steps or 0 for t in grid[3:40]) <= 100
    quick = quick_grid(DEFAULTS)
    assert len(quick) <= 25
    assert max(t.sampling.steps or 0 for t in quick) <= 50
    assert {t.part for t in quick} == set(parts)


def test_what_is_left_out_as_the_same_is_the_same() -> None:
    for name, other in SAME_SCHEDULES.items():
        assert noise_levels(25, 0.3, 500, name).equal(noise_levels(25, 0.3, 500, other))


def test_published_is_the_published_way() -> None:
    trials = {t.sampling.steps: t for t in preset_trials(DEFAULTS, 1)}
    assert set(trials) == {preset.steps for preset in PRESETS.values()}
    published = trials[250].sampling
    assert (published.sampler_type, published.schedule) == ("dpmpp-3m-sde", "polyexponential")
    assert published.cfg_scale == 7
    assert (published.guidance_interval, published.reuse_threshold) == ((0, 1), 0)


def test_a_trial_survives_json() -> None:
    for trial in full_grid(DEFAULTS)[::20]:
        again = Trial.from_dict(json.loads(json.dumps(trial.as_dict())))
        assert again == trial
        assert again.key == trial.key


class Worker:
    """Counts what it is asked for, and is interrupted after so many."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.done: list[str] = []
        self.stop_after = stop_after

    def __call__(self, trial: Trial) -> Result:
        if len(self.done) == self.stop_after:
            raise KeyboardInterrupt
        self.done.append(trial.key)
        return pretended(trial)


def silent(text: str) -> None:
    pass


def test_a_study_that_was_stopped_does_what_is_left(tmp_path: Path) -> None:
    trials = quick_grid(DEFAULTS)
    file = StudyFile(tmp_path / "study.jsonl", SUBJECT)
    first, second, third = Worker(stop_after=5), Worker(), Worker()
    with pytest.raises(KeyboardInterrupt):
        run_study(first, trials, file, silent)
    assert len(file.results()) == 5
    run_study(second, trials, file, silent)
    assert first.done + second.done == [trial.key for trial in trials]
    run_study(third, trials, file, silent)
    assert third.done == []  # what did not work is done as well
    assert [result.trial for result in file.results()] == trials


def test_a_line_that_broke_off_is_made_again(tmp_path: Path) -> None:
    trials = quick_grid(DEFAULTS)[:4]
    path = tmp_path / "study.jsonl"
    file = StudyFile(path, SUBJECT)
    run_study(Worker(), trials, file, silent)
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    assert len(file.results()) == 3
    worker = Worker()
    run_study(worker, trials, file, silent)
    assert worker.done == [trials[3].key]
    assert path.read_bytes() == whole


def test_results_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.jsonl"
    run_study(Worker(), quick_grid(DEFAULTS)[:1], StudyFile(path, SUBJECT), silent)
    with pytest.raises(InputError, match="these differ: items, weights"):
        StudyFile(path, {**SUBJECT, "weights": "def", "items": 8}).results()
    with path.open("a") as file:
        file.write('{"subject": 1}\n')
    with pytest.raises(InputError, match="Line 2 of"):
        read_rows(path)


def test_nothing_is_begun_when_the_time_is_up(tmp_path: Path) -> None:
    worker = Worker()
    file = StudyFile(tmp_path / "study.jsonl", SUBJECT)
    run_study(worker, quick_grid(DEFAULTS), file, silent, until=time.monotonic() - 1)
    assert worker.done == []


def judged(base: list[QualityReport], other: list[QualityReport], measure: str) -> str:
    return next(v.judgement for v in verdicts(base, other) if v.measure == measure)


def test_a_verdict_is_by_what_seeds_change() -> None:
    base = [report(count) for count in (29, 30, 31)]  # two cases apart at most
    for count, expected in ((30, "within"), (28, "within"), (27, "worse"), (32, "within"), (33, "better")):
        assert judged(base, [report(count)] * 3, "count") == expected
    steady = [report(40)] * 3  # without a spread, one case does not count
    assert judged(steady, [report(39)] * 3, "count") == "within"
    assert judged(steady, [report(38)] * 3, "count") == "worse"
    near = [report(frechet=distance) for distance in (1.0, 1.1, 1.2)]
    assert judged(near, [report(frechet=1.2)] * 3, "Fréchet distance") == "within"
    assert judged(near, [report(frechet=1.5)] * 3, "Fréchet distance") == "worse"
    assert judged(near, [report(frechet=0.5)] * 3, "Fréchet distance") == "better"
    varied = [report(diversity=value) for value in (0.5, 0.52, 0.54)]
    assert judged(varied, [report(diversity=0.3)] * 3, "diversity") == "worse"
    assert "diversity" not in {v.measure for v in verdicts(base, base)}


def test_a_conclusion_names_what_is_worse() -> None:
    base = [report(count) for count in (29, 30, 31)]
    assert conclusion("balanced", "published", verdicts(base, base)).startswith(
        "balanced is not worse than published on any measure"
    )
    comparisons = verdicts(base, [report(10, frechet=9.0)] * 3)
    assert conclusion("fast", "published", comparisons).endswith("on: count, Fréchet distance.")


def test_no_verdict_without_several_seeds() -> None:
    with pytest.raises(InputError, match="There are 2 runs"):
        verdicts([report()] * 2, [report()] * 3)
    table = preset_tables([pretended(t) for t in preset_trials(DEFAULTS, 2)], DEFAULTS)
    assert "needs at least 3 seeds of each" in table
    table = preset_tables([pretended(t) for t in preset_trials(DEFAULTS, 3)], DEFAULTS)
    assert "balanced is not worse than published on any measure" in table
    assert "fast is worse than published" in table
    assert "| count | 77.5 % | 65.0 % | 5.0 % | worse |" in table


def test_the_front_is_what_nothing_cheaper_is_as_good_as() -> None:
    def point(cost: float, right: int) -> Result:
        trial = Trial(part="samplers", sampling=Sampling(steps=int(cost)))
        return Result(trial=trial, report=report(right, evaluations=cost), device="cpu")

    points = [point(100, 30), point(10, 20), point(20, 19), point(50, 30), point(10, 15), point(200, 35)]
    front = [(r.report.evaluations, r.report.scores["count"].right) for r in pareto(points) if r.report]
    assert front == [(10, 20), (50, 30), (200, 35)]


def test_the_report_has_tables_and_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO matplotlib: the pictures of the study were not drawn")
    from PIL import Image

    results = tmp_path / "study.jsonl"
    trials = [*full_grid(DEFAULTS, seeds=3)]
    run_study(pretended, trials, StudyFile(results, SUBJECT), silent)
    page, *pictures = write_report(results, tmp_path / "docs")
    text = page.read_text(encoding="utf-8")
    assert "| dpmpp-2m | 52.5 % | 57.5 % | 62.5 % | 75.0 % | 75.0 % | 75.0 % |" in text
    assert "| k-heun, karras | 52.5 %" in text
    assert "| cfg 10 | 75.0 % |" in text
    assert "| 0.2 to 0.8 |" in text
    assert "fast is worse than published" in text
    assert "RuntimeError: not for this processor" in text
    assert [path.name for path in pictures] == ["study-samplers.png", "study-guidance.png", "study-cost.png"]
    for path in pictures:
        assert f"(images/{path.name})" in text
        with Image.open(path) as picture:
            assert picture.size[0] > 500
            assert len(picture.convert("RGB").getcolors(10**6) or []) > 20  # something is drawn
    titles = [line for line in text.splitlines() if line.startswith("## ")]
    assert len(titles) == 9


def test_a_study_of_presets_alone_draws_no_guidance(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO matplotlib: the pictures of the study were not drawn")
    results = tmp_path / "study.jsonl"
    run_study(pretended, preset_trials(DEFAULTS, 3), StudyFile(results, SUBJECT), silent)
    page, *pictures = write_report(results, tmp_path / "docs")
    assert [path.name for path in pictures] == ["study-samplers.png", "study-cost.png"]
    assert "guidance.png" not in page.read_text(encoding="utf-8")


def test_times_of_two_devices_are_not_compared(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO matplotlib: the pictures of the study were not drawn")
    file = StudyFile(tmp_path / "study.jsonl", SUBJECT)
    trials = preset_trials(DEFAULTS, 3)
    run_study(pretended, trials[:-1], file, silent)
    text = write_report(file.path, tmp_path / "docs")[0].read_text(encoding="utf-8")
    assert "on cpu:" in text
    assert "| evaluations | seconds |" in text
    run_study(lambda trial: replace(pretended(trial), device="cuda"), trials, file, silent)
    text = write_report(file.path, tmp_path / "docs")[0].read_text(encoding="utf-8")
    assert "on cpu and cuda:" in text
    assert "| evaluations |\n" in text
    assert "seconds" not in text


def test_a_quick_study_can_be_reported_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="NO matplotlib: the pictures of the study were not drawn")
    results = tmp_path / "study.jsonl"
    for count in (1, 4, len(quick_grid(DEFAULTS))):
        run_study(pretended, quick_grid(DEFAULTS)[:count], StudyFile(results, SUBJECT), silent)
        assert write_report(results, tmp_path / "docs")[0].is_file()


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    results = str(tmp_path / "study.jsonl")
    assert main(["--results", results]) == 1
    assert "Name a model" in capsys.readouterr().err
    assert main(["--results", results, "--report", str(tmp_path)]) == 1
    assert "no results yet" in capsys.readouterr().err
    assert main(["pocket", "--results", results, "--seeds", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("quick_classifier")
def test_a_study_of_a_model(
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped by the clock, and gone on with; what cannot be done does not end it."""
    two = resolve_defaults(Sampling(steps=2, sampler_type="dpmpp-2m"), DEFAULTS)
    trials = [
        Trial(part="guidance", sampling=two, diverse=True),
        Trial(part="samplers", sampling=replace(two, sampler_type="k-magic")),
        Trial(part="precisions", sampling=replace(two, steps=3), precision="bf16"),
    ]
    monkeypatch.setattr("benchmarks.sampler_study.__main__.quick_grid", lambda defaults: trials)
    results = tmp_path / "study.jsonl"
    call = [str(tiny_folder("maf")), "--results", str(results), "--groups", "count", "--items", "2"]
    assert main([*call, "--quick", "--minutes", "1e-9"]) == 0
    assert "The time is up." in capsys.readouterr().err
    assert main([*call, "--quick"]) == 0
    log = capsys.readouterr().err
    stored = [result_of(row) for row in read_rows(results)]
    assert [result.trial for result in stored] == trials
    first, impossible, half = (result.report for result in stored)
    assert impossible is None
    assert "k-magic" in stored[1].error
    assert "k-magic" in log
    assert first is not None
    assert half is not None
    assert (first.evaluations, half.evaluations) == (4, 6)
    assert first.diversity is not None


@pytest.mark.slow
def test_a_few_step_student_has_nothing_to_study(
    tiny_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = [str(tiny_folder("turbo")), "--results", str(tmp_path / "s.jsonl"), "--groups", "count"]
    assert main([*call, "--items", "1"]) == 1
    assert "no choice of samplers" in capsys.readouterr().err
