"""What holds for every optimizer beyond its numbers: state, checkpoints, hooks, copies, schedulers."""

import copy
import io
import pickle
import weakref

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR, StepLR

import lerac_fast.optim
from tests.optim.cases import Case, all_cases, assert_equal, groups, random, typical_cases


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 7), nn.Tanh(), nn.Linear(7, 3)).double()


def backward(net: nn.Module, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    loss = net(random((5, 6), torch.float64, generator)).square().mean()
    net.zero_grad()
    loss.backward()
    return loss


def train(net: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        backward(net, seed)
        optimizer.step()


def assert_same_parameters(net: nn.Module, other: nn.Module, rtol: float = 0.0) -> None:
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=rtol)


@typical_cases
def test_is_the_torch_optimizer_of_its_name(case: Case) -> None:
    optimizer = case.fast(model().parameters())
    assert isinstance(optimizer, case.parent)
    assert isinstance(optimizer, getattr(lerac_fast.optim, case.name))


@all_cases
@pytest.mark.parametrize("fast_first", [True, False], ids=["to torch", "from torch"])
def test_checkpoints_move_in_mid_training(case: Case, fast_first: bool) -> None:
    """Three steps with one, its state dict through a file, three with the other: as six steps with torch's."""
    net, expected = model(), model()
    make = [case.fast, case.torch] if fast_first else [case.torch, case.fast]
    first = make[0](groups(list(net.parameters())))
    train(net, first, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make[1](groups(list(net.parameters()), lr=123.0))
    second.load_state_dict(torch.load(file, weights_only=True))
    train(net, second, range(3, 6))
    train(expected, case.torch(groups(list(expected.parameters()))), range(6))
    assert_same_parameters(net, expected, rtol=1e-11)


@typical_cases
def test_resumes_to_the_same_bits(case: Case) -> None:
    net, expected = model(), model()
    optimizer = case.fast(groups(list(net.parameters())))
    train(net, optimizer, range(3))
    resumed = case.fast(groups(list(net.parameters())))
    resumed.load_state_dict(optimizer.state_dict())
    train(net, resumed, range(3, 6))
    train(expected, case.fast(groups(list(expected.parameters()))), range(6))
    assert_same_parameters(net, expected)


@typical_cases
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float32_state_of_16_bit_parameters_survives_a_round_trip(case: Case, dtype: torch.dtype) -> None:
    param = nn.Parameter(torch.ones(4, dtype=dtype))
    optimizer = case.fast([param])
    param.grad = torch.ones(4, dtype=dtype)
    optimizer.step()
    for key, value in optimizer.state[param].items():
        if key != "step":
            optimizer.state[param][key] = value.float() + 1e-6
    saved = copy.deepcopy(optimizer.state_dict())
    other = case.fast([param])
    other.load_state_dict(saved)
    for key, value in saved["state"][0].items():
        assert other.state[param][key].dtype == torch.float32
        assert_equal(other.state[param][key], value)
    other.step()


def test_load_hooks_are_heeded_for_float32_states() -> None:
    param = nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    optimizer = Case("SGD", {"momentum": 0.9}).fast([param])
    optimizer.state[param] = {"momentum_buffer": torch.ones(2)}
    saved = copy.deepcopy(optimizer.state_dict())
    before = optimizer.register_load_state_dict_pre_hook(
        lambda _, state: state | {"state": {0: {"momentum_buffer": torch.full((2,), 1.001)}}}
    )
    optimizer.load_state_dict(saved)
    assert_equal(optimizer.state[param]["momentum_buffer"], torch.full((2,), 1.001))
    before.remove()
    optimizer.register_load_state_dict_post_hook(lambda o: o.state[param]["momentum_buffer"].zero_())
    optimizer.load_state_dict(saved)
    assert_equal(optimizer.state[param]["momentum_buffer"], torch.zeros(2))


@typical_cases
def test_keys_that_are_not_interned(case: Case) -> None:
    """As those of a checkpoint from a file are."""
    net, expected = model(), model()
    optimizer = case.fast(groups(list(net.parameters())))
    train(net, optimizer, range(2))

    def renamed(entries: dict[str, object]) -> dict[str, object]:
        return {"".join(list(key)): value for key, value in entries.items()}

    optimizer.param_groups = [renamed(group) for group in optimizer.param_groups]
    for param in list(optimizer.state):
        optimizer.state[param] = renamed(optimizer.state[param])
    train(net, optimizer, range(2, 4))
    train(expected, case.fast(groups(list(expected.parameters()))), range(4))
    assert_same_parameters(net, expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bfloat16])
def test_step_counts_of_other_dtypes(dtype: torch.dtype) -> None:
    net, expected = model(), model()
    ours, torchs = Case("Adam").fast(net.parameters()), Case("Adam").torch(expected.parameters())
    for optimizer, module in ((ours, net), (torchs, expected)):
        train(module, optimizer, range(1))
        for state in optimizer.state.values():
            state["step"] = state["step"].to(dtype)
        train(module, optimizer, range(1, 3))
        assert all(state["step"] == 3 and state["step"].dtype == dtype for state in optimizer.state.values())
    assert_same_parameters(net, expected, rtol=1e-11)


@typical_cases
@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["deepcopy", "pickle"])
def test_copies_step_like_the_original(case: Case, copier) -> None:
    net = model()
    optimizer = case.fast(groups(list(net.parameters())))
    train(net, optimizer, range(2))
    other_net, other = copier((net, optimizer))
    assert other.param_groups[0]["params"][0] is next(other_net.parameters())
    train(net, optimizer, range(2, 4))
    train(other_net, other, range(2, 4))
    assert_same_parameters(net, other_net)


@typical_cases
def test_closure(case: Case) -> None:
    net, expected = model(), model()
    optimizer, by_hand = case.fast(net.parameters()), case.fast(expected.parameters())
    with torch.no_grad():
        loss = optimizer.step(lambda: backward(net, 0))
    train(expected, by_hand, range(1))
    assert loss.item() > 0
    assert_same_parameters(net, expected)
    net.zero_grad()
    assert optimizer.step() is None


@typical_cases
def test_hooks_run_once(case: Case) -> None:
    calls = []
    optimizer = case.fast(model().parameters())
    optimizer.register_step_pre_hook(lambda *_: calls.append("pre"))
    optimizer.register_step_post_hook(lambda *_: calls.append("post"))
    optimizer.register_state_dict_post_hook(lambda *_: calls.append("state_dict"))
    optimizer.step()
    optimizer.state_dict()
    assert calls == ["pre", "post", "state_dict"]


@typical_cases
def test_a_hook_that_the_closure_registers_runs(case: Case) -> None:
    """After this very step, as torch has it."""
    calls = []
    optimizer = case.fast(model().parameters())
    optimizer.step(lambda: optimizer.register_step_post_hook(lambda *_: calls.append("post")))
    assert calls == ["post"]


@typical_cases
def test_step_in_backward_hooks(case: Case) -> None:
    """One optimizer per parameter, stepped as soon as its gradient is there."""
    net, expected = model(), model()
    for param in net.parameters():
        own = case.fast([param])
        param.register_post_accumulate_grad_hook(lambda _, own=own: own.step())
    for seed in range(3):
        backward(net, seed)
    train(expected, case.fast(expected.parameters()), range(3))
    assert_same_parameters(net, expected)


@typical_cases
def test_add_param_group(case: Case) -> None:
    net, expected = model(), model()
    first, second = net[0], net[2]
    optimizer = case.fast(first.parameters())
    twin = case.torch(expected[0].parameters())
    train(net, optimizer, range(2))
    train(expected, twin, range(2))
    optimizer.add_param_group({"params": second.parameters(), "lr": 0.5})
    twin.add_param_group({"params": expected[2].parameters(), "lr": 0.5})
    train(net, optimizer, range(2, 4))
    train(expected, twin, range(2, 4))
    assert_same_parameters(net, expected, rtol=1e-11)


@typical_cases
def test_whatever_is_replaced_between_steps_is_seen(case: Case) -> None:
    generator = torch.Generator().manual_seed(0)
    param, twin = nn.Parameter(torch.zeros(40)), nn.Parameter(torch.zeros(40))
    optimizer, expected = case.fast([param, other := nn.Parameter(torch.ones(3))]), case.torch([twin])
    other.grad = torch.ones(3)

    def gradients() -> None:
        param.grad = random((40,), torch.float32, generator)
        twin.grad = param.grad.clone()

    def step() -> None:
        gradients()
        optimizer.step()
        expected.step()
        torch.testing.assert_close(param, twin, rtol=1e-5, atol=1e-6)

    step()
    param.data = param.data.clone() + 1
    twin.data = twin.data + 1
    step()
    for state in (optimizer.state[param], expected.state[twin]):  # an entry of the state
        key = list(state)[-1]
        state[key] = torch.full((40,), 0.5)
    step()
    optimizer.state[param] = dict(optimizer.state[param])  # the whole dictionary of a parameter
    for state in (optimizer.state[param], expected.state[twin]):
        state[list(state)[-1]] = torch.full((40,), 0.25)
    step()
    optimizer.state = copy.copy(optimizer.state)  # all of it
    optimizer.param_groups = [dict(group) for group in optimizer.param_groups]
    optimizer.param_groups[0]["lr"] = expected.param_groups[0]["lr"] = 0.3
    step()
    del optimizer.state[param], expected.state[twin]  # to start anew
    step()
    optimizer.param_groups[0]["params"].reverse()
    step()


@typical_cases
def test_holds_no_gradient_after_the_step(case: Case) -> None:
    param = nn.Parameter(torch.ones(10))
    optimizer = case.fast([param])
    param.grad = torch.ones(10)
    gradient = weakref.ref(param.grad)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    assert gradient() is None


@typical_cases
def test_autograd_notices_the_update(case: Case) -> None:
    """Raw writes bump the version counters: a stale graph is refused instead of giving wrong gradients."""
    param = nn.Parameter(torch.ones(3))
    optimizer = case.fast([param])
    loss = (param * param).sum()
    param.grad = torch.ones(3)
    versions = param._version
    optimizer.step()
    assert param._version > versions
    assert all(value._version > 0 for value in optimizer.state[param].values())
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@typical_cases
def test_schedulers(case: Case) -> None:
    net, expected = model(), model()
    ours, torchs = case.fast(groups(list(net.parameters()))), case.torch(groups(list(expected.parameters())))
    ours_schedule, torchs_schedule = StepLR(ours, 2, 0.1), StepLR(torchs, 2, 0.1)
    for seed in range(6):
        train(net, ours, range(seed, seed + 1))
        train(expected, torchs, range(seed, seed + 1))
        ours_schedule.step()
        torchs_schedule.step()
    assert_same_parameters(net, expected, rtol=1e-11)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_one_cycle_sets_the_momentum_too(name: str) -> None:
    case = Case(name, {"momentum": 0.9} if name == "SGD" else {})
    net, expected = model(), model()
    ours, torchs = case.fast(net.parameters()), case.torch(expected.parameters())
    schedules = [OneCycleLR(o, max_lr=0.1, total_steps=6) for o in (ours, torchs)]
    for seed in range(5):
        train(net, ours, range(seed, seed + 1))
        train(expected, torchs, range(seed, seed + 1))
        for schedule in schedules:
            schedule.step()
    assert_same_parameters(net, expected, rtol=1e-11)


@typical_cases
def test_named_parameters(case: Case) -> None:
    net, expected = model(), model()
    optimizer = case.fast(net.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == [name for name, _ in net.named_parameters()]
    train(net, optimizer, range(2))
    train(expected, case.fast(expected.parameters()), range(2))
    assert_same_parameters(net, expected)


@typical_cases
def test_default_dtype_float64_makes_torchs_state(case: Case) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        states = []
        for make in (case.fast, case.torch):
            param = nn.Parameter(torch.ones(3))
            optimizer = make([param])
            param.grad = torch.ones(3)
            optimizer.step()
            states.append({key: (value.dtype, value.shape) for key, value in optimizer.state[param].items()})
    finally:
        torch.set_default_dtype(torch.float32)
    assert states[0] == states[1]
