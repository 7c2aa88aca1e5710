"""The numbers of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar

from lerac_fast.experiments.report.records import Cell, Record, pairs

SIGNIFICANT = 0.05
"""Below which a p-value counts."""


@dataclass(frozen=True)
class Comparison:
    """A regime against conventional training, seed by seed."""

    difference: float
    """The mean of the differences of the metric."""
    difference_deviation: float | None
    p_values: tuple[float, ...]
    """Of McNemar's test, one for each seed; none where there are no equal test examples to be classified."""
    better: int
    """In how many of these it is better, with p < 0.05."""
    worse: int
    overhead: float | None
    """The median over the seeds of the ratios of the time per epoch, less 1; None if on different machines
    or with different numbers of steps."""

    @property
    def p_value(self) -> float | None:
        """Twice the median over the seeds, 1 at most: a p-value, however the tests depend on each other (Rueger, 1978).
        They are not pooled, as runs on the same test examples are not independent."""
        return min(1.0, 2.0 * float(np.median(self.p_values))) if self.p_values else None


def mean_and_deviation(values: np.ndarray) -> tuple[float, float | None]:
    """The mean, and the standard deviation with N - 1, of two values or more."""
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def compare(cell: Cell, baseline: Cell) -> Comparison | None:
    """None if no seed is common to both."""
    both = pairs(cell, baseline)
    if not both:
        return None
    difference, deviation = mean_and_deviation(np.array([ours.score - theirs.score for ours, theirs in both]))
    tests = [
        (mcnemar_p(ours.correct, theirs.correct), ours.score > theirs.score)
        for ours, theirs in both
        if ours.correct is not None and theirs.correct is not None and ours.test_part == theirs.test_part
    ]
    better = sum(p < SIGNIFICANT and is_better for p, is_better in tests)
    worse = sum(p < SIGNIFICANT and not is_better for p, is_better in tests)
    p_values = tuple(p for p, _ in tests)
    return Comparison(difference, deviation, p_values, better, worse, _overhead(both))


def _overhead(both: Sequence[tuple[Record, Record]]) -> float | None:
    if any(ours.machine != theirs.machine or ours.steps != theirs.steps for ours, theirs in both):
        return None
    ratios = []
    for ours, theirs in both:
        common = min(len(ours.epochs), len(theirs.epochs))
        ratios.append(ours.seconds_per_epoch(common) / theirs.seconds_per_epoch(common))
    return float(np.median(ratios)) - 1.0


def mcnemar_p(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The p-value of McNemar's test that two models err equally often on the same examples, bool [N] each.

    Exact (binomial) for fewer than 25 examples on which they differ, else by chi-square with continuity correction.
    """
    table = [
        [int((ours & theirs).sum()), int((ours & ~theirs).sum())],
        [int((~ours & theirs).sum()), int((~ours & ~theirs).sum())],
    ]
    differing = table[0][1] + table[1][0]
    return float(mcnemar(table, exact=differing < 25).pvalue) if differing else 1.0
