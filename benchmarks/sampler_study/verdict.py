"""Whether one way of sampling is as good as another, measure by measure, by what other seeds change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audiox_ext.errors import InputError

from ..quality.report import QualityReport

LEAST_SEEDS = 3
Judgement = Literal["within", "better", "worse"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """base, other: means over seeds. spread: by how much two runs of the base differ at most, or one case
    where that is more. cases: of one run, 0 for what is no share.
    """

    measure: str
    base: float
    other: float
    spread: float
    cases: int
    judgement: Judgement


def verdicts(base: Sequence[QualityReport], other: Sequence[QualityReport]) -> list[Verdict]:
    """For every measure that both have: within the spread of the base, or beyond it to the better or worse.

    Each is runs on the same items with several seeds. The spread grows with fewer cases, so that few items
    tell little: what is beyond it is different, what is within it may still differ by less. Of the distances
    the smaller is the better, of the diversity the larger. Raises InputError for less than three runs.
    """
    for runs in (base, other):
        if len(runs) < LEAST_SEEDS:
            raise InputError(
                f"There are {len(runs)} runs, and it takes {LEAST_SEEDS} to see what seeds change: run the "
                "study with --presets, and --seeds 3 or more."
            )
    names = [name for name in base[0].scores if all(name in run.scores for run in (*base, *other))]
    found = []
    for name in names:
        shares = [[run.scores[name].fraction for run in runs] for runs in (base, other)]
        cases = min(run.scores[name].total for run in base)
        found.append(_verdict(name, *shares, cases=cases))
    found.append(
        _verdict("spectral distance", *([r.spectral for r in runs] for runs in (base, other)), sign=-1)
    )
    found.append(
        _verdict("Fréchet distance", *([r.frechet for r in runs] for runs in (base, other)), sign=-1)
    )
    varied = [[r.diversity for r in runs if r.diversity is not None] for runs in (base, other)]
    if all(len(values) >= LEAST_SEEDS for values in varied):
        found.append(_verdict("diversity", *varied))
    return found


def conclusion(name: str, base: str, found: Sequence[Verdict]) -> str:
    """A sentence."""
    worse = [verdict.measure for verdict in found if verdict.judgement == "worse"]
    if not worse:
        return f"{name} is on no measure worse than {base} by more than another seed changes it."
    return f"{name} is worse than {base}, by more than another seed changes it, on: {', '.join(worse)}."


def _verdict(
    measure: str, base: Sequence[float], other: Sequence[float], *, cases: int = 0, sign: int = 1
) -> Verdict:
    """sign: -1 where less is better."""
    spread = max(float(np.ptp(base)), 1 / cases if cases else 0.0)
    difference = sign * float(np.mean(other) - np.mean(base))
    judgement: Judgement = "within"
    if abs(difference) > spread + 1e-9:  # one case is within, whatever rounding makes of it
        judgement = "better" if difference > 0 else "worse"
    return Verdict(
        measure=measure,
        base=float(np.mean(base)),
        other=float(np.mean(other)),
        spread=spread,
        cases=cases,
        judgement=judgement,
    )
