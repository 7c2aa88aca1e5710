"""The few numbers of LeRaC that are logged in place of a curve per group."""

import copy

import pytest
import torch
from torch.optim.lr_scheduler import ChainedScheduler, CosineAnnealingLR, ExponentialLR, SequentialLR

from lerac_fast import LeRaC
from tests.lerac.rates import rates, run, sgd

K = 4


def test_the_rates_of_three_groups_and_the_share_at_the_base_rate():
    optimizer = sgd([0.1, 0.1, 0.2, 0.1, 0.1], depths=[3, 1, 1, 4, 2])  # by depth: groups 1, 2, 4, 0, 3
    curriculum = LeRaC(optimizer, K, min_lr=1e-4)
    for step in range(K + 2):
        _, first, _, last, middle = rates(optimizer)
        assert curriculum.summary() == {
            "input_lr": first,
            "middle_lr": middle,
            "output_lr": last,
            "at_base_rate": 0.4 if step < K else 1.0,
        }
        run(optimizer, curriculum, 1)


def test_of_curves_that_reach_the_base_rate_one_after_the_other():
    optimizer = sgd([0.1] * 4)
    curriculum = LeRaC(optimizer, 6, initial_lrs=[0.1, 1e-2, 1e-3, 1e-4], curve="decades")
    shares = [curriculum.summary()["at_base_rate"]]
    for _ in range(6):
        run(optimizer, curriculum, 1)
        shares.append(curriculum.summary()["at_base_rate"])
    assert shares == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0]


def test_without_depths_and_with_tensor_rates():
    parameters = [torch.zeros(2, requires_grad=True) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [p]} for p in parameters], lr=torch.tensor(0.1))
    summary = LeRaC(optimizer, K, min_lr=1e-3, max_lr=1e-2).summary()
    assert [type(number) for number in summary.values()] == [float] * 4
    assert summary == pytest.approx({"input_lr": 1e-2, "middle_lr": 1e-3, "output_lr": 1e-3, "at_base_rate": 0.0})


def test_it_changes_nothing():
    def table(look):
        optimizer = sgd([0.1, 0.2, 0.3])
        curriculum = ChainedScheduler([LeRaC(optimizer, K, min_lr=1e-6), ExponentialLR(optimizer, 0.9)], optimizer)
        found = []
        for _ in range(K + 2):
            if look:
                before = copy.deepcopy(curriculum.state_dict())
                curriculum._schedulers[0].summary()
                assert curriculum.state_dict() == before
            found += run(optimizer, curriculum, 1)
        return found

    assert table(look=True) == table(look=False)


def test_in_a_sequence_the_share_is_that_of_its_last_step():
    optimizer = sgd([0.1, 0.1])
    curriculum = LeRaC(optimizer, K, min_lr=1e-3)
    sequence = SequentialLR(optimizer, [curriculum, CosineAnnealingLR(optimizer, 10)], milestones=[K])
    run(optimizer, sequence, K + 3)
    assert curriculum.summary() == {
        **dict.fromkeys(("input_lr", "middle_lr", "output_lr"), rates(optimizer)[0]),
        "at_base_rate": 0.5,
    }


def test_groups_that_come_and_go():
    optimizer = sgd([0.1, 0.1, 0.1])
    curriculum = LeRaC(optimizer, K, min_lr=1e-3)
    optimizer.add_param_group({"params": [torch.zeros(2, requires_grad=True)], "lr": 7.0})
    del optimizer.param_groups[2]
    run(optimizer, curriculum, 1)
    first, second, _ = rates(optimizer)
    assert curriculum.summary() == {
        "input_lr": first,
        "middle_lr": second,
        "output_lr": second,
        "at_base_rate": 0.5,
    }
    del optimizer.param_groups[:2]
    with pytest.raises(RuntimeError, match="none of the param groups that LeRaC knows"):
        curriculum.summary()
