"""LeRaC by itself: its rates, its arrival, its refusals and its picture."""

import copy
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import StepLR

from lerac_fast.lerac.schedule import CURVES, decade_layout, depth_ranks
from lerac_fast.lerac.scheduler import LeRaC
from tests.lerac.rates import groups_at, rates, run, sgd
from tests.reference import lerac as reference

reproducible = settings(derandomize=True)


@pytest.mark.parametrize("curve", ["linear", "cosine"])
def test_linear_and_cosine_may_start_at_zero(curve):
    optimizer = sgd([0.1, 0.1])
    table = run(optimizer, LeRaC(optimizer, 4, initial_lrs=[0.1, 0.0], curve=curve), 4)
    expected = [getattr(reference, curve)(0.0, 0.1, step, 4) for step in range(5)]
    assert [row[1] for row in table] == pytest.approx(expected, rel=1e-12, abs=0)


# The initial rates


@pytest.mark.parametrize(
    ("floor", "head_lr", "expected"),
    [
        (1e-6, 1e-4, [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-6, 1e-6, 1e-6, 1e-4]),  # CIFAR-10
        (1e-7, 1e-6, [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-7, 1e-7, 1e-6]),  # CIFAR-100
        (1e-8, 1e-8, [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-8, 1e-8]),  # Tiny ImageNet
    ],
)
def test_authors_layout_of_resnet18(floor, head_lr, expected):
    layout = decade_layout(0.1, 8, floor, head_lr)
    assert layout == pytest.approx(expected, rel=1e-12, abs=0)
    optimizer = sgd([0.1] * 10)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="initial_lrs rise")
        LeRaC(optimizer, 7, initial_lrs=layout, curve="decades")
    assert rates(optimizer) == pytest.approx(expected, rel=1e-12, abs=0)


def test_groups_of_equal_depth_share_a_rank_in_any_order():
    optimizer = sgd([0.1] * 6, depths=[7, 2, 2, 40, 0.5, 7])
    assert depth_ranks(optimizer.param_groups) == [2, 1, 1, 3, 0, 2]
    LeRaC(optimizer, 10, min_lr=1e-4)
    assert rates(optimizer) == pytest.approx([1e-3, 1e-2, 1e-2, 1e-4, 1e-1, 1e-3], rel=1e-12, abs=0)


def test_groups_without_depth_count_in_their_order():
    optimizer = sgd([0.1] * 4)
    LeRaC(optimizer, 10, min_lr=1e-7)
    assert rates(optimizer) == pytest.approx([1e-1, 1e-3, 1e-5, 1e-7], rel=1e-12, abs=0)


def test_the_input_side_has_the_larger_rate():
    optimizer = sgd([0.1] * 5)
    LeRaC(optimizer, 10, min_lr=1e-3)
    assert rates(optimizer) == sorted(rates(optimizer), reverse=True)
    assert rates(optimizer)[0] == 0.1


def test_max_lr_lowers_the_first_layer_too():
    optimizer = sgd([0.1] * 3)
    table = run(optimizer, LeRaC(optimizer, 5, min_lr=1e-6, max_lr=1e-2), 5)
    assert table[0] == pytest.approx([1e-2, 1e-4, 1e-6], rel=1e-12, abs=0)
    assert table[5] == [0.1] * 3


def test_base_rates_of_their_own_are_lowered_in_proportion():
    base_lrs = [0.02, 0.1, 0.05]
    optimizer = sgd(base_lrs)
    table = run(optimizer, LeRaC(optimizer, 8, min_lr=1e-5), 8)
    ratios = [1.0, 1e-2, 1e-4]
    for step, row in enumerate(table):
        expected = [reference.eq8(base * r, base, step, 8) for base, r in zip(base_lrs, ratios, strict=True)]
        assert row == pytest.approx(expected, rel=1e-12, abs=0)
    assert table[8] == base_lrs


def test_explicit_rates_are_those_of_their_groups():
    optimizer = sgd([0.02, 0.1, 0.05])
    LeRaC(optimizer, 8, initial_lrs=[0.02, 1e-3, 1e-6])
    assert rates(optimizer) == pytest.approx([0.02, 1e-3, 1e-6], rel=1e-12, abs=0)


def test_a_frozen_group_stays_frozen():
    optimizer = sgd([0.1, 0.0, 0.1])
    table = run(optimizer, LeRaC(optimizer, 3, min_lr=1e-4), 4)
    assert [row[1] for row in table] == [0.0] * 5
    assert table[4] == [0.1, 0.0, 0.1]
    assert LeRaC(sgd([0.1, 0.0, 0.1]), 3, initial_lrs=[0.1, 0.0, 1e-4]).ratios[1] == 1.0


# The scheduler


@pytest.mark.parametrize(
    ("optimizer_class", "options"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {}),
        (torch.optim.AdamW, {}),
        (torch.optim.Adamax, {}),
        (torch.optim.RMSprop, {}),
        (torch.optim.Adagrad, {}),
    ],
)
def test_every_torch_optimizer_follows_eq8_and_ends_at_the_base_rate(optimizer_class, options):
    optimizer = optimizer_class(groups_at([1, 2, 3]), lr=2e-3, **options)
    curriculum = LeRaC(optimizer, total_iters=30, min_lr=2e-8)
    for group in optimizer.param_groups:
        group["params"][0].grad = torch.ones(2)
    table = run(optimizer, curriculum, 40)
    for step, row in enumerate(table[:31]):
        expected = [reference.eq8(initial, 2e-3, step, 30) for initial in (2e-3, 2e-3 * 10**-2.5, 2e-8)]
        assert row == pytest.approx(expected, rel=1e-12, abs=0)
    assert table[30:] == [[2e-3] * 3] * 11


def test_the_rate_reaches_the_parameters():
    optimizer = sgd([0.1, 0.1])
    LeRaC(optimizer, 10, min_lr=1e-4)
    for group in optimizer.param_groups:
        group["params"][0].grad = torch.ones(2)
    optimizer.step()
    steps = [-group["params"][0][0].item() for group in optimizer.param_groups]
    assert steps == pytest.approx([0.1, 1e-4])


@reproducible
@given(
    base_lrs=st.lists(st.floats(1e-6, 10.0), min_size=2, max_size=5),
    decades_below=st.floats(0.1, 9.0),
    k=st.integers(1, 60),
    curve=st.sampled_from(CURVES),
)
def test_arrives_at_the_base_rate_to_the_bit(base_lrs, decades_below, k, curve):
    optimizer = sgd(base_lrs)
    curriculum = LeRaC(optimizer, k, min_lr=max(base_lrs) * 10.0**-decades_below, curve=curve)
    table = run(optimizer, curriculum, k + 2)
    assert table[k] == table[k + 1] == table[k + 2] == base_lrs


def test_does_not_drift_over_thousands_of_steps():
    k = 5 * 782
    optimizer = sgd([0.1] * 4)
    table = run(optimizer, LeRaC(optimizer, k, min_lr=1e-8), k)
    assert table[k] == [0.1] * 4
    assert [row[3] for row in table] == pytest.approx(
        [reference.eq8(1e-8, 0.1, step, k) for step in range(k + 1)], rel=1e-12, abs=0
    )


def test_finished_from_step_k_on():
    optimizer = sgd([0.1, 0.1])
    curriculum = LeRaC(optimizer, 3, min_lr=1e-4)
    seen = [curriculum.finished]
    for _ in range(4):
        optimizer.step()
        curriculum.step()
        seen.append(curriculum.finished)
    assert seen == [False, False, False, True, True]


def test_initial_lr_is_the_base_rate_for_the_schedulers_after():
    optimizer = sgd([0.1, 0.2])
    curriculum = LeRaC(optimizer, 3, min_lr=1e-4)
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.2]
    assert curriculum.base_lrs == [0.1, 0.2]


@pytest.mark.parametrize("total_iters", [0, 5])
def test_get_last_lr_is_what_the_groups_hold(total_iters):
    optimizer = sgd([0.1, 0.1])
    curriculum = LeRaC(optimizer, total_iters, min_lr=1e-4)
    for _ in range(7):
        assert curriculum.get_last_lr() == rates(optimizer)
        optimizer.step()
        curriculum.step()


@pytest.mark.parametrize("lr", [0.1, torch.tensor(0.1), torch.tensor([0.1], dtype=torch.float64)])
def test_get_last_lr_is_of_torchs_kind_at_any_time(lr):
    tensor_lr = isinstance(lr, torch.Tensor)
    optimizer = torch.optim.SGD(groups_at([1, 2, 3]), lr=lr.clone() if tensor_lr else lr)
    curriculum = LeRaC(optimizer, 2, min_lr=1e-4)
    other = StepLR(optimizer, 100)

    def check():
        ours = curriculum.get_last_lr()
        assert [float(rate) for rate in ours] == rates(optimizer)
        assert [type(rate) for rate in ours] == [type(rate) for rate in other.get_last_lr()]
        if tensor_lr:  # copies, of their own
            kinds = [[(rate.dtype, rate.shape) for rate in some] for some in (ours, other.get_last_lr())]
            assert kinds[0] == kinds[1]
            for rate in ours:
                rate.fill_(7.0)
            assert 7.0 not in rates(optimizer)

    for _ in range(4):
        check()
        with curriculum.base_rates():
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
        if not curriculum.finished:
            check()
        curriculum.load_state_dict(curriculum.state_dict())
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step()
        curriculum.step()


def test_no_iterations_is_conventional_training():
    optimizer = sgd([0.1, 0.03])
    curriculum = LeRaC(optimizer, 0, min_lr=1e-8)
    assert curriculum.finished
    assert run(optimizer, curriculum, 3) == [[0.1, 0.03]] * 4
    LeRaC(sgd([0.1]), 0, min_lr=1e-8)  # without a warning, since nothing was asked for


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tensor_rates_are_filled_in_place(dtype):
    k = 1000
    optimizer = torch.optim.Adam(groups_at([1, 2, 3]), lr=torch.tensor(0.1, dtype=dtype))
    curriculum = LeRaC(optimizer, k, min_lr=1e-8)
    tensors = [group["lr"] for group in optimizer.param_groups]
    for step, row in enumerate(run(optimizer, curriculum, k + 2)):
        expected = [reference.eq8(lr, 0.1, min(step, k), k) for lr in (1e-1, 10**-4.5, 1e-8)]
        assert row == pytest.approx(expected, rel=1e-7 if dtype == torch.float32 else 1e-12, abs=0)
    for group, tensor in zip(optimizer.param_groups, tensors, strict=True):
        assert group["lr"] is tensor
        assert torch.equal(tensor, torch.tensor(0.1, dtype=dtype))
        assert torch.equal(group["initial_lr"], tensor)


def test_groups_that_share_a_tensor_get_one_each():
    shared = torch.tensor(0.1)
    optimizer = torch.optim.SGD(groups_at([1, 2, 3]), lr=shared)
    assert all(group["lr"] is shared for group in optimizer.param_groups)
    LeRaC(optimizer, 6, min_lr=1e-5)
    assert rates(optimizer) == pytest.approx([1e-1, 1e-3, 1e-5], rel=1e-6)
    assert optimizer.param_groups[0]["lr"] is shared


def test_get_lr_outside_of_a_step_changes_nothing():
    optimizer = sgd([0.1, 0.1])
    curriculum = LeRaC(optimizer, 4, min_lr=1e-4)
    untouched = copy.deepcopy(curriculum.state_dict())
    with pytest.warns(UserWarning, match="get_last_lr"):
        assert curriculum.get_lr() == rates(optimizer)
    assert curriculum.state_dict() == untouched


def test_warns_as_torch_does_if_the_optimizer_was_not_stepped():
    def warnings_of(scheduler):
        with pytest.warns(UserWarning, match=r"before `optimizer\.step\(\)`") as caught:
            scheduler.step()
        return [(str(warning.message), warning.filename) for warning in caught]

    ours = warnings_of(LeRaC(sgd([0.1, 0.1]), 4, min_lr=1e-4))
    assert ours == warnings_of(torch.optim.lr_scheduler.ConstantLR(sgd([0.1, 0.1])))


def test_step_with_an_epoch_uses_the_closed_form():
    optimizer = sgd([0.1, 0.1])
    curriculum = LeRaC(optimizer, 4, min_lr=1e-4)
    optimizer.step()
    for epoch in (3, 1, 9):
        with pytest.warns(UserWarning, match="epoch parameter"):
            curriculum.step(epoch)
        assert rates(optimizer) == pytest.approx([0.1, reference.eq8(1e-4, 0.1, min(epoch, 4), 4)], rel=1e-12)


# Refusals and warnings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_iters": -1, "min_lr": 1e-4}, "total_iters=-1"),
        ({"total_iters": 2.5, "min_lr": 1e-4}, r"total_iters=2\.5"),
        ({"total_iters": True, "min_lr": 1e-4}, "total_iters=True"),
        ({"min_lr": 0.0}, "exponential curve cannot start at zero"),
        ({"min_lr": 0.0, "curve": "logarithmic"}, "logarithmic curve cannot start at zero"),
        ({"min_lr": 0.0, "curve": "decades"}, "decades curve cannot start at zero"),
        ({"min_lr": math.nan}, "min_lr=nan"),
        ({"min_lr": math.inf}, "min_lr=inf"),
        ({"min_lr": -1e-8}, "min_lr=-1e-08"),
        ({"min_lr": 0.3}, r"min_lr=0\.3 .*above the base rate, 0\.2"),
        ({"min_lr": 1e-4, "max_lr": 0.3}, r"max_lr=0\.3"),
        ({"min_lr": 1e-2, "max_lr": 1e-3}, r"min_lr=0\.01 exceeds max_lr=0\.001"),
        (
            {"min_lr": 1e-4, "curve": "quadratic"},
            "'quadratic' is unknown.*exponential, linear, logarithmic, cosine",
        ),
        ({}, "give min_lr"),
        ({"max_lr": 0.1}, "give min_lr"),
        ({"initial_lrs": [0.1, 1e-2, 1e-3], "min_lr": 1e-3}, "not both"),
        ({"initial_lrs": [0.1, 1e-2, 1e-3], "max_lr": 1e-1}, "not both"),
        ({"initial_lrs": [0.1, 1e-2]}, "2 rates for 3 param groups"),
        ({"initial_lrs": [0.1, 0.15, 1e-3]}, r"initial_lrs\[1\]=0\.15"),
        ({"initial_lrs": [0.1, 0.1, 0.0]}, r"initial_lrs\[2\]=0\.0"),
        ({"initial_lrs": [0.1, math.nan, 1e-3]}, r"initial_lrs\[1\]=nan"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_changed(arguments, message):
    optimizer = sgd([0.2, 0.1, 0.1])
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=message):
        LeRaC(optimizer, **{"total_iters": 10, **arguments})
    assert optimizer.state_dict() == before
    assert not hasattr(optimizer.step, "_wrapped_by_lr_sched")


def test_depths_on_some_groups_only_are_refused():
    optimizer = sgd([0.1] * 3, depths=[1, None, 2])
    with pytest.raises(ValueError, match=r"param groups \[1\] have no 'depth'"):
        LeRaC(optimizer, 10, min_lr=1e-4)
    assert "initial_lr" not in optimizer.param_groups[0]


def test_a_float32_rate_is_not_refused_for_its_rounding():
    optimizer = torch.optim.SGD(groups_at([1, 2]), lr=torch.tensor(0.7))
    assert float(optimizer.param_groups[0]["lr"]) < 0.7
    LeRaC(optimizer, 10, initial_lrs=[0.7, 1e-3])
    assert rates(optimizer)[0] == float(torch.tensor(0.7))


@pytest.mark.parametrize(
    ("optimizer", "min_lr"),
    [
        (torch.optim.LBFGS([torch.zeros(2, requires_grad=True)], lr=0.1), 1e-4),
        (sgd([0.1] * 3, depths=[5, 5, 5]), 1e-4),
        (sgd([0.1] * 3), 0.1),
    ],
)
def test_warns_if_there_is_nothing_to_do(optimizer, min_lr):
    before = rates(optimizer)
    with pytest.warns(UserWarning, match="nothing to do") as caught:
        LeRaC(optimizer, 10, min_lr=min_lr)
    assert caught[0].filename == __file__
    assert rates(optimizer) == before


def test_warns_if_rates_rise_with_depth():
    with pytest.warns(UserWarning, match="rise with depth") as caught:
        LeRaC(sgd([0.1] * 3), 10, initial_lrs=[1e-4, 1e-2, 0.1])
    assert caught[0].filename == __file__
    LeRaC(sgd([0.1] * 3, depths=[3, 2, 1]), 10, initial_lrs=[1e-4, 1e-2, 0.1])
    LeRaC(sgd([0.1] * 3, depths=[1, 2, 2]), 10, initial_lrs=[1e-1, 1e-4, 1e-2])
