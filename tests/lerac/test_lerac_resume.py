"""LeRaC's state: resumed in any order, with other schedulers, from any step; and what is refused instead."""

import copy
import io
import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    MultiplicativeLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from lerac_fast.lerac.schedule import CURVES
from lerac_fast.lerac.scheduler import LeRaC
from tests.lerac.rates import groups_at, rates, run, sgd
from tests.lerac.test_lerac_composition import REPLACES_TENSOR_LR

K = 6
STEPS = 9
LOWEST = 1e-8


def optimizer_of(tensor_lr=False):
    return torch.optim.SGD(groups_at([1, 2, 3]), lr=torch.tensor(0.1) if tensor_lr else 0.1)


def build(tensor_lr=False):
    optimizer = optimizer_of(tensor_lr)
    return optimizer, LeRaC(optimizer, K, min_lr=LOWEST)


def saved(optimizer, *schedulers):
    """The state dicts as they come from a file."""
    file = io.BytesIO()
    torch.save([part.state_dict() for part in (optimizer, *schedulers)], file)
    file.seek(0)
    return torch.load(file, weights_only=True)


class Alone:
    def __init__(self, optimizer):
        self.curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
        self.schedulers = [self.curriculum]

    def step(self):
        for scheduler in self.schedulers:
            scheduler.step()


class Beside(Alone):
    """Two schedulers that are stepped and saved one by one."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.schedulers.append(StepLR(optimizer, 2, 0.5))


class Chained(Alone):
    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.schedulers = [ChainedScheduler([self.curriculum, CosineAnnealingLR(optimizer, 12)], optimizer)]


class ChainedBehind(Alone):
    def __init__(self, optimizer):
        first = CosineAnnealingLR(optimizer, 12)
        super().__init__(optimizer)
        self.schedulers = [ChainedScheduler([first, self.curriculum], optimizer)]


class ChainedByGroup(Alone):
    """What another scheduler did since LeRaC's step differs from group to group."""

    def __init__(self, optimizer):
        super().__init__(optimizer)
        other = MultiplicativeLR(optimizer, [lambda _: 0.9, lambda _: 0.6, lambda _: 1.0])
        self.schedulers = [ChainedScheduler([self.curriculum, other], optimizer)]


class InSequence(Alone):
    def __init__(self, optimizer):
        super().__init__(optimizer)
        self.schedulers = [SequentialLR(optimizer, [self.curriculum, CosineAnnealingLR(optimizer, 9)], [K])]


class AfterAWarmUp(Alone):
    def __init__(self, optimizer):
        warm_up = LinearLR(optimizer, 0.1, total_iters=3)
        super().__init__(optimizer)
        self.schedulers = [SequentialLR(optimizer, [warm_up, self.curriculum], [3])]


class OnBaseRates(Alone):
    def __init__(self, optimizer):
        one_cycle = OneCycleLR(optimizer, 0.1, total_steps=20)
        self.curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
        self.schedulers = [one_cycle, self.curriculum]

    def step(self):
        with self.curriculum.base_rates():
            self.schedulers[0].step()
        self.curriculum.step()


SETUPS = [Alone, Beside, Chained, ChainedBehind, ChainedByGroup, InSequence, AfterAWarmUp, OnBaseRates]
EITHER_LR = pytest.mark.parametrize("tensor_lr", [False, True])
SETUPS_OF_EITHER_LR = [
    pytest.param(
        setup, tensor_lr, marks=REPLACES_TENSOR_LR if tensor_lr and setup in (InSequence, AfterAWarmUp) else ()
    )
    for setup in SETUPS
    for tensor_lr in (False, True)
]


def resumed(order, setup, states, tensor_lr=False):
    """Do in this `order`: build the schedulers (b), load the optimizer (o), load the schedulers (s)."""
    optimizer = optimizer_of(tensor_lr)
    for action in order:
        if action == "b":
            schedule = setup(optimizer)
        elif action == "o":
            optimizer.load_state_dict(states[0])
        else:
            for scheduler, state in zip(schedule.schedulers, states[1:], strict=True):
                scheduler.load_state_dict(state)
    return optimizer, schedule


# In any order


@pytest.mark.parametrize("order", ["bos", "bso", "obs", "bs", "boso", "bsos"])
@pytest.mark.parametrize(("setup", "tensor_lr"), SETUPS_OF_EITHER_LR)
def test_any_order_resumes_to_the_bit(order, setup, tensor_lr):
    optimizer = optimizer_of(tensor_lr)
    schedule = setup(optimizer)
    straight_through, last_lrs, states = [rates(optimizer)], [], []
    for _ in range(STEPS):
        last_lrs.append(schedule.curriculum.get_last_lr())
        states.append(saved(optimizer, *schedule.schedulers))
        straight_through += run(optimizer, schedule, 1)[1:]
    for stop in range(STEPS):
        optimizer, schedule = resumed(order, setup, states[stop], tensor_lr)
        assert schedule.curriculum.get_last_lr() == last_lrs[stop]
        assert run(optimizer, schedule, STEPS - stop) == straight_through[stop:]


@settings(derandomize=True)
@given(
    order=st.sampled_from(["bos", "bso", "obs", "bs"]),
    base_lrs=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=5),
    below=st.floats(0.5, 8.0),
    k=st.integers(1, 12),
    stop=st.integers(0, 14),
    curve=st.sampled_from(CURVES),
)
def test_any_curve_resumes_to_the_bit_in_any_order(order, base_lrs, below, k, stop, curve):
    def make():
        initial_lrs = [lr * 10 ** (-below * j) for j, lr in enumerate(base_lrs, 1)]
        optimizer = sgd(base_lrs)
        return optimizer, lambda: LeRaC(optimizer, k, initial_lrs=initial_lrs, curve=curve)

    optimizer, curriculum_of = make()
    curriculum = curriculum_of()
    run(optimizer, curriculum, stop)
    states = saved(optimizer, curriculum)
    straight_on = run(optimizer, curriculum, k + 2)

    optimizer, curriculum_of = make()
    for action in order:
        if action == "b":
            curriculum = curriculum_of()
        else:
            (optimizer if action == "o" else curriculum).load_state_dict(states["os".index(action)])
    assert run(optimizer, curriculum, k + 2) == straight_on
    assert straight_on[-1] == base_lrs


def test_its_state_is_plain_data():
    optimizer, curriculum = build(tensor_lr=True)
    run(optimizer, curriculum, 2)
    straight_on = copy.deepcopy((optimizer, curriculum))
    state = json.loads(json.dumps(curriculum.state_dict()))
    optimizer, curriculum = build(tensor_lr=True)
    curriculum.load_state_dict(state)
    assert curriculum.state_dict() == straight_on[1].state_dict()
    assert run(optimizer, curriculum, STEPS) == run(*straight_on, STEPS)


def test_a_state_dict_is_a_snapshot():
    optimizer, curriculum = build()
    state = curriculum.state_dict()
    before = copy.deepcopy(state)
    run(optimizer, curriculum, 3)
    curriculum.load_state_dict(state)
    run(optimizer, curriculum, 3)
    assert state == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
@EITHER_LR
def test_a_copy_goes_on_by_itself(copied, tensor_lr):
    optimizer, curriculum = build(tensor_lr)
    run(optimizer, curriculum, 3)
    # A copy loses the wrapper of `step` that torch's schedulers look for in their first step, which was taken.
    other_optimizer, other = copied((optimizer, curriculum))
    assert other.optimizer is other_optimizer
    before = rates(optimizer)
    other_optimizer.load_state_dict(other_optimizer.state_dict())
    copy_rates = run(other_optimizer, other, STEPS)
    assert rates(optimizer) == before
    assert copy_rates == run(optimizer, curriculum, STEPS)


def test_what_is_loaded_takes_the_place_of_the_arguments():
    optimizer = sgd([0.1, 0.2])
    curriculum = LeRaC(optimizer, 5, min_lr=1e-3, curve="cosine")
    run(optimizer, curriculum, 2)
    state = curriculum.state_dict()
    straight_on = run(optimizer, curriculum, 5)
    optimizer = sgd([1.0, 0.3])
    curriculum = LeRaC(optimizer, 50, min_lr=1e-8)
    curriculum.load_state_dict(state)
    assert (curriculum.total_iters, curriculum.curve, curriculum.base_lrs) == (5, "cosine", [0.1, 0.2])
    assert run(optimizer, curriculum, 5) == straight_on


def test_a_loaded_state_takes_tensors_apart():
    optimizer, curriculum = build(tensor_lr=True)
    state = curriculum.state_dict()
    other = optimizer_of(tensor_lr=True)  # before any scheduler: all groups share one tensor
    optimizer.load_state_dict(other.state_dict())
    curriculum.load_state_dict(state)
    assert rates(optimizer) == pytest.approx([1e-1, 10**-4.5, 1e-8])


# One state without the other


@pytest.mark.parametrize("stop", range(1, STEPS))
@EITHER_LR
def test_an_optimizer_loaded_without_its_curriculum_is_refused(stop, tensor_lr):
    optimizer, curriculum = build(tensor_lr)
    run(optimizer, curriculum, stop)
    states = saved(optimizer, curriculum)
    straight_on = run(optimizer, curriculum, STEPS)

    optimizer, curriculum = build(tensor_lr)
    optimizer.load_state_dict(states[0])
    before = copy.deepcopy((curriculum.state_dict(), rates(optimizer)))
    optimizer.step()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="load LeRaC's state as well"):
            curriculum.step()
        with pytest.raises(RuntimeError, match="load LeRaC's state as well"), curriculum.base_rates():
            pass
        assert (curriculum.state_dict(), rates(optimizer)) == before
    curriculum.load_state_dict(states[1])
    assert run(optimizer, curriculum, STEPS) == straight_on


@pytest.mark.parametrize("now", [4, 5, K, STEPS])
@pytest.mark.parametrize("curve", CURVES)
def test_an_optimizer_rolled_back_without_its_curriculum_is_refused(now, curve):
    def go(steps):
        optimizer = sgd([0.1] * 4)
        curriculum = LeRaC(optimizer, K, min_lr=1e-6, curve=curve)
        run(optimizer, curriculum, steps)
        return optimizer, curriculum

    then = go(3)
    states = saved(*then)
    optimizer, curriculum = go(now)
    optimizer.load_state_dict(states[0])
    optimizer.step()
    with pytest.raises(RuntimeError, match="rates of another step"):
        curriculum.step()
    curriculum.load_state_dict(states[1])
    assert run(optimizer, curriculum, STEPS) == run(*then, STEPS)


def test_a_roll_back_after_the_curriculum_is_none_of_its_business():
    optimizer, curriculum = build()
    by_group = MultiplicativeLR(optimizer, [lambda _: 0.5, lambda _: 0.9, lambda _: 0.7])
    schedule = ChainedScheduler([curriculum, by_group], optimizer)
    run(optimizer, schedule, K + 1)
    state = saved(optimizer)[0]
    run(optimizer, schedule, 2)
    optimizer.load_state_dict(state)
    run(optimizer, schedule, 1)


def test_an_optimizer_loaded_at_the_same_step_needs_no_state():
    optimizer, curriculum = build()
    run(optimizer, curriculum, 2)
    optimizer.load_state_dict(saved(optimizer)[0])
    for group in optimizer.param_groups:
        group["lr"] *= 0.5  # a scheduler of another kind
    assert run(optimizer, curriculum, K)[-1] == pytest.approx([0.05] * 3, rel=1e-12)
