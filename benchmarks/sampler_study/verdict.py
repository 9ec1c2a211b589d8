"""Compare two ways of sampling, measure by measure, with the spread between seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audiox_ext.errors import InputError

from ..quality.report import QualityReport

MIN_SEEDS = 3
Judgement = Literal["within", "better", "worse"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The comparison of two ways of sampling on one measure.

    Attributes:
        measure: Name of the measure.
        base: Mean of the base over its seeds.
        other: Mean of the other over its seeds.
        spread: Largest difference between two runs of the base, at least one case.
        cases: Cases per run; 0 if the measure is not a fraction.
        judgement: Whether the other is within the spread of the base, better or worse.
    """

    measure: str
    base: float
    other: float
    spread: float
    cases: int
    judgement: Judgement


def verdicts(base: Sequence[QualityReport], other: Sequence[QualityReport]) -> list[Verdict]:
    """Compare two ways of sampling on every measure that both have.

    A difference beyond the spread is real. A smaller one may be real too, but showing it takes more items.
    Smaller distances and larger diversity are better.

    Args:
        base: Runs on the same items with several seeds.
        other: Runs on the same items with the other settings.

    Returns:
        One verdict per measure.

    Raises:
        InputError: For fewer than three runs.
    """
    for runs in (base, other):
        if len(runs) < MIN_SEEDS:
            raise InputError(
                f"There are {len(runs)} runs, but the spread between seeds needs at least {MIN_SEEDS}: run "
                "the study with --presets and --seeds 3 or more."
            )
    names = [name for name in base[0].scores if all(name in run.scores for run in (*base, *other))]
    comparisons = []
    for name in names:
        fractions = [[run.scores[name].fraction for run in runs] for runs in (base, other)]
        cases = min(run.scores[name].total for run in base)
        comparisons.append(_verdict(name, *fractions, cases=cases))
    comparisons.append(
        _verdict("spectral distance", *([r.spectral for r in runs] for runs in (base, other)), sign=-1)
    )
    comparisons.append(
        _verdict("Fréchet distance", *([r.frechet for r in runs] for runs in (base, other)), sign=-1)
    )
    varied = [[r.diversity for r in runs if r.diversity is not None] for runs in (base, other)]
    if all(len(values) >= MIN_SEEDS for values in varied):
        comparisons.append(_verdict("diversity", *varied))
    return comparisons


def conclusion(name: str, base: str, comparisons: Sequence[Verdict]) -> str:
    """Sum up verdicts in a sentence.

    Args:
        name: Name of the other way of sampling.
        base: Name of the base.
        comparisons: Verdicts of `verdicts`.

    Returns:
        The sentence.
    """
    worse = [verdict.measure for verdict in comparisons if verdict.judgement == "worse"]
    if not worse:
        return f"{name} is not worse than {base} on any measure by more than the spread between seeds."
    return f"{name} is worse than {base}, by more than the spread between seeds, on: {', '.join(worse)}."


def _verdict(
    measure: str, base: Sequence[float], other: Sequence[float], *, cases: int = 0, sign: int = 1
) -> Verdict:
    """The verdict on one measure; sign -1 where smaller values are better."""
    spread = max(float(np.ptp(base)), 1 / cases if cases else 0.0)
    difference = sign * float(np.mean(other) - np.mean(base))
    judgement: Judgement = "within"
    if abs(difference) > spread + 1e-9:  # tolerance, so that one case counts as within
        judgement = "better" if difference > 0 else "worse"
    return Verdict(
        measure=measure,
        base=float(np.mean(base)),
        other=float(np.mean(other)),
        spread=spread,
        cases=cases,
        judgement=judgement,
    )
