"""Operands that are no plain numbers in memory: torch's step, with a warning, or its refusal; never a raw pointer."""

import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import Replicate, distribute_tensor

import lerac_fast.optim
from tests.optim.cases import TYPICAL, Case, assert_equal, typical_cases

WITH_STATES = [*TYPICAL, Case("Adam", {"amsgrad": True})]


class Wrapped(Tensor):
    """A subclass without memory of its own, around a tensor that has it, as DTensor and 8-bit states are."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wrapped":
        wrapped: Wrapped = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)  # type: ignore[assignment]
        wrapped.inner = inner
        return wrapped

    def __init__(self, inner: Tensor) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        def unwrap(x: Any) -> Any:
            return x.inner if isinstance(x, Wrapped) else x

        out = func(*map(unwrap, args), **{key: unwrap(value) for key, value in (kwargs or {}).items()})
        return args[0] if func._schema.name.endswith("_") else out


def negated(tensor: Tensor) -> Tensor:
    """The same numbers, behind a negation that is still to be done."""
    return torch._neg_view(-tensor)


SPECIAL = [Wrapped, negated]
all_special = pytest.mark.parametrize("special", SPECIAL)


def after_one_step(make: Callable[..., torch.optim.Optimizer]) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    param = nn.Parameter(torch.arange(4.0) + 1)
    optimizer = make([param])
    param.grad = torch.full((4,), 0.5)
    optimizer.step()
    return param, optimizer


def state_keys(case: Case) -> list[str]:
    return list(after_one_step(case.torch)[1].state_dict()["state"][0])


@pytest.mark.parametrize(
    ("case", "key", "special"),
    [
        (case, key, special)
        for case in WITH_STATES
        for key in state_keys(case)
        for special in SPECIAL
        if special is not Wrapped or key not in ("max_exp_avg_sq", "exp_inf")  # which torch's step writes by out=
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_special_states_take_torchs_step(case: Case, key: str, special: Callable[[Tensor], Tensor]) -> None:
    params, moments = [], []
    for make in (case.fast, case.torch):
        param, optimizer = after_one_step(make)
        optimizer.state[param][key] = special(optimizer.state[param][key])
        for step in range(2):
            if make == case.fast and step == 0:
                with pytest.warns(UserWarning, match=f"its state '{key}': a "):
                    optimizer.step()
            else:
                optimizer.step()
        params.append(param.detach())
        moment = optimizer.state[param][key]
        moments.append(moment.inner if isinstance(moment, Wrapped) else moment.resolve_neg())
    torch.testing.assert_close(*params)
    torch.testing.assert_close(*moments)


@pytest.mark.parametrize("key", ["step", "exp_avg"])
def test_fake_states_do_as_in_torch(key: str) -> None:
    outcomes = []
    case = Case("Adam")
    for make in (case.fast, case.torch):
        param, optimizer = after_one_step(make)
        optimizer.state[param][key] = FakeTensorMode().from_tensor(optimizer.state[param][key])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(Exception) as error:
                optimizer.step()
        texts = [str(warning.message) for warning in caught]
        assert any(f"its state '{key}': a tensor subclass" in text for text in texts) == (make == case.fast)
        outcomes.append(type(error.value))
    assert outcomes[0] is outcomes[1]


@typical_cases
def test_zero_tensors_do_as_in_torch(case: Case) -> None:
    param, optimizer = after_one_step(case.fast)
    key = next(key for key in optimizer.state[param] if key != "step")
    before = param.detach().clone()
    optimizer.state[param][key] = torch._efficientzerotensor(4)
    with pytest.warns(UserWarning, match="zero tensor"), pytest.raises(RuntimeError, match="ZeroTensors are immutable"):
        optimizer.step()
    if case.name != "AdamW":  # whose decay of the weights comes first in torch
        assert_equal(param.detach(), before)


def test_states_made_in_inference_mode_serve_outside_of_it() -> None:
    param, twin = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    ours, expected = Case("Adam").fast([param]), Case("Adam").torch([twin])
    param.grad, twin.grad = torch.ones(3), torch.ones(3)
    with torch.inference_mode():
        ours.step()
    expected.step()
    ours.step()
    expected.step()
    torch.testing.assert_close(param, twin)
    assert not any(value.is_inference() for value in ours.state[param].values())


@pytest.mark.usefixtures("process_group")
def test_a_state_of_a_sharded_run_is_refused_by_name() -> None:
    """The optimizer.state_dict() of an FSDP2 run, loaded without gathering it."""
    param, optimizer = after_one_step(Case("Adam").fast)
    before = param.detach().clone()
    mesh = init_device_mesh("cpu", (1,))
    state = optimizer.state[param]
    state["exp_avg"] = distribute_tensor(state["exp_avg"], mesh, [Replicate()])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"group 0, parameter 0: its state 'exp_avg' is a DTensor .*full"):
            optimizer.step()
    assert_equal(param.detach(), before)
    assert optimizer.state[param]["step"] == 1


@pytest.mark.parametrize("name", ["lr", "eps", "weight_decay"])
@all_special
def test_special_numbers_in_groups(name: str, special: Callable[[Tensor], Tensor]) -> None:
    params = []
    for value in (torch.tensor(0.25), special(torch.tensor(0.25))):
        param, optimizer = after_one_step(Case("AdamW").fast)
        optimizer.param_groups[0][name] = value
        optimizer.step()
        params.append(param.detach())
    assert_equal(*params)


@all_special
def test_special_betas(special: Callable[[Tensor], Tensor]) -> None:
    params = []
    for betas in ((0.5, 0.75), [special(torch.tensor(0.5)), special(torch.tensor(0.75))]):
        param, optimizer = after_one_step(Case("Adam").fast)
        optimizer.param_groups[0]["betas"] = betas
        optimizer.step()
        params.append(param.detach())
    assert_equal(*params)


@typical_cases
@all_special
def test_special_loss_scales(case: Case, special: Callable[[Tensor], Tensor]) -> None:
    params = []
    for make in (lambda x: x, special):
        param, optimizer = after_one_step(case.fast)
        for found_inf in (1.0, 0.0):
            param.grad = torch.full((4,), 8.0)
            optimizer.grad_scale, optimizer.found_inf = make(torch.tensor(16.0)), make(torch.tensor(found_inf))
            before = param.detach().clone()
            optimizer.step()
            assert torch.equal(param.detach(), before) == bool(found_inf)
        params.append(param.detach())
    assert_equal(*params)


def test_what_only_claims_to_be_a_tensor_is_none() -> None:
    """unittest.mock's stand-ins have the class of what they stand in for."""
    claims = mock.Mock(spec=Tensor)
    assert isinstance(claims, Tensor)
    param, optimizer = after_one_step(Case("Adam").fast)
    optimizer.state[param]["exp_avg"] = claims
    with pytest.raises(TypeError, match="state 'exp_avg' must be a tensor"):
        optimizer.step()
    optimizer = lerac_fast.optim.SGD([nn.Parameter(torch.ones(1))])
    optimizer.param_groups[0]["params"].append(claims)
    with pytest.raises(TypeError, match="parameter 1 must be a tensor"):
        optimizer.step()


@pytest.mark.usefixtures("process_group")
@typical_cases
def test_zero_redundancy_optimizer(case: Case) -> None:
    kind = getattr(lerac_fast.optim, case.name)
    param, twin = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    sharded, expected = ZeroRedundancyOptimizer([param], kind, lr=0.02, **case.options), case.fast([twin])
    param.grad, twin.grad = torch.ones(3), torch.ones(3)
    for _ in range(2):
        sharded.step()
        expected.step()
    assert_equal(param.detach(), twin.detach())
    with pytest.raises(ValueError, match="functional"):
        ZeroRedundancyOptimizer([param], kind, overlap_with_ddp=True, lr=0.02)
