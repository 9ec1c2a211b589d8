"""The report of the sampler study: a Markdown page with plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from audiox_ext.errors import InputError
from audiox_ext.files import write_atomically
from audiox_ext.model_info import SamplingDefaults
from audiox_ext.pipeline.settings import PRESETS

from ..measuring import write_text
from ..quality.report import QualityReport
from ..quality.sounds import Sampling
from .grid import BASE, SAME_SCHEDULES, STEPS, WITHOUT_STEPS, resolve_defaults
from .plots import frechet, mean_percentage, plot_cost, plot_guidance, plot_samplers
from .results_file import Result, read_rows, result_of
from .verdict import MIN_SEEDS, conclusion, verdicts

PAGE = "sampler-study.md"
_PICTURES = "images"
_COLUMNS: tuple[tuple[str, Callable[[QualityReport], float | None], str], ...] = (
    ("mean of measures", mean_percentage, "{:.1f} %"),
    ("spectral distance", lambda report: report.spectral, "{:.2f} dB"),
    ("Fréchet distance", frechet, "{:.2f}"),
    ("diversity", lambda report: report.diversity, "{:.3f}"),
    ("evaluations", lambda report: report.evaluations, "{:.0f}"),
    ("seconds", lambda report: report.seconds, "{:.2f}"),
)


def write_report(results: Path, folder: Path) -> list[Path]:
    """Write the page and its plots.

    Args:
        results: File of results.
        folder: Folder for the page; the plots go to a subfolder.

    Returns:
        The paths of the page and of the plots.

    Raises:
        InputError: If the file is empty, or its results cannot be compared.
    """
    rows = read_rows(results)
    if not rows:
        raise InputError(f"{results} holds no results yet: run the study first.")
    subject = rows[-1]["subject"]
    if any(row["subject"] != subject for row in rows):
        raise InputError(f"{results} holds results of different models or items, which cannot be compared.")
    pictures = folder / _PICTURES
    pictures.mkdir(parents=True, exist_ok=True)
    trials = comparable([result_of(row) for row in rows])
    # Other seeds differ by chance.
    same_seed = [result for result in trials if result.report is not None and result.trial.seed == 0]
    plain = [result for result in same_seed if result.trial.precision == "fp32"]
    front = pareto(same_seed)
    defaults = SamplingDefaults(**subject["defaults"])
    base = resolve_defaults(Sampling.of_preset(BASE), defaults)
    guidance = _like(plain, base, "cfg_scale")
    plots = {
        "study-samplers.png": lambda path: plot_samplers(_of_default_schedule(plain, base), path),
        "study-guidance.png": lambda path: plot_guidance(guidance, path),
        "study-cost.png": lambda path: plot_cost(same_seed, front, path),
    }
    parts = [
        _introduction(subject, trials),
        preset_tables(trials, defaults),
        _samplers(plain, base),
        _section("Guidance", guidance, lambda s: f"cfg {s.cfg_scale:g}", "study-guidance.png"),
        _section(
            "Guidance in part of the run",
            _like(plain, base, "guidance_interval"),
            lambda s: "{:g} to {:g}".format(*s.guidance_interval),
        ),
        _section("Reused blocks", _like(plain, base, "reuse_threshold"), lambda s: f"{s.reuse_threshold:g}"),
        _schedules(plain, base),
        _precisions(same_seed, base),
        _cost(front),
        _errors(trials),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    used_plots = [name for name in plots if name in text]
    for name in used_plots:
        with write_atomically(pictures / name) as temporary:
            plots[name](temporary)
    page = folder / PAGE
    write_text(page, text)
    return [page, *(pictures / name for name in used_plots)]


def preset_tables(results: Sequence[Result], defaults: SamplingDefaults) -> str:
    """Format the presets over all their seeds, and compare the cheaper ones with the most expensive.

    Args:
        results: All results.
        defaults: The model's own values.

    Returns:
        A section in Markdown, empty without results of presets.
    """
    runs: dict[str, list[QualityReport]] = {}
    for name in PRESETS:
        sampling = resolve_defaults(Sampling.of_preset(name), defaults)
        runs[name] = [
            r.report
            for r in results
            if r.report is not None and r.trial.sampling == sampling and r.trial.precision == "fp32"
        ]
    measured = {name: reports for name, reports in runs.items() if reports}
    if not measured:
        return ""
    rows = [((name, str(len(reports))), reports) for name, reports in measured.items()]
    lines = ["## Presets", "", *_figures(("preset", "seeds"), rows)]
    base, *others = PRESETS
    for name in others:
        if min(len(runs[base]), len(runs[name])) < MIN_SEEDS:
            lines += ["", f"Comparing {name} with {base} needs at least {MIN_SEEDS} seeds of each."]
            continue
        comparisons = verdicts(runs[base], runs[name])
        lines += ["", f"### {name} against {base}", "", conclusion(name, base, comparisons), ""]
        lines.append(_head("measure", base, name, "spread of " + base, "verdict"))
        for v in comparisons:
            figures = (f"{100 * f:.1f} %" if v.cases else f"{f:.3g}" for f in (v.base, v.other, v.spread))
            lines.append(_line(v.measure, *figures, v.judgement))
    return "\n".join(lines)


def pareto(results: Iterable[Result]) -> list[Result]:
    """Select the results that no cheaper result matches in the mean of the measures.

    Args:
        results: All results.

    Returns:
        The selected results, the cheapest first.
    """
    front: list[Result] = []
    costs = [(r.report.evaluations or 0.0, -r.report.mean, r) for r in results if r.report is not None]
    for _, loss, result in sorted(costs, key=lambda cost: cost[:2]):
        if not front or front[-1].report is None or -loss > front[-1].report.mean:
            front.append(result)
    return front


def comparable(results: Sequence[Result]) -> list[Result]:
    """Remove the times if the results come from different devices.

    Args:
        results: All results.

    Returns:
        The results, without times in that case.
    """
    if len({result.device for result in results}) < 2:
        return list(results)
    return [r if r.report is None else replace(r, report=replace(r.report, seconds=None)) for r in results]


def _introduction(subject: dict[str, Any], results: Sequence[Result]) -> str:
    devices = " and ".join(sorted({result.device for result in results}))
    origin = (
        f"Written by `python -m benchmarks.sampler_study`. Model: {subject['model']} (weights "
        f"{subject['weights']}), on {devices}: {len(results)} settings, each with "
        f"{subject['items']} held-out items in each of {len(subject['groups'])} groups. "
        "[quality.md](quality.md#what-is-measured) explains the measures."
    )
    timed = any(result.report is not None and result.report.seconds is not None for result in results)
    seconds = " Seconds are per sound, including prompts and decoding." if timed else ""
    legend = (
        f"One evaluation is one pass through the network for one sound; a guided step takes two.{seconds} "
        f"Unless stated otherwise, a row is the preset {BASE} with seed 0 and one setting changed. The table "
        "of presets shows how much results vary with the seed alone. Fréchet distance and diversity depend "
        "on the features of the classifier: compare them only within one study."
    )
    return f"# Samplers, steps and guidance, measured\n\n{origin}\n\n{legend}"


def _like(results: Iterable[Result], base: Sampling, *changed: str) -> list[Result]:
    """The results that differ from the base only in these settings, sorted by them."""
    fixed = {name: value for name, value in vars(base).items() if name not in changed}
    matching = [r for r in results if fixed.items() <= vars(r.trial.sampling).items()]
    return sorted(matching, key=lambda r: [getattr(r.trial.sampling, name) for name in changed])


def _of_default_schedule(results: Iterable[Result], base: Sampling) -> list[Result]:
    return _like(results, base, "sampler_type", "steps")


def _samplers(results: Sequence[Result], base: Sampling) -> str:
    chosen = _of_default_schedule(results, base)
    rows = [(str(r.trial.sampling.sampler_type), r) for r in chosen]
    tables = [
        f"{label}:\n\n{_grid('sampler', rows, value, form)}"
        for label, value, form in (_COLUMNS[0], _COLUMNS[2])
    ]
    note = f"Columns are numbers of steps. {' and '.join(WITHOUT_STEPS)} chooses its own number."
    return "\n\n".join(
        ["## Samplers", _picture("quality against steps", "study-samplers.png"), note, *tables]
    )


def _schedules(results: Sequence[Result], base: Sampling) -> str:
    matching = _like(results, base, "sampler_type", "steps", "schedule")
    with_schedules = {
        str(r.trial.sampling.sampler_type) for r in matching if r.trial.sampling.schedule != base.schedule
    }
    rows = [
        (f"{r.trial.sampling.sampler_type}, {r.trial.sampling.schedule}", r)
        for r in sorted(matching, key=lambda r: (r.trial.sampling.sampler_type, r.trial.sampling.schedule))
        if r.trial.sampling.sampler_type in with_schedules
    ]
    if not rows:
        return ""
    same = "; ".join(f"{name} equals {other}" for name, other in SAME_SCHEDULES.items())
    label, value, form = _COLUMNS[0]
    return f"## Schedules\n\n{label}; {same}.\n\n{_grid('sampler, schedule', rows, value, form)}"


def _precisions(results: Sequence[Result], base: Sampling) -> str:
    matching = [r for r in results if r.trial.sampling == base]
    if len(matching) < 2:
        return ""
    rows = [((r.trial.precision,), [r.report]) for r in matching if r.report is not None]
    return "\n".join(["## Precision", "", *_figures(("precision",), rows)])


def _section(
    title: str, results: Sequence[Result], name: Callable[[Sampling], str], picture: str = ""
) -> str:
    """A section with one row per setting, empty if there is only the base."""
    if len(results) < 2:
        return ""
    rows = [((name(r.trial.sampling),), [r.report]) for r in results if r.report is not None]
    plot = [_picture(title.lower(), picture), ""] if picture else []
    return "\n".join([f"## {title}", "", *plot, *_figures((title.lower(),), rows)])


def _cost(front: Sequence[Result]) -> str:
    lines = ["## Cost and quality", "", _picture("quality against cost", "study-cost.png"), ""]
    lines += ["The best settings for their cost: none that costs the same or less scores as high.", ""]
    rows = [((r.trial.label,), [r.report]) for r in front if r.report is not None]
    return "\n".join([*lines, *_figures(("setting",), rows)])


def _errors(results: Sequence[Result]) -> str:
    failed = [r for r in results if r.report is None]
    if not failed:
        return ""
    lines = [f"- {r.trial.label}: {' '.join(r.error.split())[:200]}" for r in failed]
    return "\n".join(["## Settings that failed", "", *lines])


def _grid(
    title: str, rows: Sequence[tuple[str, Result]], value: Callable[[QualityReport], float | None], form: str
) -> str:
    """A table with one row per name and one column per number of steps."""
    cells: dict[str, dict[int, str]] = {}
    for name, result in rows:
        if result.report is not None:
            cells.setdefault(name, {})[result.trial.sampling.steps or 0] = _cell(value(result.report), form)
    lines = [_line(name, *(row.get(steps, "") for steps in STEPS)) for name, row in cells.items()]
    return "\n".join([_head(title, *map(str, STEPS)), *lines])


def _figures(
    titles: Sequence[str], rows: Sequence[tuple[Sequence[str], Sequence[QualityReport]]]
) -> list[str]:
    """The lines of a table: the names of each row, then the means over its runs.

    Columns without any measurement are left out.
    """
    lines = [list(titles), *(list(names) for names, _ in rows)]
    for label, value, form in _COLUMNS:
        cells = [_mean(value, form, reports) for _, reports in rows]
        if any(cells):
            for line, cell in zip(lines, (label, *cells), strict=True):
                line.append(cell)
    return [_head(*lines[0]), *(_line(*line) for line in lines[1:])]


def _mean(value: Callable[[QualityReport], float | None], form: str, reports: Sequence[QualityReport]) -> str:
    values = [measurement for report in reports if (measurement := value(report)) is not None]
    return _cell(float(np.mean(values)) if values else None, form)


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _picture(alt: str, name: str) -> str:
    return f"![{alt}]({_PICTURES}/{name})"


def _head(*names: str) -> str:
    return f"{_line(*names)}\n{_line(*['---'] * len(names))}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
