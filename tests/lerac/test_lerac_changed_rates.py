"""Rates that others change while LeRaC runs: factors are taken up, what was set is refused."""

import copy
import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from lerac_fast.lerac._rates import set_lr
from lerac_fast.lerac.schedule import CURVES
from lerac_fast.lerac.scheduler import LeRaC
from tests.lerac.test_lerac_composition import (
    BASE_LR,
    LOWEST,
    STEPS,
    K,
    always,
    assert_close,
    lerac_alone,
    rates,
    reproducible,
    run,
    sgd,
)


@pytest.mark.parametrize("lerac_first", [True, False])
def test_a_rate_set_behind_its_back_is_refused(lerac_first):
    optimizer = sgd()
    schedulers = [LeRaC(optimizer, K, min_lr=LOWEST), LambdaLR(optimizer, lambda step: 0.99**step)]
    schedule = ChainedScheduler(schedulers if lerac_first else schedulers[::-1], optimizer)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"param group 1 .*base_rates\(\)"):
        schedule.step()
    assert max(rates(optimizer)) <= BASE_LR


@reproducible
@given(
    layers=st.integers(2, 5),
    at=st.integers(0, K - 2),
    below=st.floats(1.0, 9.0),
    curve=st.sampled_from(CURVES),
    value=st.one_of(st.floats(1e-12, 1.0), st.integers(0, 4)),
    in_proportion=st.booleans(),
    tensor_lr=st.booleans(),
)
def test_rates_set_to_one_value_are_refused(layers, at, below, curve, value, in_proportion, tensor_lr):
    optimizer = sgd(layers, tensor_lr)
    for number, group in enumerate(optimizer.param_groups):
        group["lr"] = group["lr"] * (1.0 + number if in_proportion else 1.0)
    curriculum = LeRaC(optimizer, K, min_lr=BASE_LR * 10**-below, curve=curve)
    run(optimizer, curriculum.step, at)
    left = rates(optimizer)
    factors = [lr / float(group["initial_lr"]) for lr, group in zip(left, optimizer.param_groups, strict=True)]
    assume(max(factors) > 1.02 * min(factors))  # "decades" may be at its last event
    if isinstance(value, int):  # what a layer has already
        value = factors[value % layers]
    for group in optimizer.param_groups:
        set_lr(group, value * float(group["initial_lr"]))
    before = rates(optimizer), copy.deepcopy(curriculum.state_dict())
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"base_rates\(\)"):
        curriculum.step()
    assert (rates(optimizer), curriculum.state_dict()) == before
    # Put right, it goes on.
    for group, lr in zip(optimizer.param_groups, left, strict=True):
        set_lr(group, lr)
    run(optimizer, curriculum.step, K - at)
    assert rates(optimizer) == [float(group["initial_lr"]) for group in optimizer.param_groups]


@pytest.mark.parametrize("lerac_first", [True, False])
@pytest.mark.parametrize("small", [1e-4, 1e-10])
def test_a_scheduler_that_sets_is_refused_however_small_its_rates(small, lerac_first):
    optimizer = sgd()
    schedulers = [LeRaC(optimizer, K, min_lr=LOWEST), LambdaLR(optimizer, lambda step: small if step else 1.0)]
    schedule = ChainedScheduler(schedulers if lerac_first else schedulers[::-1], optimizer)
    with pytest.raises(RuntimeError, match=r"base_rates\(\)"):
        run(optimizer, schedule.step, 2)


@pytest.mark.parametrize("lrs", [[0.1, 1e-9, 1e-9], [1e-9, 1e-10, 1e-11], [1e-9, 1e-5, 1e-12], [0.1, 3e-5, 1e-10]])
def test_rates_set_to_several_values_are_refused(lrs):
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    run(optimizer, curriculum.step, 2)
    for group, lr in zip(optimizer.param_groups, lrs, strict=True):
        group["lr"] = lr
    with pytest.raises(RuntimeError, match=r"set, not multiplied|too far apart"):
        curriculum.step()


def test_factors_of_their_own_are_up_to_ten_times_apart():
    for deepest, accepted in ((0.1, True), (0.09, False)):
        optimizer = sgd()
        curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
        run(optimizer, curriculum.step, 2)
        optimizer.param_groups[2]["lr"] *= deepest
        if accepted:
            assert run(optimizer, curriculum.step, K)[-1] == pytest.approx([BASE_LR, BASE_LR, BASE_LR * deepest])
        else:
            with pytest.raises(
                RuntimeError, match=r"group 2 times 0\.09 and that of param group 1 times 1: too far apart"
            ):
                curriculum.step()


def factors(most: float) -> st.SearchStrategy[float]:
    """None so small that a rate loses digits, or a comparison of relative errors says nothing."""
    return st.just(0.0) | st.floats(1e-6, most)


LEGITIMATE = st.one_of(
    st.tuples(st.just(StepLR), st.fixed_dictionaries({"step_size": st.integers(1, 9), "gamma": st.floats(1e-4, 1.0)})),
    st.tuples(st.just(ExponentialLR), st.fixed_dictionaries({"gamma": st.floats(0.1, 1.0)})),
    st.tuples(st.just(CosineAnnealingLR), st.fixed_dictionaries({"T_max": st.integers(STEPS, 90)})),
    st.tuples(st.just(CosineAnnealingLR), st.just({"T_max": K // 2})),  # falls to 0 in the middle
    st.tuples(st.just(PolynomialLR), st.fixed_dictionaries({"total_iters": st.integers(2, 60), "power": st.just(2.0)})),
    st.tuples(
        st.just(LinearLR),
        st.fixed_dictionaries({"start_factor": st.floats(1e-3, 1.0), "end_factor": factors(1.0)}),
    ),
    st.tuples(
        st.just(MultiplicativeLR),
        st.fixed_dictionaries({"lr_lambda": st.lists(st.floats(0.33, 1.0).map(always), min_size=4, max_size=4)}),
    ),
)


@reproducible
@given(
    others=st.lists(LEGITIMATE, min_size=1, max_size=2),
    lerac_at=st.integers(0, 2),
    every=st.integers(1, 5),
    base_lrs=st.lists(st.floats(1e-4, 1.0), min_size=4, max_size=4),
    below=st.floats(0.0, 9.0),
    curve=st.sampled_from(CURVES),
    tensor_lr=st.booleans(),
)
@pytest.mark.filterwarnings("ignore:LeRaC has nothing to do")
def test_schedulers_that_multiply_raise_no_false_alarm(others, lerac_at, every, base_lrs, below, curve, tensor_lr):
    # At 0, where there are no multiples, torch's cosine adds. Two of them add twice, and rise beyond the base rate.
    assume(sum(options.get("T_max") == K // 2 for _, options in others) < 2)

    def build(with_lerac):
        optimizer = sgd(4, tensor_lr)
        for group, lr in zip(optimizer.param_groups, base_lrs, strict=True):
            group["lr"] = torch.tensor(lr) if tensor_lr else lr
        steps = []
        for position in range(3):
            if with_lerac and position == min(lerac_at, len(others)):
                steps.append((1, LeRaC(optimizer, K, min_lr=max(base_lrs) * 10**-below, curve=curve).step))
            if position < len(others):
                kind, options = others[position]
                steps.append((every, kind(optimizer, **options).step))
        count = itertools.count(1)

        def step():
            number = next(count)
            for interval, one in steps:
                if number % interval == 0:
                    one()

        return optimizer, step

    table = run(*build(with_lerac=True), K + 2)
    assert_close(table[K:], run(*build(with_lerac=False), K + 2)[K:], rel=1e-4 if tensor_lr else 1e-9)


@reproducible
@given(st.lists(factors(2.0), min_size=3, max_size=3), st.floats(0.9, 1.1))
def test_schedulers_that_set_by_group_raise_no_false_alarm_on_base_rates(factors, change):
    optimizer = sgd()
    other = LambdaLR(optimizer, [lambda step, factor=factor: factor * change**step for factor in factors])
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)

    def step():
        with curriculum.base_rates():
            other.step()
        curriculum.step()

    table = run(optimizer, step)
    assert_close(table[-1:], [[BASE_LR * factor * change**STEPS for factor in factors]])


def test_an_optimizer_restored_without_its_curriculum_is_refused():
    optimizer = sgd()
    run(optimizer, LeRaC(optimizer, K, min_lr=LOWEST).step, 10)
    state = optimizer.state_dict()
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    optimizer.load_state_dict(state)
    optimizer.step()
    with pytest.raises(RuntimeError, match="load LeRaC's state as well"):
        curriculum.step()


def test_plateau_ignores_metrics_before_k():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=1)
    table = []
    for _ in range(6):  # epochs of 5 steps, with a loss that never improves
        table.append(run(optimizer, curriculum.step, 5)[-1])
        if curriculum.finished:
            plateau.step(1.0)
    assert_close(table[:4], lerac_alone()[5 : K + 1 : 5])
    assert table[3:6] == [[BASE_LR] * 3] * 3
    assert rates(optimizer) == [BASE_LR * 0.1] * 3  # the third metric after k is the second bad one


def test_plateau_during_the_curriculum_is_taken_for_a_factor():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=0, eps=0.0)
    run(optimizer, curriculum.step, 5)
    plateau.step(1.0)
    plateau.step(1.0)
    assert_close([run(optimizer, curriculum.step, K - 5)[-1]], [[BASE_LR * 0.1] * 3])


def test_a_layer_at_its_base_rate_may_be_set():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    optimizer.param_groups[0]["lr"] = 0.7
    assert run(optimizer, curriculum.step, K)[-1] == [0.7, BASE_LR, BASE_LR]


def test_a_layer_at_zero_may_be_set():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, initial_lrs=[BASE_LR, 0.0, 0.0], curve="linear")
    optimizer.param_groups[2]["lr"] = 0.03
    assert run(optimizer, curriculum.step, K)[-1] == [BASE_LR, BASE_LR, 0.03]


@pytest.mark.parametrize("curve", ["linear", "cosine"])
def test_factors_reach_a_rate_that_started_at_zero(curve):
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, initial_lrs=[BASE_LR, BASE_LR / 2, 0.0], curve=curve)
    schedule = ChainedScheduler([curriculum, ExponentialLR(optimizer, gamma=0.9)], optimizer)
    table = run(optimizer, schedule.step, K + 5)
    assert_close(table[K:], [[BASE_LR * 0.9**step] * 3 for step in range(K, K + 6)])
