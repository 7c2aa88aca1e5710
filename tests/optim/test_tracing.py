"""What is to see every operation of a step sees them: modes, tracers and function transforms get torch's own step."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from tests.optim.cases import Case, assert_equal, typical_cases

PARENTS = "leaves to (torch.optim's own step|a plain step in torch's operations)"


class Dispatched(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append(func._schema.name)
        return func(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@contextmanager
def parents_step_announced(by: str = PARENTS) -> Iterator[None]:
    with pytest.warns(UserWarning, match=by):
        yield


def pair(case: Case, shape: tuple[int, ...] = (3,)) -> tuple[nn.Parameter, Any, nn.Parameter, Any]:
    param = nn.Parameter(torch.arange(3.0).expand(shape).clone() + 1)
    twin = copy.deepcopy(param)
    param.grad, twin.grad = torch.full(shape, 0.5), torch.full(shape, 0.5)
    return param, case.fast([param]), twin, case.torch([twin])


@typical_cases
@pytest.mark.parametrize("mode", [Dispatched, Called])
@pytest.mark.parametrize("first", [True, False])
def test_modes_see_the_operations(case: Case, mode: type, first: bool) -> None:
    param, ours, twin, torchs = pair(case)
    if not first:
        ours.step()
        torchs.step()
    with mode() as ours_seen, parents_step_announced("Mode, which is to see every operation"):
        ours.step()
    with mode() as torchs_seen:
        torchs.step()
    relevant = [name for name in ours_seen.seen if name in torchs_seen.seen]
    assert any(name.endswith("_") for name in relevant)
    torch.testing.assert_close(param, twin)
    ours.step()  # by the kernels again
    torchs.step()
    torch.testing.assert_close(param, twin)


@typical_cases
def test_default_devices_do_not_slow_the_step(case: Case) -> None:
    """They are function modes, too, but of functions that make tensors."""
    param, ours, twin, torchs = pair(case)
    with torch.device("meta"):
        ours.step()  # a warning would be an error
    torchs.step()
    torch.testing.assert_close(param, twin)
    assert {value.device.type for value in ours.state[param].values()} == {"cpu"}
    with torch.device("meta"), Called(), parents_step_announced():
        ours.step()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_make_fx_traces_the_step(momentum: float) -> None:
    """In "real" mode, where the tensors of the trace are plain ones."""
    case = Case("SGD", {"momentum": momentum})

    def step(value: Tensor, gradient: Tensor, buffer: Tensor) -> Tensor:
        param = value.clone().requires_grad_()
        param.grad = gradient
        optimizer = case.fast([param], lr=0.5)
        optimizer.state[param]["momentum_buffer"] = buffer.clone()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.step()
        return param.detach()

    graph = make_fx(step)(torch.ones(3), torch.ones(3), torch.ones(3))
    inputs = torch.tensor([3.0, 4.0, 5.0]), torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0])
    traced = graph(*inputs)
    assert not torch.equal(traced, inputs[0])
    torch.testing.assert_close(traced, step(*inputs))


@pytest.mark.skipif(not hasattr(torch.optim, "swap_in_optimizer_params_and_state"), reason="of torch 2.14")
def test_swapped_in_stand_ins_are_traced_and_inputs_left_alone() -> None:
    param, ours, _, _ = pair(Case("SGD", {"momentum": 0.9}))
    ours.step()
    before = param.detach().clone()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    state = ours.state_dict()
    with mode:
        stand_ins = {"p": mode.from_tensor(param)}
        stand_in_state = torch.utils._pytree.tree_map_only(Tensor, mode.from_tensor, state)
    stand_in_gradient = mode.from_tensor(torch.ones(3))

    def step(params: dict[str, Tensor], state: dict[str, Any], gradient: Tensor) -> Any:
        params["p"].grad = gradient
        with torch.optim.swap_in_optimizer_params_and_state(ours, params, state), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours.step()
        return params, state

    graph = make_fx(step)(stand_ins, stand_in_state, stand_in_gradient)
    assert any(str(node.target).split(".")[1].endswith("_") for node in graph.graph.nodes if node.op == "call_function")
    assert_equal(param.detach(), before)


@typical_cases
def test_a_first_step_under_fake_tensors_is_torchs(case: Case) -> None:
    param, ours, twin, torchs = pair(case)
    with FakeTensorMode(allow_non_fake_inputs=True), parents_step_announced():
        ours.step()
    with FakeTensorMode(allow_non_fake_inputs=True):
        torchs.step()
    assert_equal(param.detach(), twin.detach())
    assert {type(value) for value in ours.state[param].values()} == {
        type(value) for value in torchs.state[twin].values()
    }


def test_function_transforms_get_torchs_step() -> None:
    outcomes = []
    for make in (Case("SGD").fast, Case("SGD").torch):
        param = nn.Parameter(torch.ones(3))
        optimizer = make([param])

        def loss(x: Tensor, param: nn.Parameter = param, optimizer: Any = optimizer) -> Tensor:
            param.grad = x
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                optimizer.step()
            return (param * x).sum()

        try:
            outcomes.append(torch.func.vmap(loss)(torch.ones(2, 3)))
        except RuntimeError as error:
            outcomes.append(str(error)[:60])
    assert str(outcomes[0]) == str(outcomes[1])


def test_an_overflow_is_heeded_under_modes() -> None:
    param, ours, _, _ = pair(Case("SGD"))
    before = param.detach().clone()
    ours.grad_scale, ours.found_inf = torch.tensor(4.0), torch.tensor(1.0)
    with Dispatched():
        ours.step()
    assert_equal(param.detach(), before)
    ours.found_inf = torch.tensor(0.0)
    with Dispatched(), parents_step_announced():
        ours.step()
    torch.testing.assert_close(param.detach(), before - 0.02 * 0.5 / 4)
