"""ZeroRedundancyOptimizer: each process has the states of a part of the parameters, as one process has them all."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import lerac_fast.optim
from lerac_fast import LeRaC, layer_groups
from lerac_fast.optim import check_ranks, regroup
from tests.optim.cases import TYPICAL, Case, assert_equal
from tests.optim.distributed.test_resharding import train
from tests.optim.distributed.test_training import model
from tests.processes import Processes

LR = 0.02


def zero(case: Case, net: nn.Module, bucket_view: bool) -> ZeroRedundancyOptimizer:
    return ZeroRedundancyOptimizer(
        layer_groups(net),
        optimizer_class=getattr(lerac_fast.optim, case.name),
        parameters_as_bucket_view=bucket_view,
        lr=LR,
        **case.options,
    )


def curriculum(optimizer: torch.optim.Optimizer) -> LeRaC:
    return LeRaC(optimizer, 4, min_lr=LR / 10)


def train_with(scheduler: LeRaC, net: nn.Module, steps: range) -> None:
    for step in steps:
        train(net, scheduler.optimizer, range(step, step + 1))
        scheduler.step()


def assert_same_state_dicts(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["param_groups"] == expected["param_groups"]
    assert found["state"].keys() == expected["state"].keys()
    for index, state in expected["state"].items():
        assert found["state"][index].keys() == state.keys()
        for key, value in state.items():
            assert_equal(found["state"][index][key], value)


def _as_one_process(rank: int, folder: str, bucket_view: bool) -> None:
    for case in TYPICAL:
        net, twin = DistributedDataParallel(model()), model()
        ours, expected = curriculum(zero(case, net, bucket_view)), curriculum(case.fast(layer_groups(twin), lr=LR))
        check_ranks(ours.optimizer)
        for each, its in ((ours, net), (expected, twin)):
            train_with(each, its, range(3))
        part = ours.optimizer.optim
        assert 0 < len(part.state) < len([*net.parameters()])
        assert type(part) is getattr(lerac_fast.optim, case.name)

        ours.optimizer.consolidate_state_dict(to=0)
        path = f"{folder}/{case.name}"
        if rank == 0:
            saved = ours.optimizer.state_dict()
            assert_same_state_dicts(saved, expected.optimizer.state_dict())
            torch.save(saved, path)
        torch.distributed.barrier()
        resumed = curriculum(zero(case, net, bucket_view))  # of the same parameters
        resumed.optimizer.load_state_dict(torch.load(path))
        resumed.load_state_dict(ours.state_dict())
        for each, its in ((resumed, net), (expected, twin)):
            train_with(each, its, range(3, 6))
        for param, p in zip(net.parameters(), twin.parameters(), strict=True):
            assert_equal(param.detach(), p.detach())
        assert [group["lr"] for group in resumed.optimizer.param_groups] == pytest.approx([LR] * 5)


@pytest.mark.parametrize("bucket_view", [False, True], ids=["tensors", "buckets"])
def test_a_group_for_each_layer_and_a_curriculum(two: Processes, tmp_path: Path, bucket_view: bool) -> None:
    two.run(_as_one_process, str(tmp_path), bucket_view)


def _other_groups(rank: int) -> None:
    """From one group of torch's, in one process, and back."""
    case = Case("AdamW", {"weight_decay": 0.3})
    net, twin = DistributedDataParallel(model()), model()
    one = torch.optim.AdamW(twin.named_parameters(), lr=LR)
    train(twin, one, range(3))
    net.module.load_state_dict(twin.state_dict())
    ours = zero(case, net, True)
    ours.load_state_dict(regroup(copy.deepcopy(one.state_dict()), ours))  # it takes the very tensors
    expected = case.fast(layer_groups(twin), lr=LR)
    expected.load_state_dict(regroup(one.state_dict(), expected))
    for optimizer, its in ((ours, net), (expected, twin)):
        train(its, optimizer, range(3, 6))
    for param, p in zip(net.parameters(), twin.parameters(), strict=True):
        assert_equal(param.detach(), p.detach())
    ours.consolidate_state_dict(to=1)
    if rank == 1:
        assert_same_state_dicts(regroup(ours.state_dict(), one), regroup(expected.state_dict(), one))


def test_states_of_other_groups(two: Processes) -> None:
    two.run(_other_groups)


def _unfrozen(_: int) -> None:
    """A group that is added later: to torch's list of groups, which are all with names."""
    net, twin = model(), model()
    for m in (net, twin):
        m[0].requires_grad_(False)
    ours, expected = zero(Case("SGD"), net, True), Case("SGD").fast(layer_groups(twin), lr=LR)
    for m, optimizer in ((net, ours), (twin, expected)):
        train(m, optimizer, range(2))
        m[0].requires_grad_(True)
        optimizer.add_param_group({"params": [*m.named_parameters()][:6], "lr": LR / 2})
        train(m, optimizer, range(2, 4))
    for param, p in zip(net.parameters(), twin.parameters(), strict=True):
        assert_equal(param.detach(), p.detach())


def test_a_group_that_is_added(two: Processes) -> None:
    two.run(_unfrozen)
