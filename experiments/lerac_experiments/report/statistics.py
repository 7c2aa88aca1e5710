"""The numbers of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, t, ttest_1samp

from lerac_experiments.report.records import Cell, Record, pairs

SIGNIFICANT = 0.05
"""Below which a p-value counts."""

CONFIDENCE = 0.95
"""Of intervals."""


@dataclass(frozen=True)
class Overhead:
    """The time per epoch against conventional training, as a ratio less 1: its estimate, and its interval."""

    estimate: float
    low: float
    high: float

    @property
    def is_noise(self) -> bool:
        """Whether the ratio may as well be 1."""
        return self.low <= 0.0 <= self.high


@dataclass(frozen=True)
class Comparison:
    """A regime against conventional training, seed by seed."""

    difference: float
    """The mean of the differences of the metric."""
    difference_deviation: float | None
    seeds_p: float | None
    """Whether other seeds may go the other way: Student's paired t-test of the differences. None for a single seed, or
    where the differences are all the same."""
    mcnemar_p: float | None
    """Whether other test examples may go the other way, over all seeds; None where no equal ones are classified."""
    better: int
    """In how many seeds it is better, with p < 0.05 of McNemar's test."""
    worse: int
    overhead: Overhead | None
    """None if on different machines, with different numbers of steps, or of a single seed."""

    @property
    def p_value(self) -> float | None:
        """The larger of the two: that the regimes differ on other seeds and on other examples is to be believed where
        both are small (the intersection-union test, Berger, 1982). None where nothing is known of other seeds."""
        return None if self.seeds_p is None else max(self.seeds_p, self.mcnemar_p or 0.0)


def mean_and_deviation(values: np.ndarray) -> tuple[float, float | None]:
    """The mean, and the standard deviation with N - 1, of two values or more."""
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else None


def compare(cell: Cell, baseline: Cell) -> Comparison | None:
    """None if no seed is common to both."""
    both = pairs(cell, baseline)
    if not both:
        return None
    differences = np.array([ours.score - theirs.score for ours, theirs in both])
    difference, deviation = mean_and_deviation(differences)
    gains = [(ours.test_part, gained) for ours, theirs in both if (gained := _gains(ours, theirs)) is not None]
    significant = [int(gained.sum()) for _, gained in gains if mcnemar_p([gained]) < SIGNIFICANT]
    # Runs on the same test examples are not independent: what counts is what each example brings over all of them.
    parts = dict.fromkeys(part for part, _ in gains)
    by_example = [np.sum([gained for of, gained in gains if of == part], axis=0) for part in parts]
    return Comparison(
        difference,
        deviation,
        paired_t_p(differences),
        mcnemar_p(by_example) if gains else None,
        better=sum(gained > 0 for gained in significant),
        worse=sum(gained < 0 for gained in significant),
        overhead=_overhead(both),
    )


def _gains(ours: Record, theirs: Record) -> np.ndarray | None:
    """Of each test example: 1 where ours alone classifies it correctly, -1 where theirs alone does, else 0."""
    if ours.correct is None or theirs.correct is None or ours.test_part != theirs.test_part:
        return None
    gains: np.ndarray = ours.correct.astype(int) - theirs.correct.astype(int)
    return gains


def mcnemar_p(gains: Sequence[np.ndarray]) -> float:
    """The p-value, two-sided and exact, that two ways to train err equally often on examples like these.

    Of one run each it is McNemar's test (1947), by the binomial distribution. Of several it is the same test with
    examples for units, as for clusters of matched pairs (Durkalski et al., Statistics in Medicine 22, 2003): if the two
    do not differ, what they gain on an example over all runs may as well have the other sign. Gains and losses cancel,
    in an example and among examples.

    Args:
        gains: int [N]: on each example, the runs that only the one way classifies correctly, less those that only the
            other does. An array for each set of test examples.
    """
    signed = np.concatenate(gains)
    sizes = np.abs(signed)
    chances = np.ones(1)  # of the sum of the gains that are above 0, where each sign is a coin toss
    for size in range(1, int(sizes.max(initial=0)) + 1):
        count = int((sizes == size).sum())
        tosses = np.zeros(size * count + 1)
        tosses[::size] = binom.pmf(np.arange(count + 1), count, 0.5)
        chances = np.convolve(chances, tosses)
    gained = int(signed.clip(min=0).sum())
    return min(1.0, 2.0 * float(min(chances[: gained + 1].sum(), chances[gained:].sum())))


def paired_t_p(differences: np.ndarray) -> float | None:
    """The p-value, two-sided, that differences like these are 0 on average. None if they do not tell how they vary."""
    _, deviation = mean_and_deviation(differences)
    return float(ttest_1samp(differences, 0.0).pvalue) if deviation else None


def _overhead(both: Sequence[tuple[Record, Record]]) -> Overhead | None:
    if len(both) < 2 or any(ours.machine != theirs.machine or ours.steps != theirs.steps for ours, theirs in both):
        return None
    ratios = []
    for ours, theirs in both:
        common = min(len(ours.epochs), len(theirs.epochs))
        ratios.append(ours.seconds_per_epoch(common) / theirs.seconds_per_epoch(common))
    mean, deviation = mean_and_deviation(np.log(ratios))
    assert deviation is not None
    reach = t.ppf(0.5 + CONFIDENCE / 2, len(ratios) - 1) * deviation / np.sqrt(len(ratios))
    return Overhead(*(float(np.expm1(log)) for log in (mean, mean - reach, mean + reach)))
