"""What makes Lion Lion: signs, decoupled decay, one state. The matrix of all optimizers' tests is run on it, too."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lerac_fast.optim import Lion
from tests.optim.cases import Case, assert_equal, random

NUMBERS = st.floats(-1e6, 1e6, allow_subnormal=False)


def stepped(param: nn.Parameter, gradients: list[torch.Tensor], **options: object) -> Lion:
    optimizer = Lion([param], **options)  # type: ignore[arg-type]
    for gradient in gradients:
        param.grad = gradient
        optimizer.step()
    return optimizer


@given(
    start=NUMBERS,
    gradients=st.lists(NUMBERS, min_size=1, max_size=4),
    lr=st.floats(0, 10),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    weight_decay=st.floats(0, 1),
    maximize=st.booleans(),
)
def test_algorithm_2_of_the_paper(
    start: float, gradients: list[float], lr: float, betas: tuple[float, float], weight_decay: float, maximize: bool
) -> None:
    """In Python's own numbers."""
    param = nn.Parameter(torch.tensor([start], dtype=torch.float64))
    optimizer = stepped(
        param,
        [torch.tensor([g], dtype=torch.float64) for g in gradients],
        lr=lr, betas=betas, weight_decay=weight_decay, maximize=maximize,
    )  # fmt: skip
    p, m = start, 0.0
    for g in gradients:
        g = -g if maximize else g
        c = betas[0] * m + (1 - betas[0]) * g
        p = p * (1 - lr * weight_decay) - lr * (math.copysign(1, c) if c else 0.0)
        m = betas[1] * m + (1 - betas[1]) * g
    assert param.item() == p
    assert optimizer.state[param]["exp_avg"].item() == m
    assert list(optimizer.state[param]) == ["exp_avg"]


def test_defaults_are_the_papers() -> None:
    optimizer = Lion([nn.Parameter(torch.ones(1))])
    assert optimizer.defaults == {
        "lr": 1e-4, "betas": (0.9, 0.99), "weight_decay": 0.0, "maximize": False, "fused": None,
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1, 67])
def test_signs_of_zeros_infinities_and_nan_are_torchs(dtype: torch.dtype, size: int) -> None:
    """NaN has sign 0, and stays in the state."""
    values = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 1.0, -1.0])
    gradient = values.repeat(size)[: max(7, size)].to(dtype)
    params = [nn.Parameter(torch.ones_like(gradient)) for _ in range(2)]
    ours, plain = Case("Lion").fast(params[:1], lr=0.25), Case("Lion").torch(params[1:], lr=0.25)
    for _ in range(3):
        for param, optimizer in zip(params, (ours, plain), strict=True):
            param.grad = gradient.clone()
            optimizer.step()
    assert_equal(params[0], params[1])
    assert params[0][:7].tolist() == [1.0, 1.0, 0.25, 1.75, 1.0, 0.25, 1.75]
    assert ours.state[params[0]]["exp_avg"][:7].isnan().tolist() == [False] * 4 + [True, False, False]


def test_the_size_of_gradients_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [random((1031,), torch.float32, generator) for _ in range(4)]
    params = [nn.Parameter(torch.ones(1031)) for _ in range(2)]
    for param, scale in zip(params, (1.0, 2.0**-40), strict=True):
        stepped(param, [gradient * scale for gradient in gradients], weight_decay=0.1)
    assert_equal(*params)


def test_zero_gradients_leave_the_decay_alone() -> None:
    param = nn.Parameter(torch.full((5,), 2.0))
    stepped(param, [torch.zeros(5)], lr=0.5, weight_decay=0.5)
    assert_equal(param.detach(), torch.full((5,), 1.5))


def test_sparse_gradients_take_the_plain_step() -> None:
    params = [nn.Parameter(torch.ones(5, 2)) for _ in range(2)]
    for param, sparse in zip(params, (True, False), strict=True):
        nn.functional.embedding(torch.tensor([1, 3, 3]), param, sparse=sparse).sum().backward()
    with pytest.warns(UserWarning, match="a plain step in torch's operations what its kernels do not serve"):
        Lion(params[:1], weight_decay=0.1).step()
    Lion(params[1:], weight_decay=0.1).step()
    torch.testing.assert_close(*params)
