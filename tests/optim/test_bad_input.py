"""Bad input: an error that names the value, and nothing has changed."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import lerac_fast.optim
from lerac_fast._native.extension import extension
from tests.kernels import KERNELS, NUMBERS_ON_DEVICE
from tests.optim.cases import COUNTING, Case, assert_equal, cases_of_torch, typical_cases

NAN = float("nan")
FORGOTTEN = extension.RENEWALS_WITHOUT_WALK + 4  # steps after which walks are forgotten


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, 2))]


@typical_cases
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -0.5}, "-0.5"),
        ({"lr": NAN}, "nan"),
        ({"weight_decay": -1.0}, "-1.0"),
        ({"weight_decay": NAN}, "nan"),
    ],
)
def test_constructor(case: Case, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        case.fast(parameters(), **options)


@cases_of_torch
@pytest.mark.parametrize("option", ["differentiable", "foreach"])
def test_options_of_torchs_that_contradict_a_fused_step(case: Case, option: str) -> None:
    with pytest.raises(ValueError, match=f"{option}=True"):
        case.fast(parameters(), **{option: True})


def test_fused_false_contradicts_a_fused_optimizer() -> None:
    for kind in (lerac_fast.optim.SGD, lerac_fast.optim.Lion):
        with pytest.raises(ValueError, match="fused=False contradicts"):
            kind(parameters(), fused=False)
    lerac_fast.optim.SGD(parameters(), fused=True, foreach=False)


@typical_cases
def test_empty_parameter_list(case: Case) -> None:
    with pytest.raises(ValueError, match="empty parameter list"):
        case.fast([])


@typical_cases
@pytest.mark.parametrize("key", ["lr", "weight_decay"])
@pytest.mark.parametrize("value", [-0.1, NAN])
def test_group_with_a_bad_rate(case: Case, key: str, value: float) -> None:
    first, second = parameters()
    with pytest.raises(ValueError, match=rf"param group 1 \('head'\): {key} must be at least 0, got {value}"):
        case.fast([{"params": [first]}, {"params": [second], key: value, "name": "head"}])
    optimizer = case.fast([first])
    with pytest.raises(ValueError, match=f"{key} must be at least 0, got {value}"):
        optimizer.add_param_group({"params": [second], key: value})
    assert len(optimizer.param_groups) == 1


@typical_cases
@pytest.mark.parametrize("steps_before", [0, FORGOTTEN])
def test_parameter_twice(case: Case, steps_before: int) -> None:
    first, second = parameters()
    with pytest.raises(ValueError, match="more than one parameter group"):
        case.fast([{"params": [first, second]}, {"params": [first]}])
    with pytest.raises(ValueError, match=r"shape \(3,\) appears more than once"):
        case.fast([first, second, first])
    optimizer = case.fast([first, second])
    for param in (first, second):
        param.grad = torch.ones_like(param)
    for _ in range(steps_before):
        optimizer.step()
    before = first.detach().clone()
    optimizer.param_groups[0]["params"].append(first)
    for _ in range(2):  # the second time as well
        with pytest.raises(ValueError, match="appears more than once"):
            optimizer.step()
    assert_equal(first.detach(), before)


Spoil = Callable[[torch.optim.Optimizer, nn.Parameter], None]


def _group(key: str, value: Any) -> Spoil:
    return lambda optimizer, _: optimizer.param_groups[1].update({key: value})


def _state(key: str, value: Any) -> Spoil:
    def spoil(optimizer: torch.optim.Optimizer, param: nn.Parameter) -> None:
        state = optimizer.state[param]
        state[next(k for k in state if k != "step") if key == "moment" else key] = value

    return spoil


def _wrong_shape(_: torch.optim.Optimizer, param: nn.Parameter) -> None:
    param.data = torch.ones(5)


def _wrong_dtype(_: torch.optim.Optimizer, param: nn.Parameter) -> None:
    param.data = param.data.double()


SPOILS: list[tuple[str, Spoil, type[Exception], str]] = [
    (
        "negative lr",
        _group("lr", -2.0),
        ValueError,
        r"param group 1 \('b'\): lr must be at least 0, got -2.0",
    ),
    ("nan lr", _group("lr", NAN), ValueError, "lr must be at least 0, got nan"),
    # Of a dtype that no kernel reads, so that the host does, whatever the device.
    ("nan tensor lr", _group("lr", torch.tensor(NAN).half()), ValueError, "lr must be at least 0, got nan"),
    ("two rates", _group("lr", torch.ones(2)), ValueError, "lr must be a real number or a tensor of one"),
    ("text lr", _group("lr", "fast"), TypeError, "lr must be a number, got 'fast'"),
    ("huge lr", _group("lr", 10**400), TypeError, "lr must be a number, got 1000"),
    ("negative decay", _group("weight_decay", -1), ValueError, "weight_decay must be at least 0, got -1.0"),
    ("params no list", _group("params", None), TypeError, "params must be a list"),
    ("params no tensors", _group("params", [3]), TypeError, "parameter 0 must be a tensor, got 3"),
    ("gradient of another shape", _wrong_shape, ValueError, r"\[5\].*gradient is float32 of shape \[2, 2\]"),
    ("gradient of another dtype", _wrong_dtype, ValueError, "float64.*gradient is float32"),
    (
        "state of another shape",
        _state("moment", torch.ones(7)),
        ValueError,
        r"is float32 of shape \[7\].*does not fit",
    ),
    (
        "state of another dtype",
        _state("moment", torch.ones(2, 2).double()),
        ValueError,
        "is float64.*does not fit",
    ),
    ("state no tensor", _state("moment", "x"), TypeError, "must be a tensor, got 'x'"),
]


@typical_cases
@pytest.mark.parametrize(("spoil", "error", "message"), [s[1:] for s in SPOILS], ids=[s[0] for s in SPOILS])
def test_bad_step_changes_nothing(case: Case, spoil: Spoil, error: type[Exception], message: str) -> None:
    """The second group is bad; the first, which comes before it, must not have moved."""
    good, bad = parameters()
    optimizer = case.fast([{"params": [good], "name": "a"}, {"params": [bad], "name": "b"}])
    for param in (good, bad):
        param.grad = torch.ones_like(param)
    optimizer.step()
    spoil(optimizer, bad)
    before = copy.deepcopy((good, bad, optimizer.state[good], good.grad, bad.grad))
    version = good._version
    for _ in range(2):
        with pytest.raises(error, match=message):
            optimizer.step()
    for tensor, old in zip((good, bad, good.grad, bad.grad), (*before[:2], *before[3:]), strict=True):
        assert_equal(tensor, old)
    assert good._version == version
    for key, value in before[2].items():
        assert_equal(optimizer.state[good][key], value)


@cases_of_torch
def test_differentiable_switched_on_in_mid_training(case: Case) -> None:
    spoil, message = _group("differentiable", True), "differentiable=True is not supported"
    test_bad_step_changes_nothing(case, spoil, ValueError, message)


@pytest.mark.parametrize("case", [*COUNTING, Case("Lion")], ids=str)
@pytest.mark.parametrize(
    ("betas", "message"),
    [((0.9, 1.0), r"betas must lie in \[0, 1\), got 1.0"), ((NAN, 0.9), "betas must lie in"), (0.9, "must be a pair")],
)
def test_bad_betas(case: Case, betas: Any, message: str) -> None:
    error = ValueError if isinstance(betas, tuple) else TypeError
    test_bad_step_changes_nothing(case, _group("betas", betas), error, message)


@pytest.mark.parametrize("case", COUNTING, ids=str)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_group("eps", -1e-8), "eps must be at least 0, got -1e-08"),
        (_state("step", torch.ones(2)), "'step' must be one real number"),
        (_state("step", torch.tensor(1j)), "'step' must be one real number"),
        (lambda o, p: o.state[p].pop("exp_avg"), "its state has no 'exp_avg'"),
        (lambda o, p: o.state[p].pop("step"), "its state has no 'step'"),
    ],
)
def test_bad_step_of_the_adams(case: Case, spoil: Spoil, message: str) -> None:
    test_bad_step_changes_nothing(case, spoil, ValueError, message)


def test_amsgrad_switched_on_in_mid_training() -> None:
    spoil = _group("amsgrad", True)
    test_bad_step_changes_nothing(Case("Adam"), spoil, ValueError, "its state has no 'max_exp_avg_sq'")


@typical_cases
def test_missing_hyperparameter(case: Case) -> None:
    param = nn.Parameter(torch.ones(3))
    optimizer = case.fast([param])
    del optimizer.param_groups[0]["lr"]
    with pytest.raises(KeyError, match="param group 0 has no 'lr'"):
        optimizer.step()


@typical_cases
def test_parameter_whose_elements_share_memory(case: Case) -> None:
    param = nn.Parameter(torch.ones(1).expand(4))
    optimizer = case.fast([param])
    param.grad = torch.ones(4)
    with pytest.raises(ValueError, match="share memory"):
        optimizer.step()
    assert_equal(param.detach(), torch.ones(4))


@typical_cases
@pytest.mark.parametrize("steps_before", [1, FORGOTTEN])
def test_parameters_that_share_memory(case: Case, steps_before: int) -> None:
    """Tied by `.data`, they would be updated at the same time."""
    first, second = nn.Parameter(torch.ones(10)), nn.Parameter(torch.ones(3))
    optimizer = case.fast([first, second])
    for param in (first, second):
        param.grad = torch.ones_like(param)
    for _ in range(steps_before):
        optimizer.step()
    first.data = torch.ones(10)
    second.data = first.data[5:8]
    for _ in range(2):
        with pytest.raises(ValueError, match="share memory"):
            optimizer.step()
    assert_equal(first.detach(), torch.ones(10))
    second.data = torch.ones(3)
    optimizer.step()
    assert not torch.equal(second.detach(), torch.ones(3))


VIEWS: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "all and a column": lambda base: (base, base[:, :2]),
    "columns": lambda base: (base[:, :3], base[:, 2:]),
    "every second and every third": lambda base: (base.view(-1)[::2], base.view(-1)[::3]),
    "a row and a column": lambda base: (base[2], base[:, 1]),
    "transposed": lambda base: (base.t()[1:3], base[1:]),
    "another type": lambda base: (base.view(torch.float64)[:, 0], base[:, 1:2]),
}
APART: dict[str, Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]] = {
    "columns": lambda base: (base[:, :2], base[:, 2:]),
    "even and odd": lambda base: (base.view(-1)[::2], base.view(-1)[1::2]),
    "rows": lambda base: (base[:2], base[2:]),
    "of another type": lambda base: (base.view(torch.float64)[:, 0], base[:, 2:]),
    "nothing": lambda base: (base[:, :0], base),
}


def stepped(case: Case, views: tuple[torch.Tensor, ...]) -> list[nn.Parameter]:
    params = [nn.Parameter(view) for view in views]
    for param in params:
        param.grad = torch.ones_like(param)
    case.fast(params).step()
    return params


@typical_cases
@pytest.mark.parametrize("views", VIEWS)
def test_strided_parameters_that_share_memory(case: Case, views: str) -> None:
    for order in (1, -1):
        base = torch.ones(4, 6)
        with pytest.raises(ValueError, match="share memory"):
            stepped(case, VIEWS[views](base)[::order])
        assert_equal(base, torch.ones(4, 6))


@typical_cases
@pytest.mark.parametrize("views", APART)
def test_strided_parameters_that_only_reach_into_one_another(case: Case, views: str) -> None:
    pieces = APART[views](torch.ones(4, 6))
    before = [piece.clone() for piece in pieces]
    for param, old in zip(stepped(case, pieces), before, strict=True):
        assert not (param.detach() == old).any()


@typical_cases
def test_a_parameter_that_grows_into_another_where_it_lies(case: Case) -> None:
    """Its address stays what it was."""
    base = torch.ones(12)
    first, second = nn.Parameter(base[:4]), nn.Parameter(base[8:])
    optimizer = case.fast([first, second])
    for param in (first, second):
        param.grad = torch.ones(4)
    optimizer.step()
    before = base.clone()
    optimizer.state.clear()
    for grown in (base[:10], base[::3]):
        first.data = grown
        first.grad = torch.ones_like(first)
        for _ in range(2):
            with pytest.raises(ValueError, match="share memory"):
                optimizer.step()
    assert_equal(base, before)


@pytest.mark.skipif(NUMBERS_ON_DEVICE, reason="the CPU stands for a device that has graphs")
@pytest.mark.parametrize("case", COUNTING, ids=str)
def test_capturable_on_a_cpu_is_refused_as_by_torch(case: Case) -> None:
    for make in (case.fast, case.torch):
        param = nn.Parameter(torch.ones(3))
        optimizer = make([param], capturable=True)
        param.grad = torch.ones(3)
        with pytest.raises(AssertionError, match="capturable=True"):
            optimizer.step()
        assert_equal(param.detach(), torch.ones(3))
        param.grad = None
        optimizer.step()  # there is nothing to be captured


def test_what_torch_says_of_odd_parameter_lists_stands() -> None:
    with pytest.raises(TypeError, match="optimizer can only optimize Tensors"):
        lerac_fast.optim.SGD([None, None])
    optimizer = lerac_fast.optim.SGD(parameters())
    with pytest.raises(TypeError, match="param_group must be a dict"):
        optimizer.add_param_group([1])
    with pytest.raises(TypeError, match="lr must be a number, got 'fast'"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": "fast"})
    with pytest.raises(ValueError, match="lr must be a real number or a tensor of one"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": torch.ones(2)})


@pytest.mark.skipif(KERNELS == "triton", reason="would put the compiled kernels in the place of Triton's")
@typical_cases
def test_a_backend_that_fails_leaves_no_state(case: Case) -> None:
    """A kernel that does not compile, or cannot be launched: the next step is a first step."""
    cpu = torch.device("cpu")

    def fail(_: object) -> None:
        raise RuntimeError("no kernel image")

    param, twin = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(5))
    optimizer, expected = case.fast([param]), case.fast([twin])
    param.grad, twin.grad = torch.full((5,), 0.5), torch.full((5,), 0.5)
    extension.choose_python_backend(cpu, fail, lambda _: False, asynchronous=False)
    try:
        with pytest.raises(RuntimeError, match="no kernel image"):
            optimizer.step()
    finally:
        extension.choose_compiled_backend(cpu)
    assert not optimizer.state.get(param)
    assert_equal(param.detach(), torch.ones(5))
    optimizer.step()
    expected.step()
    assert_equal(param, twin)


def test_a_step_within_a_step_is_refused() -> None:
    """As by another thread: the engine's tables are one step's."""
    param = nn.Parameter(torch.ones(3, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    optimizer = lerac_fast.optim.SGD([param])
    with pytest.warns(UserWarning, match="torch.optim's own step"):
        optimizer.step()
    native = optimizer._native_step

    def step_again(_: object) -> None:
        native(optimizer.param_groups, optimizer.state, None, None, len)

    with pytest.raises(RuntimeError, match="already running"):
        native(optimizer.param_groups, optimizer.state, None, None, step_again)
    optimizer.step()
