"""The pictures of a study of samplers, PNG by matplotlib."""

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


def mean_share(report: QualityReport) -> float:
    """Per cent."""
    return 100 * report.mean


def frechet(report: QualityReport) -> float:
    """The distance to data."""
    return report.frechet


_EVALUATIONS = (10, 20, 50, 100, 200, 500, 1000)  # marked on the axis
PANELS: tuple[tuple[str, Value], ...] = (
    ("mean of the measures, %", mean_share),
    ("Fréchet distance to data", frechet),
)


def plot_samplers(results: Iterable[Result], path: Path) -> None:
    """Quality against steps, a line a sampler. results: of one seed, one schedule."""
    lines: dict[str, list[Result]] = {}
    for result in results:
        lines.setdefault(str(result.trial.sampling.sampler_type), []).append(result)
    figure = _figure((11, 4.4))
    panels = figure.subplots(1, 2)
    colours = _colours(len(lines))
    for panel, (label, value) in zip(panels, PANELS, strict=True):
        for place, (name, those) in enumerate(sorted(lines.items())):
            points = sorted((r.trial.sampling.steps or 0, value(r.report)) for r in those if r.report)
            look = {"marker": _MARKERS[place % len(_MARKERS)], "color": colours[place], "ms": 5, "lw": 1.2}
            panel.plot(*zip(*points, strict=True), label=name, **look)
        panel.set(xlabel="steps", ylabel=label, xscale="log", xticks=STEPS, xticklabels=STEPS)
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    figure.savefig(path, dpi=110)


def plot_guidance(results: Iterable[Result], path: Path) -> None:
    """What the scale of the guidance does, also to the diversity."""
    those = sorted(results, key=lambda result: result.trial.sampling.cfg_scale or 0)
    panels_of: list[tuple[str, Callable[[QualityReport], float | None]]] = [*PANELS]
    panels_of.append(("diversity", lambda report: report.diversity))
    figure = _figure((11, 3.4))
    for panel, (label, value) in zip(figure.subplots(1, 3), panels_of, strict=True):
        points = [
            (r.trial.sampling.cfg_scale, found)
            for r in those
            if r.report is not None and (found := value(r.report)) is not None
        ]
        if points:
            panel.plot(*zip(*points, strict=True), marker="o")
        panel.set(xlabel="cfg", ylabel=label)
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def plot_cost(results: Sequence[Result], front: Sequence[Result], path: Path) -> None:
    """Quality against passes through the network; the front is what nothing cheaper is as good as."""
    figure = _figure((7, 4.4))
    panel = figure.subplots()
    for those, look in (
        (results, {"ls": "", "marker": "o", "ms": 4, "alpha": 0.4, "label": "a setting"}),
        (front, {"marker": "o", "ms": 5, "drawstyle": "steps-post", "label": "best at its cost"}),
    ):
        points = [(r.report.evaluations, mean_share(r.report)) for r in those if r.report is not None]
        if points:
            panel.plot(*zip(*sorted(points), strict=True), **look)
    panel.set(xlabel="network evaluations per sound", ylabel=PANELS[0][0], xscale="log")
    panel.set(xticks=_EVALUATIONS, xticklabels=_EVALUATIONS)
    panel.minorticks_off()
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=110)


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "The pictures of the report need matplotlib, which is not installed: pip install matplotlib"
        ) from None
    return Figure(figsize=size, layout="constrained")


def _colours(count: int) -> list[Any]:
    import matplotlib

    wheel = matplotlib.colormaps["tab20" if count > 10 else "tab10"]
    return [wheel(place % wheel.N) for place in range(count)]
