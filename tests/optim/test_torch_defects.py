"""Five cases that torch 2.14.1's fused CPU path gets wrong. None of them may be ours."""

import pytest
import torch
from torch import nn

from tests.optim.cases import Case, assert_as_good_as_none, assert_equal, typical_cases


@typical_cases
def test_gradient_strides_different_from_the_parameters(case: Case) -> None:
    """(1) torch's fused step reads the gradient in the wrong order."""
    param, twin = nn.Parameter(torch.arange(6.0).view(2, 3)), nn.Parameter(torch.arange(6.0).view(2, 3))
    param.grad = torch.arange(6.0).view(3, 2).t()
    twin.grad = param.grad.clone(memory_format=torch.contiguous_format)
    for optimizer in (case.fast([param]), case.torch([twin])):
        optimizer.step()
    torch.testing.assert_close(param, twin)


def test_overflow_on_the_first_step_of_sgd() -> None:
    """(2) torch's fused SGD keeps an uninitialised momentum buffer."""
    param = nn.Parameter(torch.ones(8))
    optimizer = Case("SGD", {"momentum": 0.9}).fast([param], lr=1.0)
    param.grad = torch.full((8,), float("inf"))
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(2.0), torch.tensor(1.0)
    optimizer.step()
    assert_as_good_as_none(optimizer.state[param])
    param.grad = torch.full((8,), 4.0)
    optimizer.found_inf = torch.tensor(0.0)
    optimizer.step()
    assert_equal(optimizer.state[param]["momentum_buffer"], torch.full((8,), 2.0))
    assert_equal(param.detach(), torch.full((8,), -1.0))


def test_late_first_gradient_of_sgd() -> None:
    """(3) torch's fused SGD raises a TypeError; the first buffer is the gradient, undampened, for each tensor."""
    params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))]
    optimizer = Case("SGD", {"momentum": 0.9, "dampening": 0.5}).fast(params, lr=1.0)
    params[0].grad = torch.ones(2)
    optimizer.step()
    params[1].grad = torch.ones(2)
    optimizer.step()
    assert_equal(optimizer.state[params[0]]["momentum_buffer"], torch.full((2,), 1.4))
    assert_equal(optimizer.state[params[1]]["momentum_buffer"], torch.ones(2))


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax"])
@pytest.mark.parametrize("later", [0.5, float("nan")])
def test_nan_stays_in_the_running_maximum(name: str, later: float) -> None:
    """(4) torch's fused amsgrad swallows NaN in the vector body. Adamax takes a maximum, too."""
    case = Case(name, {"amsgrad": True} if name != "Adamax" else {})
    param = nn.Parameter(torch.ones(67))
    optimizer = case.fast([param])
    param.grad = torch.full((67,), float("nan"))
    param.grad[::2] = 1.0
    optimizer.step()
    param.grad = torch.full((67,), later)
    optimizer.step()
    key = "exp_inf" if name == "Adamax" else "max_exp_avg_sq"
    assert optimizer.state[param][key][1::2].isnan().all()
    assert optimizer.state[param][key][::2].isnan().all() == (later != later)


@typical_cases
def test_equal_elements_in_vector_body_and_tail(case: Case) -> None:
    """(5) torch's fused step gives equal elements different results; see also test_determinism."""
    params = [nn.Parameter(torch.full((size,), 0.1)) for size in range(1, 100)]
    optimizer = case.fast(params, lr=0.01)
    for param in params:
        param.grad = torch.full_like(param, 0.3)
    optimizer.step()
    assert len({value for param in params for value in param.tolist()}) == 1
