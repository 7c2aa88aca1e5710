"""Groups of models that are sharded already: measured as if they were whole, with nothing changed in them."""

import os

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import CPUOffloadPolicy, FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from lerac_fast import layer_groups, layer_order
from tests.layers.test_isolation import no_fork
from tests.layers.test_layers import summary
from tests.layers.test_order import FSDP1

pytestmark = pytest.mark.usefixtures("_process_group")

X = torch.linspace(-1, 1, 8).view(2, 4)


class Reversed(nn.Module):
    """Registered from its output to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 2)
        self.third = nn.Linear(8, 8)
        self.norm = nn.LayerNorm(8)
        self.second = nn.Linear(8, 8)
        self.first = nn.Linear(4, 8)
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.third(self.norm(self.second(self.first(x).relu() * self.scale))).relu()).tanh()


def mesh(dims: int = 1) -> dist.DeviceMesh:
    return dist.init_device_mesh("cpu", (1,) * dims, mesh_dim_names=("data", "model")[-dims:])


def shard_all(model: nn.Module, **options) -> nn.Module:
    for child in [*model.children()]:
        fully_shard(child, **{"mesh": mesh(), **options})
    return fully_shard(model, **{"mesh": mesh(), **options})


def shard_together(model: nn.Module) -> nn.Module:
    fully_shard([model.first, model.second], mesh=mesh())
    return fully_shard(model, mesh=mesh())


def parallelize(model: nn.Module, on: dist.DeviceMesh | None = None) -> nn.Module:
    plan = {
        "first": ColwiseParallel(),
        "second": RowwiseParallel(),
        "third": ColwiseParallel(),
        "head": RowwiseParallel(),
    }
    return parallelize_module(model, on or mesh(), plan)


IN_SEQUENCE = {
    "first": ColwiseParallel(),
    "second": RowwiseParallel(output_layouts=Shard(0)),
    "norm": SequenceParallel(sequence_dim=0, use_local_output=True),
    "third": ColwiseParallel(input_layouts=Shard(0)),
    "head": RowwiseParallel(),
}
SHARDINGS = {
    "fsdp2": shard_all,
    "fsdp2, root only": lambda model: fully_shard(model, mesh=mesh()),
    "fsdp2, two modules together": shard_together,
    "fsdp2, kept whole": lambda model: shard_all(model, reshard_after_forward=False),
    "fsdp2, bfloat16": lambda model: shard_all(
        model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    ),
    "fsdp2, offloaded": lambda model: shard_all(model, offload_policy=CPUOffloadPolicy(pin_memory=False)),
    "fsdp2, compiled": lambda model: torch.compile(shard_all(model), backend="eager"),
    "tp": parallelize,
    "tp, replicated": lambda model: distribute_module(
        model, mesh(), input_fn=lambda _, inputs, on: distribute_tensor(inputs[0], on, [Replicate()])
    ),
    "tp, in sequence": lambda model: parallelize_module(model, mesh(), IN_SEQUENCE),
    "tp and fsdp2": lambda model: fully_shard(parallelize(model, mesh(2)["model"]), mesh=mesh(2)["data"]),
}


@pytest.mark.parametrize("shard", SHARDINGS.values(), ids=SHARDINGS)
def test_a_sharded_model_has_the_groups_of_the_whole_one_and_trains_as_if_not_measured(shard):
    torch.manual_seed(1)
    model, twin = Reversed(), Reversed()
    twin.load_state_dict(model.state_dict())
    expected = summary(model, layer_groups(model, example_inputs=X))
    assert [name for _, name, _ in expected] == ["first", "second", "third", "head"]
    order = layer_order(model, example_inputs=X)
    model, twin = shard(model), shard(twin)

    for _ in range(2):  # fresh, and after a step
        groups = layer_groups(model, example_inputs=X)
        assert summary(getattr(model, "_orig_mod", model), groups) == expected
        assert layer_order(model, example_inputs=X) == order
        train(model, groups)
        train(twin, [{"params": [*twin.parameters()]}])
        for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            assert type(mine) is type(theirs)
            assert torch.equal(whole(mine), whole(theirs))


def test_a_model_on_the_meta_device():
    with torch.device("meta"):
        model = shard_all(Reversed())
    assert [group["name"] for group in layer_groups(model, example_inputs=X)] == ["first", "second", "third", "head"]
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.1)
    train(model, layer_groups(model, example_inputs=X))


@pytest.mark.parametrize("arguments", [{}, {"example_inputs": X}], ids=["registration", "example inputs"])
def test_parameters_that_a_pass_has_left_gathered_are_grouped_as_they_are_sharded(arguments):
    model = shard_all(nn.Sequential(Reversed(), nn.Linear(2, 2)), reshard_after_forward=False)
    with torch.no_grad():
        model(X)
    assert not any(isinstance(parameter, DTensor) for parameter in model.parameters())
    groups = layer_groups(model, **arguments)
    assert all(isinstance(parameter, DTensor) for group in groups for parameter in group["params"])
    before = [whole(parameter).clone() for parameter in model.parameters()]
    train(model, groups)
    assert not any(map(torch.equal, map(whole, model.parameters()), before))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def train(model: nn.Module, groups: list[dict]) -> None:
    optimizer = torch.optim.SGD(groups, lr=0.1)
    with torch.compiler.set_stance("force_eager"):
        loss = model(X)
    whole(loss).square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.step()
    model.zero_grad()


def test_without_a_child_the_copy_is_measured_or_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(os, "fork", no_fork)
    expected = [group["name"] for group in layer_groups(Reversed(), example_inputs=X)]
    model = parallelize(Reversed())
    groups = layer_groups(model, example_inputs=X)
    assert [group["name"] for group in groups] == expected
    train(model, groups)
    model = shard_all(Reversed())
    with pytest.raises(
        RuntimeError, match=r"cannot be copied: .*Measure the model by layer_order before it is sharded"
    ):
        layer_groups(model, example_inputs=X)
    train(model, layer_groups(model))


@pytest.mark.parametrize("shard", [shard_all, parallelize])
def test_what_cannot_run_as_if_it_were_whole_is_refused_with_the_way_out_and_trains(shard):
    class Reads(Reversed):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x if x.sum().item() > 1e6 else 2 * x)

    model = Reads()
    order = layer_order(model, example_inputs=X)
    shard(model)
    with pytest.raises(
        RuntimeError, match=r"as if it were not sharded\)\. Measure the model by layer_order before it is"
    ):
        layer_groups(model, example_inputs=X)
    groups = layer_groups(model, order=order)
    assert [group["name"] for group in groups] == ["first", "second", "third", "head"]
    train(model, groups)


def test_fully_sharded_data_parallel_is_refused_with_the_way_out():
    model = nn.Sequential(FullyShardedDataParallel(nn.Linear(4, 4), **FSDP1))
    with pytest.raises(
        ValueError, match=r"sharded by FullyShardedDataParallel.* Measure the model by layer_order before"
    ):
        layer_groups(model, example_inputs=X)
    model(X).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
