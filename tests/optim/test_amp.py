"""Under torch.amp.GradScaler an overflow changes nothing, and with fused=True the kernels divide the loss scale out."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

import lerac_fast.optim
from lerac_fast._native.extension import extension
from tests.optim.cases import Case, all_cases, assert_as_good_as_none, assert_equal, groups, random, typical_cases


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(random(shape, torch.float32, generator)) for shape in [(5000,), (3, 4), ()]]


def make(case: Case, params: list[nn.Parameter], fused: bool) -> torch.optim.Optimizer:
    return case.fused(groups(params)) if fused else case.fast(groups(params))


who_divides = pytest.mark.parametrize("fused", [True, False], ids=["the kernels divide", "the scaler divides"])


@all_cases
@who_divides
@pytest.mark.parametrize("unscale_first", [False, True])
def test_scaled_gradients_give_the_numbers_of_unscaled_ones(case: Case, unscale_first: bool, fused: bool) -> None:
    params = parameters()
    twins = copy.deepcopy(params)
    optimizer, expected = make(case, params, fused), case.fast(groups(twins))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(3):
        for p in params:
            p.grad = None
        sum(scaler.scale((p * p * (step + 1)).sum()) for p in params).backward()
        for twin in twins:
            twin.grad = 2 * (step + 1) * twin.detach()
        if unscale_first:
            scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        expected.step()
        for param, twin in zip(params, twins, strict=True):
            assert_equal(param, twin)
            assert_equal(param.grad, twin.grad)  # left unscaled, as by torch's fused and unfused steps
            assert param.grad._version > 0


@all_cases
@who_divides
@pytest.mark.parametrize("overflow_at", [0, 1])
def test_overflow_changes_nothing(case: Case, overflow_at: int, fused: bool) -> None:
    """On the first step, too: no step count, no momentum buffer."""
    params = parameters()
    optimizer = make(case, params, fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(overflow_at + 1):
        for i, param in enumerate(params):
            param.grad = torch.full_like(param, 1024.0)
            if step == overflow_at and i == 1:
                param.grad.view(-1)[2] = float("inf")
        before = copy.deepcopy((params, optimizer.state_dict()["state"]))
        scaler.scale(torch.ones(()))  # makes the scaler's tensors
        scaler.step(optimizer)
        if step < overflow_at:
            assert not torch.equal(params[0], before[0][0])
        scaler.update()
    for param, old in zip(params, before[0], strict=True):
        assert_equal(param, old)
    after = optimizer.state_dict()["state"]
    for index, state in after.items():
        if index not in before[1]:
            assert_as_good_as_none(state)
        for key, value in before[1].get(index, {}).items():
            assert_equal(state[key], value)
    assert after.keys() >= before[1].keys()
    assert scaler.get_scale() == 512.0


@typical_cases
@pytest.mark.parametrize("options", [{}, {"fused": None}, {"fused": True}], ids=str)
def test_the_scaler_treats_it_as_it_treats_torchs(case: Case, options: dict[str, Any]) -> None:
    """Trainers ask the flag whether they may clip gradients between the division and the step."""
    if case.name == "Adamax":
        options = {}  # torch's has no fused
    flags = [
        getattr(kind(parameters(), **options), "_step_supports_amp_scaling", False)
        for kind in (getattr(lerac_fast.optim, case.name), case.parent)
    ]
    assert flags[0] == flags[1] == bool(options.get("fused"))


@typical_cases
def test_what_hooks_and_clipping_see_is_divided_by_the_scale(case: Case) -> None:
    """As with torch's own optimizers by default."""
    params, twins = parameters(), parameters()
    seen: list[list[float]] = []
    for optimizer, its_params in ((case.fast(groups(params)), params), (case.torch(groups(twins)), twins)):
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        largest: list[float] = []
        optimizer.register_step_pre_hook(
            lambda *_, its=its_params, largest=largest: largest.append(max(p.grad.abs().max().item() for p in its))
        )
        for clip in (False, True):
            optimizer.zero_grad()
            sum(scaler.scale((p * p).sum()) for p in its_params).backward()
            if clip:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(its_params, 0.5)
            scaler.step(optimizer)
            scaler.update()
        seen.append(largest)
    assert seen[0] == pytest.approx(seen[1], rel=1e-4)
    assert seen[0][0] < 10
    assert seen[0][1] <= 0.5
    for param, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(param, twin, rtol=1e-5, atol=1e-6)


@typical_cases
def test_scaled_gradients_of_parameters_beyond_the_kernels(case: Case) -> None:
    def make() -> nn.Parameter:
        return nn.Parameter(torch.ones(3, dtype=torch.complex64))

    param, twin = make(), make()
    optimizer, expected = case.fast([param]), case.torch([twin])
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    param.grad, twin.grad = torch.full_like(param, 16.0), torch.full_like(twin, 2.0)
    with pytest.warns(UserWarning, match=optimizer._plain_step):
        optimizer.step()
    expected.step()
    assert_equal(torch.view_as_real(param.detach()), torch.view_as_real(twin.detach()))
    assert optimizer.grad_scale == 8.0


@typical_cases
def test_half_gradients_are_unscaled_before_they_are_rounded(case: Case) -> None:
    """2^-24 x 2^-10 is nothing in float16; as part of a float32 computation it is something."""
    param = nn.Parameter(torch.zeros(4, dtype=torch.float16))
    optimizer = case.fast([param], lr=1.0, weight_decay=0.0, **({} if case.name in ("SGD", "Lion") else {"eps": 1e-12}))
    optimizer.state[param] = {
        key: torch.zeros(() if key == "step" else 4)
        for key in {
            "SGD": ["momentum_buffer"],
            "Adamax": ["step", "exp_avg", "exp_inf"],
            "Lion": ["exp_avg"],
        }.get(case.name, ["step", "exp_avg", "exp_avg_sq"])
    }
    param.grad = torch.full((4,), 2.0**-24, dtype=torch.float16)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(1024.0), torch.tensor(0.0)
    optimizer.step()
    first_moment = optimizer.state[param]["momentum_buffer" if case.name == "SGD" else "exp_avg"]
    assert (first_moment > 0).all()


@typical_cases
def test_without_any_gradient(case: Case) -> None:
    """The scaler then hands over the number 0 for found_inf."""
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with_gradient, without = case.fused([used]), case.fused([unused])
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale((used * used).sum()).backward()
    scaler.step(with_gradient)
    scaler._per_optimizer_states[id(without)]["found_inf_per_device"] = {torch.device("cpu"): torch.tensor(0.0)}
    without.found_inf = 0
    without.step()
    assert_equal(unused.detach(), torch.ones(2))


@typical_cases
def test_a_refused_step_leaves_no_scale_behind(case: Case) -> None:
    param, twin = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer, expected = case.fast([param]), case.fast([twin])
    param.grad, twin.grad = torch.full((2,), 8.0), torch.full((2,), 8.0)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
    lr = optimizer.param_groups[0]["lr"]
    optimizer.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr must be at least 0"):
        optimizer.step()
    optimizer.param_groups[0]["lr"] = lr
    optimizer.step()
    expected.step()
    assert_equal(param, twin)


def test_scaled_gradients_survive_a_refusal_of_torchs_step() -> None:
    param = nn.Parameter(torch.ones(5, 2))
    optimizer = Case("Adam").fast([param])
    nn.functional.embedding(torch.tensor([1]), param, sparse=True).sum().backward()
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(4.0), torch.tensor(0.0)
    with pytest.warns(UserWarning, match="strided"), pytest.raises(RuntimeError, match="SparseAdam"):
        optimizer.step()
    assert_equal(param.grad.to_dense()[1], torch.ones(2))


def test_the_host_asks_a_device_for_an_overflow_in_every_step() -> None:
    """Parameters on the CPU under a GradScaler of another device, after `unscale_`: no kernel sees `found_inf`."""
    other = torch.device("meta")  # a number there cannot be read, so that to ask is an error
    extension.choose_python_backend(other, lambda _: None, lambda _: False, True)
    try:
        param = nn.Parameter(torch.ones(3))
        param.grad = torch.full((3,), torch.inf)
        optimizer = lerac_fast.optim.SGD([param], lr=0.0)
        for _ in range(4):  # by now the plan of the step is kept
            param.grad.zero_()
            optimizer.step()
        param.grad.fill_(torch.inf)
        optimizer.found_inf = torch.ones((), device=other)
        with pytest.raises(RuntimeError, match="meta"):
            optimizer.step()
        assert torch.equal(param.detach(), torch.ones(3))
    finally:
        extension.choose_compiled_backend(other)
