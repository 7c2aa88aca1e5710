"""The numbers of a report."""

from dataclasses import dataclass

import numpy as np
from statsmodels.stats.contingency_tables import mcnemar

from lerac_fast.experiments.report.records import Cell, pairs


@dataclass(frozen=True)
class Comparison:
    """A regime against conventional training, seed by seed."""

    difference: float
    """The mean of the differences of the metric."""
    difference_deviation: float | None
    p_values: tuple[float, ...]
    """Of McNemar's test, one for each seed; none where the task is no classification."""
    overhead: float
    """The median over the seeds of the ratios of the time per epoch, less 1."""

    @property
    def p_value(self) -> float | None:
        """The median over the seeds. They are not pooled: runs on the same test examples are not independent."""
        return float(np.median(self.p_values)) if self.p_values else None


def mean_and_deviation(values: np.ndarray) -> tuple[float, float | None]:
    """The mean, and the standard deviation with N - 1, of two values or more."""
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def compare(cell: Cell, baseline: Cell) -> Comparison | None:
    """None if no seed is common to both."""
    both = pairs(cell, baseline)
    if not both:
        return None
    difference, deviation = mean_and_deviation(np.array([ours.score - theirs.score for ours, theirs in both]))
    p_values = tuple(
        mcnemar_p(ours.correct, theirs.correct)
        for ours, theirs in both
        if ours.correct is not None and theirs.correct is not None
    )
    ratios = [ours.seconds_per_epoch / theirs.seconds_per_epoch for ours, theirs in both]
    return Comparison(difference, deviation, p_values, float(np.median(ratios)) - 1.0)


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
