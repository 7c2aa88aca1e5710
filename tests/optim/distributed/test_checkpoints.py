"""State dicts of DTensors through torch.distributed.checkpoint."""

import tempfile
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed import checkpoint
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from tests.optim.cases import TYPICAL, Case, assert_equal
from tests.optim.distributed.test_training import a_group_each, backward, model, shard
from tests.processes import Processes


def trained(case: Case, steps: range, make: str = "fast") -> tuple[nn.Module, torch.optim.Optimizer]:
    net = shard(model(), init_device_mesh("cpu", (distributed.get_world_size(),)))
    optimizer = getattr(case, make)(a_group_each(net))
    train(net, optimizer, steps)
    return net, optimizer


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        backward(net, step)
        optimizer.step()
        optimizer.zero_grad()


def full(value: Any) -> Any:
    return value.full_tensor() if isinstance(value, DTensor) else value


def _first_states(_: int) -> None:
    """Made by a step with zero gradients and lr 0, to have something to load into."""
    for case in TYPICAL:
        net, optimizer = trained(case, range(0))
        before = [param.detach().to_local().clone() for param in net.parameters()]
        rates = [group["lr"] for group in optimizer.param_groups]
        made = get_optimizer_state_dict(net, optimizer)["state"]
        expected = get_optimizer_state_dict(*trained(case, range(0), "torch"))["state"]
        assert made.keys() == expected.keys()
        for name, state in expected.items():
            assert made[name].keys() == state.keys()
            for key, value in state.items():
                assert type(made[name][key]) is type(value)
                assert getattr(made[name][key], "_spec", None) == getattr(value, "_spec", None)
        for param, local in zip(net.parameters(), before, strict=True):
            assert_equal(param.detach().to_local(), local)
            assert param.grad is None
        assert [group["lr"] for group in optimizer.param_groups] == rates


def test_states_that_a_checkpoint_makes_first(two: Processes) -> None:
    two.run(_first_states)


def _round_trip(_: int, folder: str, to: str, since: str, options: StateDictOptions) -> None:
    """Three steps, a file, three more with another optimizer: as six steps of one."""
    for index, case in enumerate(case for case in TYPICAL if case.is_of_torch):
        path = f"{folder}/{index}"
        net, optimizer = trained(case, range(3), since)
        state = {
            "model": get_model_state_dict(net, options=options),
            "optimizer": get_optimizer_state_dict(net, optimizer, options=options),
        }
        other, resumed = trained(case, range(0), to)
        if options.full_state_dict:
            loaded = state  # rank 0 alone has it
        else:
            checkpoint.save(state, checkpoint_id=path)
            loaded = {
                "model": get_model_state_dict(other),
                "optimizer": get_optimizer_state_dict(other, resumed),
            }
            checkpoint.load(loaded, checkpoint_id=path)
        set_model_state_dict(other, loaded["model"], options=options)
        set_optimizer_state_dict(other, resumed, loaded["optimizer"], options=options)
        train(other, resumed, range(3, 6))
        expected = trained(case, range(6))
        for param, p in zip(other.parameters(), expected[0].parameters(), strict=True):
            torch.testing.assert_close(param.full_tensor(), p.full_tensor(), rtol=1e-11, atol=1e-12)
            for key, value in expected[1].state[p].items():
                found = resumed.state[param][key]
                torch.testing.assert_close(full(found), full(value), rtol=1e-11, atol=1e-12)
                if key != "step":
                    assert found.placements == value.placements


@pytest.mark.parametrize(("since", "to"), [("fast", "fast"), ("torch", "fast"), ("fast", "torch")])
def test_sharded_files(two: Processes, since: str, to: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        two.run(_round_trip, folder, to, since, StateDictOptions())


@pytest.mark.parametrize(("since", "to"), [("fast", "fast"), ("torch", "fast")])
def test_full_state_dicts(two: Processes, since: str, to: str) -> None:
    two.run(_round_trip, "", to, since, StateDictOptions(full_state_dict=True, broadcast_from_rank0=True))


def _own_state_dict(_: int) -> None:
    """optimizer.state_dict() and load_state_dict(), of the same sharding."""
    for case in TYPICAL:
        net, optimizer = trained(case, range(3))
        resumed = case.fast(a_group_each(net))
        resumed.load_state_dict(optimizer.state_dict())
        train(net, resumed, range(3, 6))
        for param, p in zip(net.parameters(), trained(case, range(6))[0].parameters(), strict=True):
            assert_equal(param.full_tensor(), p.full_tensor())


def test_own_state_dicts(two: Processes) -> None:
    two.run(_own_state_dict)
