"""The statistics of reports."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from experiments.tests.report.samples import record
from experiments.tests.trials.helpers import digits_trial
from lerac_experiments.report.records import cells_of
from lerac_experiments.report.statistics import Comparison, compare, mcnemar_p, paired_t_p
from lerac_experiments.report.tables import (
    time_table,
)


def compared(ours: list[list[int]], theirs: list[list[int]], **of_ours: Any) -> Comparison:
    """LeRaC against conventional training: for each seed, which test examples are classified correctly."""
    conventional = [record(digits_trial(seed=seed), correct) for seed, correct in enumerate(theirs)]
    lerac = [record(digits_trial("lerac", seed), correct, **of_ours) for seed, correct in enumerate(ours)]
    baseline, cell = cells_of([*conventional, *lerac])
    result = compare(cell, baseline)
    assert result is not None
    return result


def gaining(points: int, of: int = 1000) -> tuple[list[int], list[int]]:
    """Two runs, the first of which classifies so many examples more correctly; they differ on 200."""
    gained = 100 + points // 2
    return [1] * gained + [0] * (200 - gained) + [1] * (of - 200), [0] * gained + [1] * (of - gained)


@pytest.mark.parametrize(
    ("ours_only", "theirs_only"), [(0, 0), (1, 0), (5, 0), (3, 3), (3, 4), (40, 20), (1000, 800), (900, 5000)]
)
def test_mcnemar_of_one_seed_is_binomial(ours_only: int, theirs_only: int) -> None:
    gains = np.array([1] * ours_only + [-1] * theirs_only + [0] * 13)
    differing = ours_only + theirs_only
    expected = binomtest(ours_only, differing).pvalue if differing else 1.0
    assert mcnemar_p([gains]) == pytest.approx(expected, rel=1e-6, abs=1e-15)
    assert mcnemar_p([-gains]) == pytest.approx(mcnemar_p([gains]))


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_of_several_seeds_tries_all_signs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gains = generator.integers(-3, 4, size=10)
    signs = np.array([[1 if number >> bit & 1 else -1 for bit in range(10)] for number in range(2**10)])
    sums = (signs * np.abs(gains)).sum(axis=1)
    expected = min(1.0, 2 * min((sums >= gains.sum()).mean(), (sums <= gains.sum()).mean()))
    assert mcnemar_p([gains[:4], gains[4:]]) == pytest.approx(expected)


def test_runs_on_the_same_examples_are_not_independent() -> None:
    """Ten seeds that go the same way on every example say no more of other examples than one does."""
    ours, theirs = gaining(20)
    alone = compared([ours], [theirs])
    assert compared([ours] * 10, [theirs] * 10).mcnemar_p == pytest.approx(alone.mcnemar_p)
    assert alone.mcnemar_p == pytest.approx(0.178964, rel=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_seeds_that_contradict_each_other_are_no_evidence(sign: int) -> None:
    """+2.0, +9.7 and -10.7 points, and their mirror image."""
    ours, theirs = zip(*(gaining(sign * points) for points in (20, 96, -106)), strict=True)
    result = compared(list(ours), list(theirs))
    assert (result.better, result.worse) == (1, 1)
    assert result.difference == pytest.approx(sign * 10 / 3000)
    assert result.mcnemar_p is not None
    assert result.mcnemar_p > 0.2
    assert result.p_value is not None
    assert result.p_value > 0.9


def test_what_other_seeds_may_undo_is_not_significant() -> None:
    """However many test examples there are: seeds vary by more than the mean difference."""
    ours, theirs = zip(*(gaining(points) for points in (20, 96, -6)), strict=True)
    result = compared(list(ours), list(theirs))
    assert result.mcnemar_p is not None
    assert result.mcnemar_p < 0.01
    assert result.seeds_p == pytest.approx(0.353, rel=1e-2)
    assert result.p_value == result.seeds_p


def test_what_all_seeds_agree_on_is_significant() -> None:
    ours, theirs = zip(*(gaining(points) for points in (-60, -64, -62)), strict=True)
    result = compared(list(ours), list(theirs))
    assert (result.better, result.worse) == (0, 3)
    assert result.p_value is not None
    assert result.p_value < 0.001


def test_a_single_seed_is_not_doubled_and_says_nothing_of_others() -> None:
    ours, theirs = gaining(30)
    result = compared([ours], [theirs])
    assert result.mcnemar_p == pytest.approx(mcnemar_p([np.array(ours) - np.array(theirs)]))
    assert result.seeds_p is None
    assert result.p_value is None
    assert result.overhead is None


def test_paired_t() -> None:
    """t = 2 with 3 degrees of freedom."""
    assert paired_t_p(np.array([0.0, 1.0, 1.0, 2.0]) * 3**0.5) == pytest.approx(0.091721, rel=1e-4)
    assert paired_t_p(np.array([0.25, 0.25])) is None


def test_regimes_are_compared_seed_by_seed() -> None:
    conventional = [
        record(digits_trial(seed=0), [1, 0, 0, 0], 1.0),
        record(digits_trial(seed=1), [1, 1, 0, 0], 2.0),
        record(digits_trial(seed=2), [1, 1, 1, 1], 1.0),  # without a counterpart
    ]
    lerac = [record(digits_trial("lerac", 1), [1, 1, 1, 0], 2.2), record(digits_trial("lerac", 0), [1, 1, 0, 0], 1.2)]
    baseline, cell = cells_of([*conventional, *lerac])
    assert [r.trial.seed for r in cell.records] == [0, 1]
    result = compare(cell, baseline)
    assert result is not None
    assert result.difference == pytest.approx(0.25)
    assert result.difference_deviation == pytest.approx(0.0)
    assert result.mcnemar_p == 0.5  # one example gained in either seed, on none of which they contradict each other
    assert (result.better, result.worse) == (0, 0)
    other = cells_of([record(digits_trial("lerac", 9), [1])])[0]
    assert compare(other, baseline) is None


def test_an_overhead_that_may_be_noise_is_called_noise() -> None:
    seconds = ((1.0, 1.78), (1.0, 1.09), (1.1, 1.1))  # the mean of the ratios is 1.29
    conventional = [record(digits_trial(seed=seed), [1], theirs) for seed, (theirs, _) in enumerate(seconds)]
    cbs = [record(digits_trial("cbs", seed), [1], ours) for seed, (_, ours) in enumerate(seconds)]
    dear = [record(digits_trial("lerac", seed), [1], 2.0 * theirs) for seed, (theirs, _) in enumerate(seconds)]
    baseline, noisy, twice = cells_of([*conventional, *cbs, *dear])
    of_noisy, of_twice = compare(noisy, baseline), compare(twice, baseline)
    assert of_noisy is not None
    assert of_noisy.overhead is not None
    assert of_noisy.overhead.is_noise
    assert of_twice is not None
    assert of_twice.overhead is not None
    assert not of_twice.overhead.is_noise
    assert of_twice.overhead.estimate == of_twice.overhead.low == pytest.approx(1.0)
    rows = time_table("", [baseline, noisy, twice]).rows
    assert [row[-1] for row in rows] == ["", "within noise (-42.4 to +170.1%)", "+100.0% (+100.0 to +100.0%)"]


def test_other_test_examples_and_machines_are_not_compared() -> None:
    ours, theirs = record(digits_trial("lerac"), [1, 0, 1]), record(digits_trial(), [1, 1])
    ours.content["environment"]["machine"]["threads"] += 1
    baseline, cell = cells_of([theirs, ours])
    result = compare(cell, baseline)
    assert result is not None
    assert result.mcnemar_p is None
    assert result.overhead is None
