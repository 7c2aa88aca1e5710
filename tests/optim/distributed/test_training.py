"""Training loops of torch.distributed: FSDP2, tensor parallelism and their combinations, as in one process."""

from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

from tests.optim.cases import TYPICAL, Case, assert_equal, random
from tests.processes import Processes

WIDTH = 6


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Block(), nn.Linear(WIDTH, 5), nn.Linear(5, 1)).double()


def a_group_each(net: nn.Module) -> list[dict[str, Any]]:
    return [{"params": [p], "lr": 0.01 * (1 + i / 3)} for i, p in enumerate(net.parameters())]


def backward(net: nn.Module, seed: int, rank: int = 0, ranks: int = 1) -> None:
    """Of this rank's share of a batch of 8."""
    inputs = random((8, WIDTH), torch.float64, torch.Generator().manual_seed(seed))
    net(inputs.chunk(ranks)[rank]).square().mean().backward()


def shard(net: nn.Sequential, mesh: DeviceMesh, **options: Any) -> nn.Sequential:
    for layer in net:
        fully_shard(layer, mesh=mesh, **options)
    return fully_shard(net, mesh=mesh, **options)


def assert_same(net: nn.Module, twin: nn.Module, tolerance: float = 1e-12) -> None:
    """The sums of gradients are in another order than in one process."""
    for param, expected in zip(net.parameters(), twin.parameters(), strict=True):
        assert isinstance(param, DTensor)
        torch.testing.assert_close(param.full_tensor(), expected, rtol=tolerance, atol=tolerance)


def _fsdp(rank: int, mesh_shape: tuple[int, ...], reshard: bool, clip: bool, passes: int) -> None:
    ranks = distributed.get_world_size()
    mesh = init_device_mesh("cpu", mesh_shape, mesh_dim_names=("replicas", "shards")[-len(mesh_shape) :])
    for case in TYPICAL if not clip else [Case("AdamW"), Case("SGD", {"momentum": 0.9})]:
        net, twin = shard(model(), mesh, reshard_after_forward=reshard), model()
        ours, expected = case.fast(a_group_each(net)), case.fast(a_group_each(twin))
        for step in range(3):
            for accumulated in range(passes):
                backward(net, step + 10 * accumulated, rank, ranks)
                backward(twin, step + 10 * accumulated)
            if clip:
                for each in (net, twin):
                    nn.utils.clip_grad_norm_(each.parameters(), 0.1)
                for param, other in zip(net.parameters(), twin.parameters(), strict=True):
                    gradient = param.grad.full_tensor()
                    torch.testing.assert_close(gradient, other.grad)
                    other.grad = gradient  # of DTensors, torch 2.9 rounds the factor to float32
            for optimizer in (ours, expected):
                optimizer.step()
                optimizer.zero_grad()
        assert_same(net, twin, 1e-12 if case.name != "Lion" else 1e-9)


@pytest.mark.parametrize(
    ("reshard", "clip", "passes"), [(True, False, 1), (False, False, 1), (True, True, 1), (True, False, 3)]
)
def test_fsdp2(two: Processes, reshard: bool, clip: bool, passes: int) -> None:
    two.run(_fsdp, (2,), reshard, clip, passes)


def test_hybrid_sharding(four: Processes) -> None:
    four.run(_fsdp, (2, 2), True, True, 1)


def _tensor_parallel(_: int, sharded: bool) -> None:
    mesh = init_device_mesh("cpu", (2, distributed.get_world_size() // 2), mesh_dim_names=("data", "tensor"))
    for case in [case for case in TYPICAL if case.name != "Lion"]:  # the sign of zero is noise here
        net, twin = model(), model()
        parallelize_module(net, mesh["tensor"], {"0.up": ColwiseParallel(), "0.down": RowwiseParallel()})
        ranks = 1
        if sharded:
            ranks = mesh["data"].size()
            shard(net, mesh["data"])
            assert any(isinstance(p, _StridedShard) for q in net.parameters() for p in q.placements)
        ours, expected = case.fast(a_group_each(net)), case.fast(a_group_each(twin))
        for step in range(3):
            backward(net, step, mesh["data"].get_local_rank() if sharded else 0, ranks)
            backward(twin, step)
            for optimizer in (ours, expected):
                optimizer.step()
                optimizer.zero_grad()
        for param, p in zip(net.parameters(), twin.parameters(), strict=True):
            param = param.full_tensor() if isinstance(param, DTensor) else param
            torch.testing.assert_close(param, p, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("sharded", [False, True], ids=["alone", "with FSDP2"])
def test_tensor_parallelism(four: Processes, sharded: bool) -> None:
    four.run(_tensor_parallel, sharded)


def _scaled(rank: int, fused: bool) -> None:
    """In the second step, one rank alone sees an infinity: no rank may step."""
    mesh = init_device_mesh("cpu", (2,))
    for case in TYPICAL:
        net = shard(model().float(), mesh)
        optimizer = case.fused(a_group_each(net)) if fused else case.fast(a_group_each(net))
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        for step in range(3):
            before = [p.detach().to_local().clone() for p in net.parameters()]
            inputs = random((4, WIDTH), torch.float32, torch.Generator().manual_seed(step))
            if step == 1 and rank == 0:
                inputs[0, 0] = float("inf")
            scaler.scale(net(inputs).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            same = all(torch.equal(p.to_local(), b) for p, b in zip(net.parameters(), before, strict=True))
            assert same == (step == 1)
        assert scaler.get_scale() == 512.0
        twin = model().float()
        expected = case.fast(a_group_each(twin))
        for step in (0, 2):
            inputs = random((4, WIDTH), torch.float32, torch.Generator().manual_seed(step))
            twin(inputs).square().mean().backward()
            expected.step()
            expected.zero_grad()
        if case.name == "SGD":  # whose steps are no larger where a gradient is noise
            assert_same(net, twin, 1e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_loss_scaling(two: Processes, fused: bool) -> None:
    two.run(_scaled, fused)


def _policies(rank: int, name: str) -> None:
    mesh = init_device_mesh("cpu", (2,))
    policies: dict[str, dict[str, Any]] = {
        "mixed precision": {
            "mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32),
        },
        "offload": {"offload_policy": CPUOffloadPolicy(pin_memory=False)},
        "bfloat16": {"mp_policy": MixedPrecisionPolicy(reduce_dtype=torch.float32)},
    }
    dtype = torch.bfloat16 if name == "bfloat16" else torch.float32
    for case in TYPICAL:
        nets = [shard(model().to(dtype), mesh, **policies[name]) for _ in range(2)]
        ours, torchs = case.fast(a_group_each(nets[0])), case.torch(a_group_each(nets[1]))
        for step in range(3):
            for net, twin in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
                twin.data.copy_(net.data)
            for net, optimizer in zip(nets, (ours, torchs), strict=True):
                inputs = random((4, WIDTH), dtype, torch.Generator().manual_seed(step + 10 * rank))
                net(inputs).float().square().mean().backward()
                optimizer.step()
            for param, twin in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
                assert param.dtype == param.grad.dtype == dtype
                tolerance = 2e-2 if dtype == torch.bfloat16 else 1e-5
                torch.testing.assert_close(param.to_local(), twin.to_local(), rtol=tolerance, atol=tolerance)
                param.grad = twin.grad = None


@pytest.mark.parametrize("name", ["mixed precision", "offload", "bfloat16"])
def test_policies_of_fsdp2(two: Processes, name: str) -> None:
    two.run(_policies, name)


def _swapped(_: int) -> None:
    """As Accelerate does: an optimizer of plain parameters, whose places the DTensors take before the first step."""
    net, twin = model(), model()
    optimizer, expected = Case("AdamW").fast(a_group_each(net)), Case("AdamW").fast(a_group_each(twin))
    shard(net, init_device_mesh("cpu", (2,)))
    for group, param in zip(optimizer.param_groups, net.parameters(), strict=True):
        group["params"] = [param]
    for step in range(2):
        for m, o in ((net, optimizer), (twin, expected)):
            backward(m, step)
            o.step()
            o.zero_grad()
    assert_same(net, twin)


def test_parameters_that_are_swapped_after_construction(two: Processes) -> None:
    two.run(_swapped)


def _frozen(_: int) -> None:
    """A layer without gradients, for some of the steps."""
    net, twin = shard(model(), init_device_mesh("cpu", (2,))), model()
    ours, expected = Case("Adam").fast(a_group_each(net)), Case("Adam").fast(a_group_each(twin))
    for step in range(4):
        for m, o in ((net, ours), (twin, expected)):
            backward(m, step)
            if step % 2:
                for param in m[0].parameters():
                    param.grad = None
            o.step()
            o.zero_grad()
    assert_same(net, twin)
    for param, p in zip(net.parameters(), twin.parameters(), strict=True):
        assert_equal(ours.state[param]["step"], expected.state[p]["step"])


def test_parameters_without_gradient(two: Processes) -> None:
    two.run(_frozen)
