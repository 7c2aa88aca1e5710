"""LeRaC that is built in the middle of a curriculum, without its state, or with a state of something else."""

import copy

import pytest
from torch.optim import lr_scheduler
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    ReduceLROnPlateau,
    StepLR,
)

from lerac_fast.lerac.scheduler import LeRaC
from tests.lerac.rates import rates, run, sgd
from tests.lerac.test_lerac_resume import EITHER_LR, LOWEST, STEPS, K, build, optimizer_of, saved

# Built in the middle of a curriculum


@pytest.mark.parametrize("stop", range(K))
@EITHER_LR
def test_built_in_the_middle_of_a_curriculum_it_wants_its_state(stop, tensor_lr):
    optimizer, curriculum = build(tensor_lr)
    run(optimizer, curriculum, stop)
    states = saved(optimizer, curriculum)
    straight_on = run(optimizer, curriculum, STEPS)

    optimizer = optimizer_of(tensor_lr)
    optimizer.load_state_dict(states[0])
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    before = copy.deepcopy((curriculum.state_dict(), rates(optimizer)))
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"middle of a curriculum.*load LeRaC's state"):
        curriculum.step()
    assert (curriculum.state_dict(), rates(optimizer)) == before
    curriculum.load_state_dict(states[1])
    assert run(optimizer, curriculum, STEPS) == straight_on


def test_a_second_one_on_the_same_optimizer_is_refused():
    optimizer, _ = build()
    again = LeRaC(optimizer, K, min_lr=LOWEST)
    optimizer.step()
    with pytest.raises(RuntimeError, match="set every lr to its initial_lr"):
        again.step()
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"]
    assert run(optimizer, LeRaC(optimizer, K, min_lr=LOWEST), K)[-1] == [0.1] * 3


def test_a_second_one_after_the_first_starts_from_the_base_rates():
    optimizer, curriculum = build()
    first = run(optimizer, curriculum, K)
    assert run(optimizer, LeRaC(optimizer, K, min_lr=LOWEST), K) == first


def test_base_rates_that_fall_with_depth_are_confirmed():
    optimizer = optimizer_of()
    by_group = LambdaLR(optimizer, [lambda _: 1.0, lambda _: 0.3, lambda _: 0.1])
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST)
    optimizer.step()
    with curriculum.base_rates():
        by_group.step()
    assert run(optimizer, curriculum, K)[-1] == pytest.approx([0.1, 0.03, 0.01], rel=1e-12)


@pytest.mark.parametrize(
    "other",
    [
        lambda optimizer: LinearLR(optimizer, 0.01),
        lambda optimizer: LambdaLR(optimizer, [lambda _: 0.1, lambda _: 0.5, lambda _: 1.0]),
        lambda optimizer: LambdaLR(optimizer, [lambda _: 0.5, lambda _: 0.1, lambda _: 1.0]),
        lambda optimizer: OneCycleLR(optimizer, [0.1, 0.01, 0.001], total_steps=20),
        lambda optimizer: lr_scheduler.CyclicLR(optimizer, [0.01, 0.02, 0.001], 0.1, cycle_momentum=False),
    ],
)
def test_other_schedulers_are_not_taken_for_a_curriculum(other):
    optimizer = optimizer_of()
    other(optimizer)
    base_lrs = rates(optimizer)
    assert run(optimizer, LeRaC(optimizer, K, min_lr=1e-10), K)[-1] == pytest.approx(base_lrs, rel=1e-12)


# Without its state


@pytest.mark.parametrize("stop", range(1, STEPS))
@EITHER_LR
def test_resumes_from_last_epoch_to_the_bit(stop, tensor_lr):
    optimizer, curriculum = build(tensor_lr)
    straight_through = run(optimizer, curriculum, STEPS)

    optimizer, curriculum = build(tensor_lr)
    run(optimizer, curriculum, stop)
    states = saved(optimizer, curriculum)
    for load_too in (False, True):
        optimizer = optimizer_of(tensor_lr)
        optimizer.load_state_dict(states[0])
        curriculum = LeRaC(optimizer, K, min_lr=LOWEST, last_epoch=stop - 1)
        if load_too:
            curriculum.load_state_dict(states[1])
        assert run(optimizer, curriculum, STEPS - stop) == straight_through[stop:]


def test_last_epoch_keeps_what_another_scheduler_did():
    optimizer, curriculum = build()
    run(optimizer, curriculum, 2)
    for group in optimizer.param_groups:
        group["lr"] *= 0.5
    curriculum = LeRaC(optimizer, K, min_lr=LOWEST, last_epoch=1)
    assert run(optimizer, curriculum, 4)[-1] == pytest.approx([0.05] * 3, rel=1e-12)


@pytest.mark.parametrize("last_epoch", [0, 2, 3, K, 50])
def test_a_last_epoch_that_is_not_that_of_the_rates_is_refused(last_epoch):
    optimizer, curriculum = build()
    run(optimizer, curriculum, 2)
    before = rates(optimizer)
    with pytest.raises(RuntimeError, match="rates of another step"):
        LeRaC(optimizer, K, min_lr=LOWEST, last_epoch=last_epoch)
    assert rates(optimizer) == before


def test_last_epoch_without_the_optimizers_state_is_refused():
    optimizer = sgd([0.1, 0.1])
    with pytest.raises(KeyError, match="initial_lr"):
        LeRaC(optimizer, K, min_lr=LOWEST, last_epoch=3)
    StepLR(optimizer, 100)  # which sets initial_lr
    with pytest.raises(RuntimeError, match="rates of another step"):
        LeRaC(optimizer, K, min_lr=LOWEST, last_epoch=3)


# States of something else


@pytest.mark.parametrize(
    "other",
    [
        lambda optimizer: StepLR(optimizer, 3),
        lambda optimizer: LinearLR(optimizer, total_iters=3),
        lambda optimizer: CosineAnnealingLR(optimizer, 3),
        lambda optimizer: LambdaLR(optimizer, lambda _: 1.0),
        lambda optimizer: ReduceLROnPlateau(optimizer),
        lambda optimizer: ChainedScheduler([StepLR(optimizer, 3)]),
        lambda optimizer: optimizer,
    ],
)
def test_the_state_of_another_scheduler_is_refused(other):
    foreign = other(sgd([0.3, 0.3, 0.3])).state_dict()
    optimizer, curriculum = build()
    run(optimizer, curriculum, 2)
    before = copy.deepcopy((curriculum.state_dict(), rates(optimizer)))
    with pytest.raises(ValueError, match=r"not the state of a LeRaC: it has no .*'ratios'"):
        curriculum.load_state_dict(foreign)
    assert (curriculum.state_dict(), rates(optimizer)) == before


@pytest.mark.parametrize("layers", [2, 4])
def test_a_state_of_other_groups_in_number_is_refused(layers):
    other = LeRaC(sgd([0.1] * layers), K, min_lr=LOWEST).state_dict()
    optimizer, curriculum = build()
    run(optimizer, curriculum, 2)
    before = copy.deepcopy((curriculum.state_dict(), rates(optimizer)))
    with pytest.raises(ValueError, match=f"of {layers} param groups and the optimizer has 3"):
        curriculum.load_state_dict(other)
    assert (curriculum.state_dict(), rates(optimizer)) == before
