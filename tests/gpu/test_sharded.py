"""Parameters that are DTensors of a GPU's mesh, with a process group of one rank (NCCL): several need several GPUs."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard

from tests.gpu.test_training_loop import captured, on_a_side_stream
from tests.optim.cases import Case, all_dtypes, assert_equal, groups, random, typical_cases

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.filterwarnings("ignore:Attempting to run cuBLAS.*no current CUDA context:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*barrier.*device:UserWarning"),
]

SHAPES = [(65, 67), (3,), (0, 4), (1,), (4097,), (16, 8, 3, 3)]


@pytest.fixture(scope="module")
def mesh(device: torch.device, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeviceMesh]:
    if not distributed.is_available():
        pytest.skip("needs torch.distributed")
    store = tmp_path_factory.mktemp("store") / "store"
    communication = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(communication, init_method=f"file://{store}", rank=0, world_size=1)
    yield init_device_mesh(device.type, (1,))
    distributed.destroy_process_group()


class Twins:
    """DTensors, and the plain tensors of which they consist."""

    def __init__(self, case: Case, mesh: DeviceMesh, dtype: torch.dtype = torch.float32, **options: bool) -> None:
        self.mesh, self.generator = mesh, torch.Generator().manual_seed(0)
        self.plain = [nn.Parameter(self._random(shape, dtype)) for shape in SHAPES]
        self.sharded = [nn.Parameter(self._sharded(param.detach().clone())) for param in self.plain]
        self.ours, self.expected = (case.fast(groups(of), **options) for of in (self.sharded, self.plain))

    def _random(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return random(shape, dtype, self.generator).to(self.mesh.device_type)

    def _sharded(self, local: Tensor) -> DTensor:
        return DTensor.from_local(local, self.mesh, [Shard(0)])

    def new_gradients(self) -> None:
        for param, twin in zip(self.sharded, self.plain, strict=True):
            twin.grad = self._random(twin.shape, twin.dtype)
            param.grad = self._sharded(twin.grad.clone())

    def assert_equal(self) -> None:
        """Bit for bit, states included."""
        for param, twin in zip(self.sharded, self.plain, strict=True):
            assert_equal(param.detach().to_local(), twin.detach())
            states = self.ours.state.get(param, {}), self.expected.state.get(twin, {})
            assert states[0].keys() == states[1].keys()
            for state, expected in zip(*(of.values() for of in states), strict=True):
                assert_equal(state.to_local() if isinstance(state, DTensor) else state, expected)


@typical_cases
@all_dtypes
def test_steps_as_plain_tensors_do(
    case: Case,
    dtype: torch.dtype,
    mesh: DeviceMesh,
    no_synchronization: Callable[[], AbstractContextManager[None]],
) -> None:
    """And without waiting for the device."""
    twins = Twins(case, mesh, dtype)
    for step in range(3):
        twins.new_gradients()
        if step:
            with no_synchronization():
                twins.ours.step()
        else:  # which makes the states
            twins.ours.step()
        twins.expected.step()
        twins.assert_equal()


@pytest.mark.parametrize("case", [Case("AdamW", {"weight_decay": 0.3}), Case("SGD", {"momentum": 0.9})], ids=str)
def test_replays_are_steps(case: Case, mesh: DeviceMesh, cuda: torch.device) -> None:  # noqa: ARG001  # skips without
    twins = Twins(case, mesh, **({"capturable": True} if case.name == "AdamW" else {}))
    twins.new_gradients()
    on_a_side_stream(twins.ours.step)
    twins.expected.step()
    graph = captured(twins.ours.step)
    for _ in range(3):
        for param, twin in zip(twins.sharded, twins.plain, strict=True):
            twin.grad.mul_(-0.75)
            param.grad.to_local().mul_(-0.75)
        graph.replay()
        twins.expected.step()
        twins.assert_equal()


def _model(device: torch.device) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 64), nn.ReLU(), nn.LayerNorm(64), nn.Linear(64, 3)).to(device)


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> list[float]:
    losses = []
    for step in range(5):
        inputs = random((8, 6), torch.float32, torch.Generator().manual_seed(step)).to(device)
        loss = model(inputs).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def _policy(name: str, device: torch.device) -> dict[str, Any]:
    if name == "bfloat16":
        return {"mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)}
    return {"offload_policy": CPUOffloadPolicy(pin_memory=device.type == "cuda")} if name == "offload" else {}


@typical_cases
@pytest.mark.parametrize("policy", ["none", "bfloat16", "offload"])
def test_fsdp2(case: Case, policy: str, mesh: DeviceMesh, device: torch.device) -> None:
    """The losses are those of torch's optimizer."""
    losses = []
    for make in (case.fast, case.torch):
        model = _model(device)
        for layer in (model[0], model[3], model):
            fully_shard(layer, mesh=mesh, **_policy(policy, device))
        losses.append(_train(model, make(groups(list(model.parameters()))), device))
        on_the_cpu = {param.device.type == "cpu" for param in model.parameters()}
        assert on_the_cpu == {policy == "offload" or device.type == "cpu"}
    torch.testing.assert_close(*losses, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_loss_scaling(fused: bool, mesh: DeviceMesh, device: torch.device) -> None:
    """An overflow leaves everything as it is."""
    model = fully_shard(_model(device), mesh=mesh)
    case = Case("AdamW")
    optimizer = (case.fused if fused else case.fast)(groups(list(model.parameters())))
    scaler = torch.amp.GradScaler(device.type, init_scale=1024.0)
    for step in range(3):
        before = [param.detach().to_local().clone() for param in model.parameters()]
        inputs = torch.ones(4, 6, device=device) * (float("inf") if step == 1 else 1.0)
        scaler.scale(model(inputs).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        same = all(torch.equal(p.to_local(), b) for p, b in zip(model.parameters(), before, strict=True))
        assert same == (step == 1)
    assert scaler.get_scale() == 512.0


@typical_cases
def test_states_go_through_distributed_checkpoints(case: Case, mesh: DeviceMesh, device: torch.device) -> None:
    """Of torch's functions for them: training goes on to the bit."""
    models = [fully_shard(_model(device), mesh=mesh) for _ in range(2)]
    optimizers = [case.fast(groups(list(model.parameters()))) for model in models]
    _train(models[0], optimizers[0], device)
    models[1].load_state_dict(models[0].state_dict())
    saved = copy.deepcopy(get_optimizer_state_dict(models[0], optimizers[0]))
    set_optimizer_state_dict(models[1], optimizers[1], saved)
    assert _train(models[0], optimizers[0], device) == _train(models[1], optimizers[1], device)
    for param, twin in zip(*(model.parameters() for model in models), strict=True):
        assert_equal(param.detach().to_local(), twin.detach().to_local())
