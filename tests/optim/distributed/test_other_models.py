"""Checkpoints and orders of another model: every rank says which parameter it is, and nothing has changed."""

from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh

from lerac_fast import layer_groups, layer_order
from lerac_fast.optim import AdamW, regroup
from tests.optim.cases import assert_equal
from tests.optim.distributed.test_resharding import recipes, train
from tests.optim.distributed.test_training import shard
from tests.processes import Processes


def sharded(name: str, width: int) -> nn.Module:
    net = nn.Sequential(OrderedDict({name: nn.Linear(width, 3), "head": nn.Linear(3, 2)}))
    return shard(net, init_device_mesh("cpu", (distributed.get_world_size(),)))


def parts(net: nn.Module) -> list[Tensor]:
    return [param.detach().to_local().clone() for param in net.parameters()]  # type: ignore[operator]


OTHERS = [("other", 4, r"other\.weight"), ("stem", 5, r"stem\.weight")]  # another name, another shape


def _of_another_model(rank: int, folder: str, name: str, width: int, message: str) -> None:
    net = sharded("stem", 4)
    optimizer = AdamW(layer_groups(net))
    train(net, optimizer, range(2))
    recipes()["save"](folder, net, optimizer)
    whole = get_optimizer_state_dict(net, optimizer, options=StateDictOptions(full_state_dict=True))

    other = sharded(name, width)
    reader = AdamW(layer_groups(other))
    before, groups = parts(other), [dict(group) for group in reader.param_groups]
    with pytest.raises(ValueError, match=message):
        regroup(whole, reader)
    if name == "other":
        with pytest.raises(ValueError, match=r"'other\.weight' here and 'stem\.weight' in the state dict"):
            reader.load_state_dict(whole)
    path = f"{folder} of rank {rank}"
    if rank == 0:
        torch.save(whole, path)
    with pytest.raises(RuntimeError, match=rf"of rank 0 cannot be loaded: .*{message}"):
        recipes()["load_from_rank_0"](path, other, reader)
    assert not reader.state
    with pytest.raises(CheckpointException, match=rf"(?s){message}"):
        recipes()["load"](folder, other, reader)
    assert reader.param_groups == groups
    for param, part in zip(other.parameters(), before, strict=True):
        assert_equal(param.detach().to_local(), part)
    distributed.barrier()  # nobody waits for another


@pytest.mark.parametrize(("name", "width", "message"), OTHERS)
def test_a_state_dict_of_another_model(two: Processes, tmp_path: Path, name: str, width: int, message: str) -> None:
    two.run(_of_another_model, str(tmp_path / "saved"), name, width, message)


def _order_of_another_model(_: int) -> None:
    net = sharded("stem", 4)
    order = layer_order(net, example_inputs=torch.ones(1, 4))
    del order["stem.bias"]
    with pytest.raises(ValueError, match=r"order is of another model: the order has no 'stem\.bias'"):
        layer_groups(net, order=order)
    with pytest.raises(ValueError, match=r"order is of another model: .*the model has no 'stem\.bias'"):
        layer_groups(sharded("other", 4), order={"stem.bias": 1})
    distributed.barrier()


def test_an_order_that_does_not_know_a_parameter(two: Processes) -> None:
    two.run(_order_of_another_model)
