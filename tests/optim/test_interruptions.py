"""What comes in the middle of a step: signals, errors in hooks, Python code that changes what the step works on."""

import copy
import gc
import signal
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

import lerac_fast.optim
from lerac_fast._native.extension import extension
from tests.kernels import KERNELS
from tests.optim.cases import Case, assert_equal, groups, typical_cases


@pytest.fixture(name="alarm")
def _alarm() -> Iterator[Callable[[], None]]:
    """As Ctrl-C: what it returns, called, has the interpreter raise at the next chance."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, stop)
    yield lambda: signal.raise_signal(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


class Counted(nn.Parameter):
    """Its hash runs Python code, as every tensor's does, and calls `when_hashed` in it."""

    when_hashed: Callable[[], None] | None = None

    def __hash__(self) -> int:
        if Counted.when_hashed is not None:
            Counted.when_hashed()
        return id(self)


@typical_cases
@pytest.mark.parametrize("at", range(4))
def test_ctrl_c_in_a_first_step_leaves_all_or_nothing(case: Case, at: int, alarm: Callable[[], None]) -> None:
    """At every chance that the interpreter has in a step of three parameters."""
    params = [Counted(torch.ones(3)) for _ in range(3)]
    optimizer, expected = case.fast(params), case.torch(twins := copy.deepcopy(params))
    for param in params + twins:
        param.grad = torch.full((3,), 0.5)
    hashed = 0

    def stop_in_time() -> None:
        nonlocal hashed
        hashed += 1
        if hashed == at + 1:
            alarm()

    Counted.when_hashed = stop_in_time
    try:
        if at < 3:
            with pytest.raises(KeyboardInterrupt):
                optimizer.step()
        else:
            optimizer.step()
    finally:
        Counted.when_hashed = None
    if at < 3:
        assert all(torch.equal(param.detach(), torch.ones(3)) for param in params)
        assert not any(optimizer.state.values())
        optimizer.step()
    expected.step()
    for param, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(param.detach(), twin.detach())
        assert optimizer.state[param].keys() == expected.state[twin].keys()


@pytest.mark.skipif(KERNELS == "triton", reason="kernels in Python are themselves interrupted")
@pytest.mark.usefixtures("alarm")
def test_ctrl_c_while_the_kernels_run_comes_after_the_step() -> None:
    param = nn.Parameter(torch.zeros(2_000_000))
    param.grad = torch.ones_like(param)
    optimizer = lerac_fast.optim.Adam([param])
    seen = param.detach().numpy()

    def watch() -> None:
        while not seen[0]:  # until the kernels have begun
            pass
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)  # type: ignore[arg-type]

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        optimizer.step()
        watcher.join()
    except KeyboardInterrupt:
        watcher.join()
    assert optimizer.state[param]["step"] == 1
    assert (param != 0).all()
    assert optimizer.state[param]["exp_avg"].all()


class Dropping(defaultdict):  # type: ignore[type-arg]
    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def test_a_state_that_keeps_nothing() -> None:
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = lerac_fast.optim.Adam([param])
    optimizer.state = Dropping(dict)
    with pytest.raises(RuntimeError, match=r"parameter 0, float32 .*optimizer\.state keeps nothing for it"):
        optimizer.step()
    assert_equal(param.detach(), torch.ones(3))


# ---- the loss scale ----


def scaled(param: nn.Parameter, **options: Any) -> tuple[torch.optim.Optimizer, torch.amp.GradScaler]:
    optimizer = lerac_fast.optim.SGD([param], lr=1.0, fused=True, **options)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(param.sum()).backward()
    return optimizer, scaler


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["pre-hook", "post-hook", "global hook", "closure", "scheduled"])
def test_no_loss_scale_stays_behind(error: type[BaseException], where: str) -> None:
    param = nn.Parameter(torch.zeros(3))
    optimizer, scaler = scaled(param)

    def fail(*_: Any) -> None:
        raise error("in the middle")

    arguments: tuple[Any, ...] = ()
    handle = None
    if where == "pre-hook":
        handle = optimizer.register_step_pre_hook(fail)
    elif where == "post-hook":
        handle = optimizer.register_step_post_hook(fail)
    elif where == "global hook":
        handle = register_optimizer_step_pre_hook(fail)
    elif where == "closure":
        arguments = (fail,)
    else:
        torch.optim.lr_scheduler.StepLR(optimizer, 1)  # wraps the step of the instance
        handle = optimizer.register_step_pre_hook(fail)
    try:
        with pytest.raises(error, match="in the middle"):
            scaler.step(optimizer, *arguments)
    finally:
        if handle is not None:
            handle.remove()
    assert not {"grad_scale", "found_inf"} & vars(optimizer).keys()
    before = param.detach().clone()
    param.grad = torch.ones(3)
    optimizer.step()
    assert_equal(param.detach(), before - 1)


def test_subclasses_leave_no_loss_scale_behind() -> None:
    class Own(lerac_fast.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            super().step(closure)
            raise ValueError("afterwards")

    param = nn.Parameter(torch.zeros(3))
    param.grad = torch.full((3,), 8.0)
    optimizer = Own([param], lr=1.0)
    optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
    with pytest.raises(ValueError, match="afterwards"):
        optimizer.step()
    assert not {"grad_scale", "found_inf"} & vars(optimizer).keys()


# ---- Python code in a step ----


def replace_everything(optimizer: torch.optim.Optimizer) -> None:
    """Frees all that a step may have pointers to."""
    for group in optimizer.param_groups:
        for param in group["params"]:
            param.grad = None if param.grad is None else param.grad.clone()
            param.data = param.data.clone()
            for key, value in optimizer.state.get(param, {}).items():
                optimizer.state[param][key] = value.clone()
    gc.collect()


class Rate:
    """A number of somebody's own."""

    def __init__(self, value: float, when_read: Callable[[], None]) -> None:
        self.value, self.when_read = value, when_read

    def __float__(self) -> float:
        self.when_read()
        return self.value


def large(count: int = 4) -> list[nn.Parameter]:
    """Memory of its own for each, given back when freed."""
    params = [nn.Parameter(torch.ones(300_000)) for _ in range(count)]
    for param in params:
        param.grad = torch.full_like(param, 0.5)
    return params


@typical_cases
@pytest.mark.parametrize("first", [True, False])
def test_rates_that_change_everything_when_read(case: Case, first: bool) -> None:
    params = large()
    optimizer, expected = case.fast(groups(params)), case.fast(groups(twins := copy.deepcopy(params)))
    for twin in twins:
        twin.grad = torch.full_like(twin, 0.5)
    if not first:
        optimizer.step()
        expected.step()
    last = optimizer.param_groups[-1]
    last["lr"] = Rate(last["lr"], lambda: replace_everything(optimizer))
    optimizer.step()
    expected.step()
    for param, twin in zip(params, twins, strict=True):
        assert_equal(param.detach(), twin.detach())


def test_values_that_take_themselves_out_of_their_group() -> None:
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.ones(3)
    optimizer = lerac_fast.optim.Adam([param], lr=0.1)
    optimizer.step()
    (group,) = optimizer.param_groups
    betas: list[Any] = []
    betas[:] = [Rate(0.5, betas.clear), Rate(0.75, betas.clear)]
    group["betas"] = betas
    group["eps"] = Rate(1e-8, lambda: group.update(eps=1e-8))
    group["lr"] = Rate(0.1, lambda: optimizer.param_groups.__setitem__(0, group | {"lr": 0.1}))
    optimizer.step()
    assert (param < 0.9).all()
    assert not betas


def test_ctrl_c_in_a_number_stays_ctrl_c(alarm: Callable[[], None]) -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = lerac_fast.optim.SGD([param])
    optimizer.param_groups[0]["lr"] = Rate(0.1, alarm)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step()


@typical_cases
def test_a_warning_handler_that_changes_everything(case: Case) -> None:
    """The parent's step of one parameter warns; the kernels step the others afterwards."""
    params = [*large(), nn.Parameter(torch.ones(3, dtype=torch.complex64))]
    params[-1].grad = torch.ones_like(params[-1])
    optimizer, expected = case.fast(groups(params)), case.torch(groups(twins := copy.deepcopy(params)))
    for twin, param in zip(twins, params, strict=True):
        twin.grad = param.grad.clone()

    def handle(*_: Any, **__: Any) -> None:
        replace_everything(optimizer)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = handle
        optimizer.step()
    expected.step()
    for param, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(param.detach(), twin.detach(), rtol=1e-5, atol=1e-6)
        assert optimizer.state[param].keys() == expected.state[twin].keys()


def test_a_hash_that_changes_everything() -> None:
    params = [Counted(param.detach()) for param in large()]
    for param in params:
        param.grad = torch.full_like(param, 0.5)
    optimizer = lerac_fast.optim.SGD(params, lr=1.0, momentum=0.9)
    Counted.when_hashed = lambda: [setattr(param, "data", param.data.clone()) for param in params] and None
    try:
        optimizer.step()
    finally:
        Counted.when_hashed = None
    assert all((param == 0.5).all() for param in params)


class Key(str):
    """A dictionary key whose comparison runs Python code."""

    when_compared: Callable[[], None] | None = None
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        if Key.when_compared is not None:
            Key.when_compared()
        return str.__eq__(self, other)


def test_keys_that_change_everything_when_compared() -> None:
    params = large()
    optimizer = lerac_fast.optim.SGD(params, lr=1.0, momentum=0.9)
    optimizer.step()
    state = optimizer.state[params[-1]]
    optimizer.state[params[-1]] = {Key("momentum_buffer"): state.pop("momentum_buffer")}
    Key.when_compared = lambda: [setattr(param, "data", param.data.clone()) for param in params] and None
    try:
        optimizer.step()
    finally:
        Key.when_compared = None
    assert all(torch.allclose(param, torch.tensor(1 - 0.5 - 0.95)) for param in params)


@pytest.mark.skipif(KERNELS == "triton", reason="would put the compiled kernels in the place of Triton's")
def test_groups_replaced_while_the_kernels_run() -> None:
    """As by another thread, once the step has released the interpreter."""
    cpu = torch.device("cpu")
    params = large()
    optimizer = lerac_fast.optim.SGD(params, lr=1.0)

    def update(_: Any) -> None:
        del params[:]
        optimizer.param_groups[:] = []
        optimizer.state.clear()
        gc.collect()

    extension.choose_python_backend(cpu, update, lambda _: False, asynchronous=False)
    try:
        optimizer.step()
    finally:
        extension.choose_compiled_backend(cpu)
    assert optimizer.param_groups == []


# ---- the warning ----


def complex_parameter() -> nn.Parameter:
    param = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    return param


@pytest.mark.parametrize("schedulers", [0, 1, 2])
def test_the_warning_names_the_line_that_steps(schedulers: int) -> None:
    optimizer = lerac_fast.optim.SGD([complex_parameter()])
    for _ in range(schedulers):
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
    with pytest.warns(UserWarning, match="torch.optim's own step") as caught:
        optimizer.step(lambda: None)
    assert [warning.filename for warning in caught] == [__file__]


def test_the_warning_names_the_line_that_steps_by_a_scaler() -> None:
    param = nn.Parameter(torch.ones(5, 2))
    optimizer = lerac_fast.optim.SGD([param])
    scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
    scaler.scale(nn.functional.embedding(torch.tensor([1, 3]), param, sparse=True).sum()).backward()
    with pytest.warns(UserWarning, match="torch.optim's own step") as caught:
        scaler.step(optimizer)
    assert [warning.filename for warning in caught] == [__file__]


@typical_cases
def test_a_warning_that_is_an_error_stops_every_step(case: Case) -> None:
    params = [nn.Parameter(torch.ones(3)), complex_parameter()]
    params[0].grad = torch.ones(3)
    optimizer = case.fast(params)
    for _ in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(UserWarning, match=optimizer._plain_step):
                optimizer.step()
        assert not any(optimizer.state.values())
        assert all(torch.equal(param.detach(), torch.ones_like(param)) for param in params)


def test_one_warning_for_each_reason() -> None:
    params = [complex_parameter(), complex_parameter(), nn.Parameter(torch.ones(5, 2))]
    optimizer = lerac_fast.optim.SGD(params)
    later, params[1].grad = params[1].grad, None
    with pytest.warns(UserWarning, match="parameter 0: not float32"):
        optimizer.step()
    params[1].grad = later
    optimizer.step()  # the same reason: a warning would be an error
    nn.functional.embedding(torch.tensor([1, 3]), params[2], sparse=True).sum().backward()
    with pytest.warns(UserWarning, match="parameter 2: not a strided tensor"):
        optimizer.step()
