"""The plots of the sampler study, drawn by matplotlib as PNG."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from audiox_ext.errors import InputError

from ..quality.report import QualityReport
from .grid import STEPS
from .results_file import Result

_MARKERS = "osv^D<>Pp*Xhd"
Value = Callable[[QualityReport], float]


def mean_percentage(report: QualityReport) -> float:
    """Return the mean of the measures, in percent.

    Args:
        report: Measurements of one trial.
    """
    return 100 * report.mean


def frechet(report: QualityReport) -> float:
    """Return the Fréchet distance to the data.

    Args:
        report: Measurements of one trial.
    """
    return report.frechet


_EVALUATION_TICKS = (10, 20, 50, 100, 200, 500, 1000)
PANELS: tuple[tuple[str, Value], ...] = (
    ("mean of the measures, %", mean_percentage),
    ("Fréchet distance to data", frechet),
)


def plot_samplers(results: Iterable[Result], path: Path) -> None:
    """Plot quality against steps, one line per sampler.

    Args:
        results: Results of one seed and one schedule.
        path: File to write.
    """
    lines: dict[str, list[Result]] = {}
    for result in results:
        lines.setdefault(str(result.trial.sampling.sampler_type), []).append(result)
    figure = _figure((11, 4.4))
    panels = figure.subplots(1, 2)
    colors = _colors(len(lines))
    for panel, (label, value) in zip(panels, PANELS, strict=True):
        for index, (name, group) in enumerate(sorted(lines.items())):
            points = sorted((r.trial.sampling.steps or 0, value(r.report)) for r in group if r.report)
            style = {"marker": _MARKERS[index % len(_MARKERS)], "color": colors[index], "ms": 5, "lw": 1.2}
            panel.plot(*zip(*points, strict=True), label=name, **style)
        panel.set(xlabel="steps", ylabel=label, xscale="log", xticks=STEPS, xticklabels=STEPS)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=110)


def plot_guidance(results: Iterable[Result], path: Path) -> None:
    """Plot quality and diversity against the guidance scale.

    Args:
        results: Results that differ only in the guidance scale.
        path: File to write.
    """
    ordered = sorted(results, key=lambda result: result.trial.sampling.cfg_scale or 0)
    measures: list[tuple[str, Callable[[QualityReport], float | None]]] = [*PANELS]
    measures.append(("diversity", lambda report: report.diversity))
    figure = _figure((11, 3.4))
    for panel, (label, value) in zip(figure.subplots(1, 3), measures, strict=True):
        points = [
            (r.trial.sampling.cfg_scale, measurement)
            for r in ordered
            if r.report is not None and (measurement := value(r.report)) is not None
        ]
        if points:
            panel.plot(*zip(*points, strict=True), marker="o")
        panel.set(xlabel="cfg", ylabel=label)
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def plot_cost(results: Sequence[Result], front: Sequence[Result], path: Path) -> None:
    """Plot quality against evaluations of the network.

    Args:
        results: All results.
        front: Results that no cheaper result matches.
        path: File to write.
    """
    figure = _figure((7, 4.4))
    panel = figure.subplots()
    for group, style in (
        (results, {"ls": "", "marker": "o", "ms": 4, "alpha": 0.4, "label": "a setting"}),
        (front, {"marker": "o", "ms": 5, "drawstyle": "steps-post", "label": "best at its cost"}),
    ):
        points = [(r.report.evaluations, mean_percentage(r.report)) for r in group if r.report is not None]
        if points:
            panel.plot(*zip(*sorted(points), strict=True), **style)
    panel.set(xlabel="network evaluations per sound", ylabel=PANELS[0][0], xscale="log")
    panel.set(xticks=_EVALUATION_TICKS, xticklabels=_EVALUATION_TICKS)
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=110)


def _figure(size: tuple[float, float]) -> Any:
    """An empty figure; size in inches."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "The plots of the report need matplotlib, which is not installed: pip install matplotlib"
        ) from None
    return Figure(figsize=size, layout="constrained")


def _colors(count: int) -> list[Any]:
    """Distinct colors for lines."""
    import matplotlib

    palette = matplotlib.colormaps["tab20" if count > 10 else "tab10"]
    return [palette(index % palette.N) for index in range(count)]
