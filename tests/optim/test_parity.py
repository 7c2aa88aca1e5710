"""The fused step computes what the reference and torch's single-tensor implementation compute."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.optim.cases import (
    CASES,
    Case,
    all_cases,
    all_dtypes,
    assert_equal,
    groups,
    random,
    typical_cases,
)
from tests.reference import optimizers as reference

# Sizes around the vector widths and the thread's unit, a scalar and a tensor without elements.
SHAPES: list[tuple[int, ...]] = [
    (3,),
    (17, 5),
    (),
    (0,),
    (0, 4),
    (8, 4, 3, 3),
    (1,),
    (129,),
    (1000,),
    (40, 1031),
]


def parameters(dtype: torch.dtype, generator: torch.Generator, shapes=SHAPES) -> list[nn.Parameter]:
    return [nn.Parameter(random(shape, dtype, generator)) for shape in shapes]


def _step_beside_the_reference(
    case: Case,
    optimizer: torch.optim.Optimizer,
    expected: list[Tensor],
    states: list[dict[str, Any]],
    generator: torch.Generator,
) -> None:
    """One step of both, on new gradients: parameters, states and step counts must agree bit for bit."""
    params = [group["params"][0] for group in optimizer.param_groups]
    for param in params:
        param.grad = random(tuple(param.shape), param.dtype, generator)
    optimizer.step()
    for p, param, state, group in zip(expected, params, states, optimizer.param_groups, strict=True):
        reference.step(case.name, p, param.grad, state, group)
        assert_equal(param.detach(), p)
        for key in optimizer.state[param].keys() - {"step"}:
            assert_equal(optimizer.state[param][key], state[key])
        if "step" in state:
            assert optimizer.state[param]["step"] == state["step"]


@all_cases
@all_dtypes
def test_equals_the_reference_bit_for_bit(case: Case, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    params = parameters(dtype, generator)
    optimizer = case.fast(groups(params))
    expected = [param.detach().clone() for param in params]
    states = [reference.new_state(case.name, p, g) for p, g in zip(expected, optimizer.param_groups, strict=True)]
    for _ in range(6):
        _step_beside_the_reference(case, optimizer, expected, states, generator)


@all_cases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
def test_float32_states_of_16_bit_parameters(case: Case, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    params = parameters(dtype, generator)
    optimizer = case.fast(groups(params))
    expected = [param.detach().clone() for param in params]
    states = []
    for param, p, group in zip(params, expected, optimizer.param_groups, strict=True):
        state = reference.new_state(case.name, p, group, torch.float32)
        if case.options.get("momentum"):
            state["momentum_buffer"] = torch.full_like(p, 0.25, dtype=torch.float32)
        states.append(state)
        optimizer.state[param] = {
            key: torch.tensor(0.0) if key == "step" else value.clone() for key, value in state.items()
        }
    for _ in range(4):
        _step_beside_the_reference(case, optimizer, expected, states, generator)
        for param in params:
            assert all(optimizer.state[param][key].dtype == torch.float32 for key in optimizer.state[param])


@all_cases
def test_equals_torch_in_float64(case: Case) -> None:
    """Twenty steps, rounding apart: 1e-12 relative is a few thousand units in the last place."""
    _compare_with_torch(case, torch.float64, steps=20, rtol=1e-12, atol=1e-13)


@all_cases
def test_equals_torch_in_float32(case: Case) -> None:
    """A step is a dozen roundings of 6e-8, some in another order than torch's."""
    _compare_with_torch(case, torch.float32, steps=10, rtol=2e-5, atol=2e-6)


def _compare_with_torch(case: Case, dtype: torch.dtype, steps: int, rtol: float, atol: float) -> None:
    generator = torch.Generator().manual_seed(1)
    params = parameters(dtype, generator)
    twins = copy.deepcopy(params)
    ours, torchs = case.fast(groups(params)), case.torch(groups(twins))
    for _ in range(steps):
        for param, twin in zip(params, twins, strict=True):
            param.grad = random(tuple(param.shape), dtype, generator)
            twin.grad = param.grad.clone()
        ours.step()
        torchs.step()
        for param, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(param, twin, rtol=rtol, atol=atol)
            assert list(ours.state[param]) == list(torchs.state[twin])
            for key, value in torchs.state[twin].items():
                torch.testing.assert_close(ours.state[param][key], value, rtol=rtol, atol=atol)


def _channels_last(shape_owner: Tensor) -> Tensor:
    return shape_owner.contiguous(memory_format=torch.channels_last)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": lambda t: t,
    "channels_last": _channels_last,
    "transposed": lambda t: t.transpose(0, 2).contiguous().transpose(0, 2),
    "every second": lambda t: torch.stack([t, t * 0 + 7], -1)[..., 0],
    "offset": lambda t: torch.cat([t.new_full((1,), 7), t.flatten()])[1:].view(t.shape),
}


@typical_cases
@pytest.mark.parametrize("scale", [1.0, 1024.0])
@pytest.mark.parametrize("param_layout", LAYOUTS)
@pytest.mark.parametrize("grad_layout", [*LAYOUTS, "expanded"])
def test_layouts(case: Case, param_layout: str, grad_layout: str, scale: float) -> None:
    """Any layout of the parameter with any layout of the gradient gives the numbers of contiguous ones."""
    generator = torch.Generator().manual_seed(0)
    values = random((4, 3, 5, 6), torch.float32, generator)
    param = nn.Parameter(LAYOUTS[param_layout](values))
    twin = nn.Parameter(values.clone())
    optimizer, expected = case.fast([param]), case.fast([twin])
    for _ in range(3):
        grad = random((4, 3, 5, 6), torch.float32, generator)
        if grad_layout == "expanded":
            grad = grad[:, :1, :1].expand(4, 3, 5, 6)
            param.grad = (grad[:, :1, :1] * scale).expand(4, 3, 5, 6)
        else:
            param.grad = LAYOUTS[grad_layout](grad * scale)
        twin.grad = grad.contiguous()
        if scale != 1:
            optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
        optimizer.step()
        expected.step()
        assert_equal(param.detach().contiguous(), twin.detach())
        for key, value in expected.state[twin].items():
            assert_equal(optimizer.state[param][key].contiguous(), value)
    if param_layout == "every second":  # the elements in between are not the parameter's
        assert_equal(torch.as_strided(param.detach(), (360,), (2,), 1), torch.full((360,), 7.0))


@typical_cases
def test_state_in_another_layout_than_the_parameter(case: Case) -> None:
    """As after loading the checkpoint of a contiguous model into a channels_last one."""
    generator = torch.Generator().manual_seed(0)
    values = random((4, 3, 5, 6), torch.float32, generator)
    twin = nn.Parameter(values.clone())
    param = nn.Parameter(_channels_last(values.clone()))
    expected, optimizer = case.fast([twin]), case.fast([param])
    for step in range(3):
        twin.grad = random((4, 3, 5, 6), torch.float32, generator)
        param.grad = _channels_last(twin.grad)
        if step == 1:
            optimizer.load_state_dict(copy.deepcopy(expected.state_dict()))
            assert any(v.is_contiguous() for k, v in optimizer.state[param].items() if k != "step")
        expected.step()
        optimizer.step()
        assert_equal(param.detach().contiguous(), twin.detach())


@all_cases
def test_late_and_irregular_gradients(case: Case) -> None:
    """Parameters without a gradient are skipped, and each counts its own steps."""
    generator = torch.Generator().manual_seed(0)
    params = parameters(torch.float64, generator, [(5,), (6,), (7,), (8,)])
    twins = copy.deepcopy(params)
    ours, torchs = case.fast(groups(params)), case.torch(groups(twins))
    for step in range(9):
        for i, (param, twin) in enumerate(zip(params, twins, strict=True)):
            has_grad = step % (i + 1) == i and i < 3  # the last one never
            param.grad = random(tuple(param.shape), torch.float64, generator) if has_grad else None
            twin.grad = param.grad.clone() if param.grad is not None else None
        ours.step()
        torchs.step()
        for param, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(param, twin, rtol=1e-12, atol=1e-13)
            assert (param in ours.state) == (twin in torchs.state)
    assert params[3] not in ours.state


@all_cases
def test_rates_and_options_are_read_anew_at_every_step(case: Case) -> None:
    generator = torch.Generator().manual_seed(0)
    params = parameters(torch.float64, generator, [(5,), (6,)])
    twins = copy.deepcopy(params)
    ours, torchs = case.fast(groups(params)), case.torch(groups(twins))
    for step in range(6):
        for param, twin in zip(params, twins, strict=True):
            param.grad = random(tuple(param.shape), torch.float64, generator)
            twin.grad = param.grad.clone()
        for optimizer in (ours, torchs):
            for i, group in enumerate(optimizer.param_groups):
                group["lr"] = 0.01 * (step + i)
                group["weight_decay"] = 0.1 * (step % 2)
                group["maximize"] = step == 3
                if "betas" in group:
                    group["betas"] = (0.5 + 0.05 * step, 0.9)
                if group.get("momentum"):
                    group["momentum"] = 0.5 + 0.05 * step
        ours.step()
        torchs.step()
        for param, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(param, twin, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax"])
@pytest.mark.parametrize("beta1", [0.0, 0.3, 0.5, 0.7])
def test_gradients_of_very_unequal_sizes(name: str, beta1: float) -> None:
    """torch.lerp changes its form at a weight of 0.5: with beta1 = 0 the moment is the gradient, come what may."""
    case = Case(name, {"betas": (beta1, 0.9)})
    param, twin = nn.Parameter(torch.zeros(20)), nn.Parameter(torch.zeros(20))
    ours, torchs = case.fast([param]), case.torch([twin])
    for size in (1e8, 1.0, 1e-6):
        param.grad, twin.grad = torch.full((20,), size), torch.full((20,), size)
        ours.step()
        torchs.step()
        torch.testing.assert_close(ours.state[param]["exp_avg"], torchs.state[twin]["exp_avg"], rtol=1e-6, atol=0)
        torch.testing.assert_close(param, twin, rtol=1e-5, atol=0)


@typical_cases
@pytest.mark.parametrize("shape", [(), (1,)])
def test_tensor_learning_rate(case: Case, shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    param = nn.Parameter(random((33,), torch.float32, generator))
    twin = copy.deepcopy(param)
    lr = torch.full(shape, 0.03125)
    ours, expected = case.fast([param], lr=lr), case.fast([twin], lr=0.03125)
    for factor in (1.0, 0.5):
        param.grad = random((33,), torch.float32, generator)
        twin.grad = param.grad.clone()
        ours.step()
        expected.step()
        assert_equal(param, twin)
        lr.mul_(factor * 0.5)  # in place: the step must see it
        expected.param_groups[0]["lr"] = lr.item()


@all_cases
def test_groups_of_different_kinds_in_one_step(case: Case) -> None:
    """Dtypes, and options that choose another rule, side by side."""
    generator = torch.Generator().manual_seed(0)
    dtypes = [torch.float32, torch.float64, torch.bfloat16, torch.float32]
    params = [nn.Parameter(random((50,), dtype, generator)) for dtype in dtypes]
    twins = copy.deepcopy(params)
    options = groups(params)
    if case.name == "SGD":
        options[0] |= {"momentum": 0.0, "nesterov": False, "dampening": 0.0}
    if case.name in ("Adam", "AdamW"):
        options[0] |= {"amsgrad": True}
    together = case.fast(options)
    alone = [case.fast([group | {"params": [twin]}]) for group, twin in zip(options, twins, strict=True)]
    for _ in range(3):
        for param, twin in zip(params, twins, strict=True):
            param.grad = random((50,), param.dtype, generator)
            twin.grad = param.grad.clone()
        together.step()
        for optimizer in alone:
            optimizer.step()
        for param, twin in zip(params, twins, strict=True):
            assert_equal(param, twin)


@settings(max_examples=60)
@given(data=st.data())
def test_any_structure_of_groups_and_shapes(data: st.DataObject) -> None:
    """How parameters are divided into groups changes nothing; neither does their order."""
    case = data.draw(st.sampled_from(CASES))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16]))
    shapes = data.draw(
        st.lists(st.lists(st.integers(0, 9), max_size=3).map(tuple), min_size=1, max_size=8), label="shapes"
    )
    group_of = data.draw(st.lists(st.integers(0, 3), min_size=len(shapes), max_size=len(shapes)), label="groups")
    generator = torch.Generator().manual_seed(0)
    params = parameters(dtype, generator, shapes)
    twins = copy.deepcopy(params)
    members = {g: [p for p, of in zip(params, group_of, strict=True) if of == g] for g in sorted(set(group_of))}
    grouped = case.fast([{"params": ps, "lr": 0.01 * (g + 1)} for g, ps in members.items()])
    alone = [case.fast([twin], lr=0.01 * (g + 1)) for twin, g in zip(twins, group_of, strict=True)]
    for _ in range(2):
        for param, twin in zip(params, twins, strict=True):
            param.grad = random(tuple(param.shape), dtype, generator)
            twin.grad = param.grad.clone()
        grouped.step()
        for optimizer in alone:
            optimizer.step()
    for param, twin in zip(params, twins, strict=True):
        assert_equal(param, twin)
