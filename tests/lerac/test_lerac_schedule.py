"""The schedule of LeRaC as pure functions: its curves and its spacing in depth against the reference."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lerac_fast.lerac.schedule import CURVES, decade_layout, geometric_ratios, lerac_factors, rate_table
from tests.reference import lerac as reference

reproducible = settings(derandomize=True)

SMOOTH = {
    "exponential": reference.eq8,
    "linear": reference.linear,
    "logarithmic": reference.logarithmic,
    "cosine": reference.cosine,
}


def test_every_curve_has_a_reference():
    assert {*SMOOTH, "decades"} == {*CURVES}  # decades follow the authors' code, below


@reproducible
@given(
    k=st.integers(1, 300),
    base_lr=st.floats(1e-5, 10.0),
    decades_below=st.lists(st.floats(0.0, 9.0), min_size=1, max_size=6),
    curve=st.sampled_from(sorted(SMOOTH)),
)
def test_factors_match_the_reference(k, base_lr, decades_below, curve):
    initial_lrs = [base_lr * 10.0**-below for below in decades_below]
    ratios = [initial / base_lr for initial in initial_lrs]
    for step, row in enumerate(rate_table([base_lr] * len(ratios), ratios, range(k + 1), k, curve)):
        expected = [SMOOTH[curve](initial, base_lr, step, k) for initial in initial_lrs]
        assert row == pytest.approx(expected, rel=1e-12, abs=0)


def test_base_c_of_eq8_cancels():
    for c in (2.0, math.e, 10.0):
        assert lerac_factors([1e-7], 3, 7)[0] * 0.1 == pytest.approx(reference.eq8(1e-8, 0.1, 3, 7, c), rel=1e-12)


@reproducible
@given(
    k=st.integers(1, 500),
    ratios=st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=5),
    curve=st.sampled_from(CURVES),
)
def test_every_curve_rises_from_its_ratio_to_exactly_one(k, ratios, curve):
    table = [lerac_factors(ratios, step, k, curve) for step in range(k + 2)]
    assert table[0] == pytest.approx(ratios, rel=1e-15, abs=0)
    assert table[k] == table[k + 1] == [1.0] * len(ratios)
    for before, after in pairwise(table):  # the margin is the rounding of the power
        assert all(a <= b * (1 + 1e-15) and b <= 1.0 for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("steps_per_event", [1, 4, 391])
def test_decades_follow_the_authors_code(steps_per_event):
    initial_lrs = decade_layout(0.1, 8, 1e-8, 1e-8)
    events = 7
    ratios = [initial / 0.1 for initial in initial_lrs]
    steps = range(events * steps_per_event + 1)
    table = rate_table([0.1] * 10, ratios, steps, events * steps_per_event, "decades")
    for step in steps:
        expected = [reference.decades(initial, 0.1, step // steps_per_event) for initial in initial_lrs]
        assert table[step] == pytest.approx(expected, rel=1e-12, abs=0)


def test_decades_that_are_not_whole_take_a_shorter_last_event():
    # DenseNet-121 goes from 1e-4 down to 5e-8: 3.3 decades, so 4 events.
    assert [lerac_factors([5e-4], step, 4, "decades")[0] for step in range(5)] == pytest.approx(
        [5e-4, 5e-3, 5e-2, 0.5, 1.0], rel=1e-12, abs=0
    )


def test_decades_count_alike_from_a_float32_base_rate():
    ratio = 1e-8 / float(torch.tensor(0.1))
    assert ratio < 1e-7
    ends_of_events = [lerac_factors([ratio], step, 70, "decades")[0] for step in range(9, 70, 10)]
    assert ends_of_events == pytest.approx([1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1], rel=1e-6)


@reproducible
@given(st.integers(2, 40), st.floats(1e-9, 1e-2), st.floats(1e-2, 1.0))
def test_geometric_spacing_matches_the_reference(depths, lowest, highest):
    ratios = geometric_ratios(range(depths), lowest, highest)
    expected = [reference.spaced_in_depth(highest, lowest, depth, depths) for depth in range(1, depths + 1)]
    assert ratios == pytest.approx(expected, rel=1e-12, abs=0)
    assert (ratios[0], ratios[-1]) == (highest, lowest)
