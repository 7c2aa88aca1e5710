"""DTensors of every layout are stepped where they lie, to the bits that one process has."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor

from tests.optim.cases import CASES, TYPICAL, Case, all_cases, all_dtypes, assert_equal, typical_cases
from tests.optim.distributed.tensors import Twins, collectives, generator
from tests.processes import Processes

SHAPES: list[tuple[int, ...]] = [(8, 6), (7, 5), (1, 4), (), (0, 4), (3,)]  # even, uneven and empty shards


def _layouts(mesh: DeviceMesh, *placements: Placement) -> list[tuple[DeviceMesh, tuple[Placement, ...]]]:
    """Of these placements, where the shape has the dimension."""
    return [
        (mesh, tuple(p if not isinstance(p, Shard) or p.dim < len(shape) else Replicate() for p in placements))
        for shape in SHAPES
    ]


@pytest.mark.usefixtures("process_group")
@all_cases
@all_dtypes
def test_parity(case: Case, dtype: torch.dtype) -> None:
    """The whole matrix, where nothing has to be sent."""
    twins = Twins.of(case, SHAPES, _layouts(init_device_mesh("cpu", (1,)), Shard(0)), dtype)
    for _ in range(4):
        twins.set_gradients()
        twins.step()
    twins.check()


def _equal_to_one_process(_: int, cases: list[Case], placements: tuple[Placement, ...], mesh: tuple[int, ...]) -> None:
    for case in cases:
        twins = Twins.of(case, SHAPES, _layouts(init_device_mesh("cpu", mesh), *placements))
        for step in range(3):
            twins.set_gradients()
            before = collectives()
            twins.ours.step()
            assert step == 0 or collectives() == before
            twins.expected.step()
        twins.check()


@pytest.mark.parametrize("placement", [Replicate(), Shard(0), Shard(1)], ids=str)
def test_on_two_processes(two: Processes, placement: Placement) -> None:
    two.run(_equal_to_one_process, CASES, (placement,), (2,))


@pytest.mark.parametrize("placements", [(Replicate(), Shard(0)), (Shard(0), Shard(1)), (Shard(0), Shard(0))], ids=str)
def test_on_meshes_of_two_dimensions(four: Processes, placements: tuple[Placement, ...]) -> None:
    four.run(_equal_to_one_process, TYPICAL, placements, (2, 2))


def _all_in_one_optimizer(_: int, cases: list[Case]) -> None:
    line, square = init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2))
    layouts = [(line, [Shard(0)]), None, (square, [Shard(0), Replicate()]), (line, [Replicate()]), None]
    for case in cases:
        twins = Twins.of(case, [(8, 3), (5,), (7, 2), (4,), (2, 2)], layouts)
        for _ in range(3):
            twins.set_gradients()
            twins.step()
        twins.check()


def test_meshes_and_plain_tensors_in_one_optimizer(four: Processes) -> None:
    four.run(_all_in_one_optimizer, TYPICAL)


def _redistributed(rank: int, cases: list[Case]) -> None:
    mesh = init_device_mesh("cpu", (2,))
    for case in cases:
        twins = Twins.of(case, [(8, 6)] * 4, [(mesh, [Shard(0)])] * 3 + [(mesh, [Replicate()])])
        for _ in range(3):  # by the third, the plan of the step is kept
            twins.set_gradients()
            twins.step()
        for _ in range(3):
            twins.set_gradients([(mesh, [Replicate()]), (mesh, [Shard(1)]), None, None])
            # Sums of which each process has a part: whole numbers, so that they are exact.
            for i in (2, 3):
                twins.whole[i].grad = torch.full((8, 6), 3.0)
                twins.params[i].grad = DTensor.from_local(torch.full((8, 6), 1.0 + rank), mesh, [Partial()])
            gradients = [param.grad for param in twins.params]
            twins.step()
            assert all(param.grad is grad for param, grad in zip(twins.params, gradients, strict=True))
        twins.check()


def test_gradients_of_other_placements_are_redistributed(two: Processes) -> None:
    two.run(_redistributed, TYPICAL)


def test_the_step_is_torchs(two: Processes) -> None:
    two.run(_as_torchs, [case for case in TYPICAL if case.is_of_torch])


def _as_torchs(_: int, cases: list[Case]) -> None:
    """Keys, types, layouts and step counts of torch's state, of each kind of torch's step."""
    mesh = init_device_mesh("cpu", (2,))
    for case in cases:
        for options in [{}, {"fused": True}] if "Adam" in case.name and case.name != "Adamax" else [{}]:
            ours = Twins.of(case, SHAPES, _layouts(mesh, Shard(0)), **options)
            torchs = Twins.of(case, SHAPES, _layouts(mesh, Shard(0)), make="torch", **options)
            for twins in (ours, torchs):
                twins.set_gradients()
                twins.ours.step()
            for group, expected in zip(ours.ours.param_groups, torchs.ours.param_groups, strict=True):
                assert group.keys() == expected.keys()
            actual, expected = ours.ours.state_dict()["state"], torchs.ours.state_dict()["state"]
            assert actual.keys() == expected.keys()
            for index, state in expected.items():
                assert list(actual[index]) == list(state)
                for key, value in state.items():
                    found = actual[index][key]
                    assert type(found) is type(value)
                    assert getattr(found, "_spec", None) == getattr(value, "_spec", None)
                    assert getattr(found, "_local_tensor", found).shape == getattr(value, "_local_tensor", value).shape
                    torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-7)


# ---- bad input ----


def _sharded(tensor: Tensor, mesh: DeviceMesh) -> DTensor:
    return distribute_tensor(tensor, mesh, [Shard(0)])


def _plain_gradient(param: nn.Parameter, _: torch.optim.Optimizer) -> None:
    param.grad = torch.ones(4, 2)


def _gradient_on_another_mesh(param: nn.Parameter, _: torch.optim.Optimizer) -> None:
    param.grad = distribute_tensor(torch.ones(4, 2), init_device_mesh("cpu", (1, 2)), [Shard(0), Shard(0)])


def _plain_state(param: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    optimizer.state[param]["exp_avg"] = torch.zeros(4, 2)


def _state_on_another_mesh(param: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    _gradient_on_another_mesh(param, optimizer)
    optimizer.state[param]["exp_avg"], param.grad = param.grad, torch.zeros_like(param)


SPOILS: list[tuple[Callable[[nn.Parameter, torch.optim.Optimizer], None], str]] = [
    (_plain_gradient, "its gradient is no DTensor and the parameter is one"),
    (_gradient_on_another_mesh, r"its gradient lies on DeviceMesh.*, and the parameter on DeviceMesh"),
    (_plain_state, "its state 'exp_avg' is no DTensor and the parameter is one"),
    (_state_on_another_mesh, "its state 'exp_avg' lies on DeviceMesh.*, and the parameter on DeviceMesh"),
]


def _refused(_: int, spoil: Callable[[nn.Parameter, torch.optim.Optimizer], None], message: str) -> None:
    twins = Twins.of(Case("Adam"), [(4, 2)] * 3, [(init_device_mesh("cpu", (2,)), [Shard(0)])] * 3)
    twins.set_gradients()
    twins.step()
    twins.set_gradients()
    spoil(twins.params[1], twins.ours)
    for _ in range(2):  # the second time as well
        with pytest.raises(ValueError, match=f"param group 1, parameter 0: {message}"):
            twins.ours.step()
    for param, twin in zip(twins.params, twins.whole, strict=True):
        assert_equal(param.full_tensor(), twin.detach())
        assert twins.ours.state[param]["step"] == 1


@pytest.mark.parametrize(("spoil", "message"), SPOILS)
def test_bad_input(two: Processes, spoil: Callable[[nn.Parameter, torch.optim.Optimizer], None], message: str) -> None:
    two.run(_refused, spoil, message)


@pytest.mark.usefixtures("process_group")
def test_a_gradient_that_is_a_dtensor_of_a_plain_parameter() -> None:
    param = nn.Parameter(torch.ones(4))
    param.grad = _sharded(torch.ones(4), init_device_mesh("cpu", (1,)))
    with pytest.raises(ValueError, match="parameter 0: its gradient is a DTensor and the parameter is not"):
        Case("Adam").fast([param]).step()
    assert_equal(param.detach(), torch.ones(4))


# ---- what is left to torch ----


def _state_of_other_placements(_: int, case: Case) -> None:
    mesh = init_device_mesh("cpu", (2,))
    twins = Twins.of(case, [(4, 2), (4, 2)], [(mesh, [Shard(0)])] * 2)
    twins.set_gradients()
    twins.step()
    state = twins.ours.state[twins.params[1]]
    state["exp_avg"] = state["exp_avg"].redistribute(placements=[Replicate()])
    for step in range(2):
        twins.set_gradients()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            twins.ours.step()
        texts = [str(w.message) for w in caught if "lerac_fast" in str(w.message)]
        assert len(texts) == (step == 0)
        assert all("its state 'exp_avg': with other placements than the parameter's" in text for text in texts)
        twins.expected.step()
    for param, twin in zip(twins.params, twins.whole, strict=True):
        torch.testing.assert_close(param.full_tensor(), twin.detach())


def test_states_of_other_placements_take_torchs_step(two: Processes) -> None:
    two.run(_state_of_other_placements, Case("Adam"))


@pytest.mark.usefixtures("process_group")
@typical_cases
def test_what_the_kernels_do_not_serve_of_dtensors(case: Case) -> None:
    """Complex numbers."""
    numbers = torch.randn(4, dtype=torch.complex64, generator=generator())
    mesh = init_device_mesh("cpu", (1,))
    param, twin = nn.Parameter(_sharded(numbers, mesh)), nn.Parameter(numbers.clone())
    param.grad, twin.grad = _sharded(numbers, mesh), numbers.clone()
    with pytest.warns(UserWarning, match="not float32, float64"):
        case.fast([param]).step()
    case.torch([twin]).step()
    torch.testing.assert_close(param.full_tensor(), twin.detach())
