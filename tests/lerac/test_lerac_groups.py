"""LeRaC while the optimizer's param groups change: added, removed, replaced, reordered."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import ChainedScheduler, ExponentialLR, StepLR

from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import SGD, AdamW
from tests.lerac.rates import groups_at, rates, run, sgd

K = 8
BASE_LRS = [0.1, 0.2, 0.05]


def new_group(**options):
    return {"params": [torch.zeros(2, requires_grad=True)], **options}


def undisturbed(steps, base_lrs=BASE_LRS):
    optimizer = sgd(base_lrs)
    return run(optimizer, LeRaC(optimizer, K, min_lr=1e-6), steps)


def started(steps, base_lrs=BASE_LRS):
    optimizer = sgd(base_lrs)
    curriculum = LeRaC(optimizer, K, min_lr=1e-6)
    return optimizer, curriculum, run(optimizer, curriculum, steps)


def columns(table, *numbers):
    return [[row[number] for number in numbers] for row in table]


# Added


@pytest.mark.parametrize("at", range(K + 3))
def test_a_group_that_is_added_keeps_its_rate_and_the_others_theirs(at):
    optimizer, curriculum, table = started(at)
    optimizer.add_param_group(new_group(lr=0.03))
    optimizer.add_param_group(new_group())  # at the optimizer's default
    table = table[:-1] + run(optimizer, curriculum, K + 4 - at)
    assert columns(table, 0, 1, 2) == undisturbed(K + 4)
    assert columns(table[at:], 3, 4) == [[0.03, 1.0]] * (K + 5 - at)
    assert curriculum.get_last_lr() == rates(optimizer) == [*BASE_LRS, 0.03, 1.0]


def test_a_group_that_is_added_may_be_set_at_any_time():
    optimizer, curriculum, _ = started(2)
    optimizer.add_param_group(new_group(lr=1e-7))
    for lr in (1e-7, 0.5, 3e-9, 0.0, 0.5):
        optimizer.param_groups[3]["lr"] = lr
        run(optimizer, curriculum, 1)
        with curriculum.base_rates():
            assert rates(optimizer) == pytest.approx([*BASE_LRS, lr])
        assert curriculum.get_last_lr() == rates(optimizer)
        assert rates(optimizer)[3] == lr
    assert rates(optimizer)[:3] == undisturbed(7)[-1]


def test_groups_may_be_added_within_base_rates():
    optimizer, curriculum, table = started(2)
    with curriculum.base_rates():
        optimizer.add_param_group(new_group(lr=0.03))
        for group in optimizer.param_groups:
            group["lr"] *= 0.5
    assert rates(optimizer) == pytest.approx([*(lr / 2 for lr in table[-1]), 0.015], rel=1e-12)
    assert run(optimizer, curriculum, K)[-1] == pytest.approx([*(lr / 2 for lr in BASE_LRS), 0.015], rel=1e-12)


@pytest.mark.parametrize("lerac_first", [True, False])
def test_a_scheduler_at_the_same_time_decides_on_added_groups(lerac_first):
    optimizer = sgd(BASE_LRS)
    curriculum = LeRaC(optimizer, K, min_lr=1e-6)
    schedulers = [curriculum, ExponentialLR(optimizer, 0.9)]
    schedule = ChainedScheduler(schedulers if lerac_first else schedulers[::-1], optimizer)
    run(optimizer, schedule, 2)
    optimizer.add_param_group(new_group(lr=0.03))
    run(optimizer, schedule, K)
    expected = [*(lr * 0.9 ** (K + 2) for lr in BASE_LRS), 0.03 * 0.9**K]
    assert rates(optimizer) == pytest.approx(expected, rel=1e-12)


def test_a_group_that_is_added_has_a_tensor_of_its_own():
    optimizer = torch.optim.SGD(groups_at([1, 2]), lr=torch.tensor(0.1))
    curriculum = LeRaC(optimizer, K, min_lr=1e-6, max_lr=1e-2)
    run(optimizer, curriculum, 1)
    optimizer.add_param_group(new_group())
    held = optimizer.param_groups[2]["lr"]
    table = run(optimizer, curriculum, K)
    assert columns(table, 2) == [[float(torch.tensor(0.1))]] * (K + 1)
    assert optimizer.param_groups[2]["lr"] is held


@pytest.mark.parametrize("optimizer_class", [SGD, AdamW])
def test_progressive_unfreezing(optimizer_class):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(5)))
    head_first = layer_groups(model, example_inputs=torch.zeros(1, 4))[::-1]
    optimizer = optimizer_class(head_first[:2], lr=1e-2)
    curriculum = LeRaC(optimizer, 6, min_lr=1e-5)
    for step in range(9):
        if step % 2 and len(optimizer.param_groups) < 5:
            optimizer.add_param_group({**head_first[len(optimizer.param_groups)], "lr": 1e-3})
        model(torch.randn(3, 4)).square().mean().backward()
        before = [parameter.detach().clone() for parameter in model.parameters()]
        optimizer.step()
        trained = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
        assert sum(trained) == 2 * len(optimizer.param_groups)
        optimizer.zero_grad()
        curriculum.step()
    assert rates(optimizer) == [1e-2, 1e-2, 1e-3, 1e-3, 1e-3]


@pytest.mark.parametrize("adam", [torch.optim.AdamW, AdamW])
def test_fine_tuning_of_a_backbone_as_trainers_do_it(adam):
    """The head alone at first; then the backbone, at a rate of its own that is set anew in every epoch. Its parameters
    have no names, which torch would refuse beside groups with names.

    A restart makes other dicts for the groups, and other lists of the same parameters, before states are loaded.
    """

    def build():
        torch.manual_seed(0)
        backbone = nn.Linear(4, 4)
        head = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        groups = layer_groups(head, example_inputs=torch.zeros(1, 4))
        if adam is torch.optim.AdamW:
            groups = [without_names(group) for group in groups]
        optimizer = adam(groups, lr=1e-2)
        return optimizer, LeRaC(optimizer, 6, min_lr=1e-6), backbone

    def without_names(group):
        return {key: value for key, value in group.items() if key != "param_names"}

    def epoch(number, optimizer, curriculum, backbone):
        if number == 1:
            head_lr = optimizer.param_groups[0]["lr"]
            optimizer.add_param_group({"params": [*backbone.parameters()], "lr": head_lr * 0.1})
        elif number > 1:
            optimizer.param_groups[-1]["lr"] = min(optimizer.param_groups[-1]["lr"] * 2.0, 1e-2)
        return run(optimizer, curriculum, 2)

    first = build()
    straight_through = [epoch(number, *first) for number in range(5)]
    assert straight_through[-1][-1] == pytest.approx([1e-2, 1e-2, 8e-3])

    for stop in range(1, 5):
        stopped = build()
        for number in range(stop):
            epoch(number, *stopped)
        states = copy.deepcopy([part.state_dict() for part in stopped[:2]])
        optimizer, curriculum, backbone = build()
        groups = [{**group, "params": [*group["params"]]} for group in optimizer.param_groups]
        if stop > 1:
            groups.append({**without_names(groups[0]), "params": [*backbone.parameters()]})
        optimizer.param_groups = groups
        optimizer.load_state_dict(states[0])
        curriculum.load_state_dict(states[1])
        rest = [epoch(number, optimizer, curriculum, backbone) for number in range(stop, 5)]
        assert rest == straight_through[stop:]


# Removed and replaced


@settings(derandomize=True)
@given(
    at=st.integers(0, K + 1),
    kept=st.lists(st.integers(0, 4), min_size=1, max_size=5, unique=True),
    added=st.integers(0, 2),
    curve=st.sampled_from(["exponential", "decades", "linear"]),
)
def test_the_rest_goes_on_whatever_is_removed_moved_and_added(at, kept, added, curve):
    base_lrs = [0.1, 0.2, 0.05, 0.1, 0.3]

    def build():
        optimizer = sgd(base_lrs)
        return optimizer, LeRaC(optimizer, K, min_lr=1e-6, curve=curve)

    table = run(*build(), K + 2)
    optimizer, curriculum = build()
    run(optimizer, curriculum, at)
    new = [new_group(lr=0.7) for _ in range(added)]
    old = [optimizer.param_groups[j] for j in kept]
    optimizer.param_groups[:] = old
    for group in new:
        optimizer.add_param_group(group)
    optimizer.param_groups.reverse()
    reached = run(optimizer, curriculum, K + 2 - at)
    assert reached == [[0.7] * added + [row[j] for j in reversed(kept)] for row in table[at:]]
    assert curriculum.base_lrs == [base_lrs[j] for j in reversed(kept)]


def test_parameters_may_be_swapped_in_place():
    """As sharding does, in the groups of an optimizer that has its schedulers already."""
    optimizer, curriculum, table = started(2)
    for group in optimizer.param_groups:
        group["params"] = [torch.zeros(1, requires_grad=True)]
    assert table[:-1] + run(optimizer, curriculum, K) == undisturbed(K + 2)


def test_parameters_may_be_swapped_after_a_state_was_loaded():
    """As Accelerate does to shard a model: the dicts of the groups are new, and then their parameters."""
    optimizer, curriculum, table = started(2)
    optimizer.load_state_dict(optimizer.state_dict())
    for group in optimizer.param_groups:
        group["params"][:] = [torch.empty(1)]
        group["params"] = [torch.zeros(1, requires_grad=True)]
    assert curriculum.state_dict()["_positions"] == [0, 1, 2]
    assert table[:-1] + run(optimizer, curriculum, K) == undisturbed(K + 2)


def test_nothing_but_strangers_is_refused():
    optimizer, curriculum, _ = started(2)
    before = copy.deepcopy(curriculum.__dict__["ratios"])
    optimizer.param_groups[:] = [new_group(lr=0.1, initial_lr=0.1)]
    with pytest.raises(RuntimeError, match="none of the param groups that LeRaC knows"):
        curriculum.step()
    assert (curriculum.ratios, curriculum.last_epoch) == (before, 2)
    assert rates(optimizer) == [0.1]


def test_a_group_that_is_put_back_at_another_rate_is_refused():
    optimizer, curriculum, _ = started(2)
    for group in [*optimizer.param_groups]:
        optimizer.param_groups.remove(group)
        optimizer.add_param_group({"params": group["params"], "lr": 0.1})
    with pytest.raises(RuntimeError, match="rates of another step"):
        curriculum.step()


# States and pictures


@pytest.mark.parametrize("order", ["os", "so", "s"])
@pytest.mark.parametrize("tensor_lr", [False, True])
@pytest.mark.parametrize("first_built", ["curriculum", "groups"])
def test_a_state_with_added_groups_is_loaded_in_any_order(order, tensor_lr, first_built):
    def lr_of(value):
        return torch.tensor(value) if tensor_lr else value

    def build(all_groups=False):
        groups = groups_at([1, 2, 3])
        added = new_group(lr=lr_of(0.03), depth=0)
        optimizer = torch.optim.SGD(groups, lr=lr_of(0.1))
        if all_groups:
            optimizer.add_param_group(added)
        return optimizer, LeRaC(optimizer, K, min_lr=1e-6), added

    optimizer, curriculum, added = build()
    run(optimizer, curriculum, 2)
    optimizer.add_param_group(added)
    states = copy.deepcopy((optimizer.state_dict(), curriculum.state_dict()))  # before a step with it
    straight_on = run(optimizer, curriculum, K)
    assert straight_on[-1] == pytest.approx([0.1, 0.1, 0.1, 0.03])

    optimizer, curriculum, added = build(all_groups=first_built == "groups")
    if first_built == "curriculum":
        optimizer.add_param_group(added)
    for which in order:
        (optimizer if which == "o" else curriculum).load_state_dict(states["os".index(which)])
    assert run(optimizer, curriculum, K) == straight_on
    assert [type(lr) for lr in curriculum.get_last_lr()] == [torch.Tensor if tensor_lr else float] * 4


def test_a_state_without_a_removed_group():
    optimizer, curriculum, _ = started(3)
    del optimizer.param_groups[1]
    states = copy.deepcopy((optimizer.state_dict(), curriculum.state_dict()))
    straight_on = run(optimizer, curriculum, K)
    assert straight_on[-1] == [BASE_LRS[0], BASE_LRS[2]]

    optimizer = sgd([BASE_LRS[0], BASE_LRS[2]])
    curriculum = LeRaC(optimizer, K, min_lr=1e-6)
    curriculum.load_state_dict(states[1])
    optimizer.load_state_dict(states[0])
    assert run(optimizer, curriculum, K) == straight_on


def test_the_groups_that_are_added_need_what_the_optimizer_has():
    optimizer, curriculum, _ = started(2)
    optimizer.add_param_group(new_group(lr=0.03))
    state = curriculum.state_dict()
    optimizer, curriculum, _ = started(0)
    with pytest.raises(ValueError, match=r"4 param groups and the optimizer has 3: .*add_param_group"):
        curriculum.load_state_dict(state)


@pytest.mark.parametrize("removed", [1, 2])
def test_the_picture_is_of_its_own_groups(removed):
    pytest.importorskip("matplotlib")
    optimizer = sgd(BASE_LRS)
    curriculum = LeRaC(optimizer, K, min_lr=1e-6, curve="decades")
    expected = [[lr for j, lr in enumerate(row) if j != removed] for row in run(optimizer, curriculum, K)]
    optimizer = sgd(BASE_LRS)
    curriculum = LeRaC(optimizer, K, min_lr=1e-6, curve="decades")
    optimizer.add_param_group(new_group(lr=0.03, depth=7))  # the others have none
    del optimizer.param_groups[removed]
    for _ in range(2):
        *lines, _at_k = curriculum.plot().axes[0].lines
        drawn = [dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) for line in lines]
        assert [[line[step] for line in drawn] for step in range(K + 1)] == expected
        run(optimizer, curriculum, 1)


def test_other_schedulers_see_what_torch_shows_them():
    optimizer, curriculum, _ = started(0)
    optimizer.add_param_group(new_group(lr=0.03))
    run(optimizer, curriculum, K)
    after = StepLR(optimizer, 1, 0.5)
    assert after.base_lrs == [*BASE_LRS, 0.03]


def test_a_new_group_with_the_very_object_of_a_rate_is_still_new():
    optimizer, curriculum, _ = started(2)
    lr = optimizer.param_groups.pop()["lr"]
    optimizer.add_param_group(new_group(lr=lr))
    reached = run(optimizer, curriculum, K)
    assert {row[-1] for row in reached} == {lr}


def test_a_replaced_group_with_other_parameters_is_new():
    optimizer, curriculum, _ = started(2)
    lr = optimizer.param_groups[1]["lr"]
    optimizer.param_groups[1] = {**optimizer.param_groups[1], **new_group()}
    assert {row[1] for row in run(optimizer, curriculum, K)} == {lr}


def test_a_subclass_is_asked_in_every_step():
    class Capped(LeRaC):
        def get_lr(self):
            return [min(lr, 0.02) for lr in super().get_lr()]

    optimizer = sgd(BASE_LRS)
    curriculum = Capped(optimizer, K, min_lr=1e-6)
    assert max(map(max, run(optimizer, curriculum, K)[1:])) <= 0.02
