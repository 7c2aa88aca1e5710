"""Groups of a model whose parts are in two processes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from lerac_fast import layer_groups, layer_order
from tests.layers.test_sharded import Reversed, X, parallelize, shard_all, train, whole


def sharded(model: nn.Module, kind: str) -> nn.Module:
    if kind == "both":
        mesh = dist.init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "model"))
        return fully_shard(parallelize(model, mesh["model"]), mesh=mesh["data"])
    mesh = dist.init_device_mesh("cpu", (2,))
    return shard_all(model, mesh=mesh) if kind == "fsdp2" else parallelize(model, mesh)


def names_and_depths(groups: list[dict]) -> list[tuple[str, int]]:
    return [(group["name"], group["depth"]) for group in groups]


def _one_rank_alone(rank: int, kind: str, measuring: int) -> None:
    torch.manual_seed(0)
    model = Reversed()
    expected = names_and_depths(layer_groups(model, example_inputs=X))
    order = layer_order(model, example_inputs=X)
    sharded(model, kind)
    if rank == measuring:  # it would wait for the other in a collective
        assert names_and_depths(layer_groups(model, example_inputs=X)) == expected
    groups = layer_groups(model, order=order)
    assert names_and_depths(groups) == expected
    before = [whole(parameter).clone() for parameter in model.parameters()]
    train(model, groups)
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert not torch.equal(whole(parameter), value)


@pytest.mark.parametrize("kind", ["fsdp2", "tensor parallelism", "both"])
@pytest.mark.parametrize("measuring", [0, 1])
def test_a_rank_measures_alone_and_all_train(two, kind, measuring):
    two.run(_one_rank_alone, kind, measuring)
