"""LeRaC together with torch's own schedulers: one after the other, and at the same time."""

import math

import pytest
import torch
from hypothesis import settings
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    SequentialLR,
    StepLR,
)

from lerac_fast.lerac.scheduler import LeRaC
from tests.reference.lerac import eq8

# Older torch (2.9 among them): SequentialLR and CosineAnnealingWarmRestarts put another tensor in the place of a tensor
# `lr`, the one that holds `initial_lr`, and so overwrite the base rate.
REPLACES_TENSOR_LR = pytest.mark.skipif(
    not hasattr(lr_scheduler, "_update_param_group_val"), reason="this torch replaces a tensor lr"
)
TENSOR_LR = pytest.mark.parametrize("tensor_lr", [False, pytest.param(True, marks=REPLACES_TENSOR_LR)])

reproducible = settings(derandomize=True)

K = 20
STEPS = 50
LOWEST = 1e-8
BASE_LR = 0.1

# They differ in what they start from: the rate they find, the base rate, or a rate of their own.
ANY_SCHEDULER = {
    "StepLR": lambda optimizer: StepLR(optimizer, step_size=7, gamma=0.5),
    "MultiStepLR": lambda optimizer: MultiStepLR(optimizer, milestones=[3, 11]),
    "ExponentialLR": lambda optimizer: ExponentialLR(optimizer, gamma=0.9),
    "ConstantLR": lambda optimizer: ConstantLR(optimizer, factor=0.5, total_iters=9),
    "LinearLR": lambda optimizer: LinearLR(optimizer, 1.0, 0.1, total_iters=25),
    "PolynomialLR": lambda optimizer: PolynomialLR(optimizer, total_iters=40, power=2.0),
    "CosineAnnealingLR": lambda optimizer: CosineAnnealingLR(optimizer, T_max=60),
    "CosineAnnealingLR with eta_min": lambda optimizer: CosineAnnealingLR(optimizer, 60, eta_min=1e-3),
    "CosineAnnealingWarmRestarts": lambda optimizer: CosineAnnealingWarmRestarts(optimizer, T_0=9),
    "LambdaLR": lambda optimizer: LambdaLR(optimizer, lambda step: 1.0 / (1.0 + step)),
    "OneCycleLR": lambda optimizer: OneCycleLR(optimizer, max_lr=0.2, total_steps=60),
    "CyclicLR": lambda optimizer: CyclicLR(optimizer, base_lr=0.01, max_lr=0.1, step_size_up=8),
}
MULTIPLYING = {
    name: ANY_SCHEDULER[name]
    for name in ("StepLR", "MultiStepLR", "ExponentialLR", "LinearLR", "PolynomialLR", "CosineAnnealingLR")
} | {"MultiplicativeLR": lambda optimizer: MultiplicativeLR(optimizer, lambda step: 1.0 - 0.5 / step)}
OVERWRITING_OR_ADDING = {
    name: ANY_SCHEDULER[name]
    for name in ("LambdaLR", "OneCycleLR", "CosineAnnealingLR with eta_min", "CosineAnnealingWarmRestarts")
}


def always(factor):
    return lambda _: factor


def sgd(layers=3, tensor_lr=False):
    groups = [{"params": [torch.zeros(1, requires_grad=True)]} for _ in range(layers)]
    return torch.optim.SGD(groups, lr=torch.tensor(BASE_LR) if tensor_lr else BASE_LR, momentum=0.9)


def rates(optimizer):
    return [float(group["lr"]) for group in optimizer.param_groups]


def run(optimizer, step, steps=STEPS):
    """Return the rates used by each of `steps` optimizer steps, and those left after."""
    table = [rates(optimizer)]
    for _ in range(steps):
        optimizer.step()
        step()
        table.append(rates(optimizer))
    return table


def lerac_alone(k=K, steps=STEPS, base_lr=BASE_LR, lowest=LOWEST):
    initial_lrs = [base_lr, math.sqrt(base_lr * lowest), lowest]
    return [[eq8(initial, base_lr, min(step, k), k) for initial in initial_lrs] for step in range(steps + 1)]


def other_alone(create, steps=STEPS):
    optimizer = sgd(layers=1)
    scheduler = create(optimizer)
    return [row[0] for row in run(optimizer, scheduler.step, steps)]


def product(table, schedule):
    """LeRaC's rates times another schedule, given as rates too."""
    return [[lr * rate / BASE_LR for lr in row] for row, rate in zip(table, schedule, strict=True)]


def assert_close(table, expected, rel=1e-9):
    assert len(table) == len(expected)
    for step, (row, wanted) in enumerate(zip(table, expected, strict=True)):
        assert row == pytest.approx(wanted, rel=rel, abs=0), f"at step {step}"


# One after the other


@pytest.mark.parametrize("create", ANY_SCHEDULER.values(), ids=ANY_SCHEDULER)
def test_any_scheduler_after_lerac(create):
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    schedule = SequentialLR(optimizer, [curriculum, create(optimizer)], milestones=[K])
    table = run(optimizer, schedule.step)
    assert_close(table[:K], lerac_alone()[:K])
    # From k on no trace of LeRaC is left.
    assert_close(table[K:], [[rate] * 3 for rate in other_alone(create, STEPS - K)])


def test_the_hand_over_is_exact():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    schedule = SequentialLR(optimizer, [curriculum, StepLR(optimizer, step_size=100)], milestones=[K])
    assert run(optimizer, schedule.step)[K:] == [[BASE_LR] * 3] * (STEPS - K + 1)


def test_multiplicative_after_lerac_starts_a_step_later():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    halving = MultiplicativeLR(optimizer, lambda step: 0.5 if step else 1.0)
    schedule = SequentialLR(optimizer, [curriculum, halving], milestones=[K + 1])
    table = run(optimizer, schedule.step, K + 3)
    assert table[K:] == [[BASE_LR] * 3, [BASE_LR] * 3, [BASE_LR / 2] * 3, [BASE_LR / 4] * 3]
    assert curriculum.finished


def test_lerac_between_two_schedulers_starts_from_the_base_rate():
    optimizer = sgd()
    first = ConstantLR(optimizer, factor=0.1, total_iters=100)
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    last = ExponentialLR(optimizer, gamma=0.5)
    schedule = SequentialLR(optimizer, [first, curriculum, last], milestones=[5, 5 + K])
    table = run(optimizer, schedule.step, 5 + K + 2)
    assert_close(table[:5], [[0.01] * 3] * 5)
    assert_close(table[5 : 5 + K], lerac_alone()[:K])
    assert_close(table[5 + K :], [[0.1] * 3, [0.05] * 3, [0.025] * 3])


def test_one_cycle_created_before_lerac_gives_it_its_initial_lr():
    optimizer = sgd()
    one_cycle = OneCycleLR(optimizer, max_lr=0.1, total_steps=60)
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    schedule = SequentialLR(optimizer, [curriculum, one_cycle], milestones=[K])
    assert_close(run(optimizer, schedule.step)[:K], lerac_alone(base_lr=0.1 / 25)[:K])


def assert_resumes_to_the_bit(build, stop):
    """Stopped after `stop` steps and built anew from the two state dicts, the rates are those of one go."""
    optimizer, schedule = build()
    straight_through = run(optimizer, schedule.step)
    optimizer, schedule = build()
    first_part = run(optimizer, schedule.step, stop)
    states = optimizer.state_dict(), schedule.state_dict()
    optimizer, schedule = build()
    optimizer.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    assert first_part[:-1] + run(optimizer, schedule.step, STEPS - stop) == straight_through


@pytest.mark.parametrize("stop", [0, 7, K - 1, K, K + 3])
@TENSOR_LR
def test_a_sequence_resumes_to_the_bit(stop, tensor_lr):
    def build():
        optimizer = sgd(tensor_lr=tensor_lr)
        schedulers = [LeRaC(optimizer, K, min_lr=LOWEST), CosineAnnealingLR(optimizer, T_max=60)]
        return optimizer, SequentialLR(optimizer, schedulers, milestones=[K])

    assert_resumes_to_the_bit(build, stop)


# At the same time


@pytest.mark.parametrize("lerac_first", [True, False])
@pytest.mark.parametrize("create", MULTIPLYING.values(), ids=MULTIPLYING)
def test_schedulers_that_multiply_run_at_the_same_time(create, lerac_first):
    optimizer = sgd()
    if lerac_first:
        curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
        schedule = ChainedScheduler([curriculum, create(optimizer)], optimizer)
    else:
        other = create(optimizer)
        curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
        schedule = ChainedScheduler([other, curriculum], optimizer)
    assert_close(run(optimizer, schedule.step), product(lerac_alone(), other_alone(create)))
    assert curriculum.finished


@pytest.mark.parametrize("create", MULTIPLYING.values(), ids=MULTIPLYING)
def test_tensor_rates_run_at_the_same_time(create):
    optimizer = sgd(tensor_lr=True)
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    schedule = ChainedScheduler([curriculum, create(optimizer)], optimizer)
    # float32 keeps 6e-8 of a rate at each of the two sets of a step.
    assert_close(run(optimizer, schedule.step), product(lerac_alone(), other_alone(create)), rel=1e-5)


def test_a_warm_up_created_first_is_kept():
    optimizer = sgd()
    warm_up = LinearLR(optimizer, start_factor=0.01, total_iters=10)
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    expected = product(lerac_alone(), other_alone(lambda o: LinearLR(o, start_factor=0.01, total_iters=10)))
    assert_close(run(optimizer, lambda: (warm_up.step(), curriculum.step())), expected)


def test_milestones_in_epochs_beside_steps():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, total_iters=K, min_lr=LOWEST)
    milestones = MultiStepLR(optimizer, milestones=[1, 3], gamma=0.1)
    table = []
    for _ in range(4):
        table += run(optimizer, curriculum.step, 10)[:-1]
        milestones.step()
    factors = [1.0] * 10 + [0.1] * 20 + [0.01] * 10
    assert_close(table, product(lerac_alone(steps=39), [BASE_LR * factor for factor in factors]))


@pytest.mark.parametrize("stop", [0, 7, K - 1, K, K + 3])
def test_a_chain_resumes_to_the_bit(stop):
    def build():
        optimizer = sgd()
        schedulers = [LeRaC(optimizer, K, min_lr=LOWEST), CosineAnnealingLR(optimizer, T_max=60)]
        return optimizer, ChainedScheduler(schedulers, optimizer)

    assert_resumes_to_the_bit(build, stop)


@TENSOR_LR
@pytest.mark.parametrize("create", OVERWRITING_OR_ADDING.values(), ids=OVERWRITING_OR_ADDING)
def test_schedulers_that_set_the_rate_run_on_the_base_rates(create, tensor_lr):
    optimizer = sgd(tensor_lr=tensor_lr)
    other = create(optimizer)
    # OneCycleLR has made its own starting rate the base rate; LeRaC is a factor on it all the same.
    base_lr = float(optimizer.param_groups[0]["initial_lr"])
    curriculum = LeRaC(optimizer, K, min_lr=base_lr * 1e-7)
    held = [group["lr"] for group in optimizer.param_groups]

    def step():
        with curriculum.base_rates():
            other.step()
        curriculum.step()

    table = run(optimizer, step)
    schedule = other_alone(create)
    assert_close(table, product(lerac_alone(), schedule), rel=1e-5 if tensor_lr else 1e-9)
    if tensor_lr:
        assert all(group["lr"] is tensor for group, tensor in zip(optimizer.param_groups, held, strict=True))
    else:
        assert table[K:] == [[rate] * 3 for rate in schedule[K:]]


def test_base_rates_changed_by_hand():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    run(optimizer, curriculum.step, 4)
    before = rates(optimizer)
    with curriculum.base_rates():
        assert rates(optimizer) == [BASE_LR] * 3
    assert rates(optimizer) == before
    with curriculum.base_rates():
        optimizer.param_groups[2]["lr"] = 3.0
    assert rates(optimizer) == pytest.approx([before[0], before[1], before[2] * 30], rel=1e-12)
    assert curriculum.get_last_lr() == rates(optimizer)
    for group in optimizer.param_groups:
        group["lr"] *= 0.5  # from there on, a factor of any kind is fine, above the first base rate too
    assert_close([run(optimizer, curriculum.step, K)[-1]], [[BASE_LR / 2, BASE_LR / 2, 1.5]])
    with curriculum.base_rates():
        optimizer.param_groups[2]["lr"] = 4.0
    assert rates(optimizer)[2] == 4.0


def test_base_rates_restores_the_lowered_rates_after_an_error():
    optimizer = sgd()
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    before = rates(optimizer)
    with pytest.raises(KeyError), curriculum.base_rates():
        raise KeyError
    assert rates(optimizer) == before
