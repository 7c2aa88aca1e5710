"""What the kernels do not serve, and subclasses of tensors that they do."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import lerac_fast.optim
from tests.optim.cases import Case, assert_equal, groups, typical_cases
from tests.optim.test_behaviour import assert_same_parameters, backward, model, train

# ---- what the kernels do not serve ----


@typical_cases
def test_complex_parameters_take_torchs_step_and_are_named_once(case: Case) -> None:
    def parameters() -> list[nn.Parameter]:
        torch.manual_seed(0)
        return [nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(3, dtype=torch.complex64))]

    params, twins = parameters(), parameters()
    calls = []
    ours, torchs = case.fast(groups(params)), case.torch(groups(twins))
    ours.register_step_pre_hook(lambda *_: calls.append(1))
    case.torch([twins[0]])  # torch hooks its own class's step when it makes one
    for step in range(3):
        for param, twin in zip(params, twins, strict=True):
            param.grad = torch.randn_like(param)
            twin.grad = param.grad.clone()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ours.step()
        torchs.step()
        messages = [str(w.message) for w in caught]
        assert len(messages) == (step == 0)
        if step == 0:
            assert "param group 1, parameter 0" in messages[0]
            assert "not float32" in messages[0]
        for param, twin in zip(params, twins, strict=True):
            torch.testing.assert_close(param, twin, rtol=1e-5, atol=1e-6)
    assert len(calls) == 3
    assert ours.param_groups[1]["params"][0] is params[1]


def test_the_warning_stays_short() -> None:
    params = [nn.Parameter(torch.ones(2, dtype=torch.complex64)) for _ in range(100)]
    for param in params:
        param.grad = torch.ones_like(param)
    with pytest.warns(UserWarning, match=r"parameter 0, .*parameter 2 and 97 more: not float32"):
        lerac_fast.optim.SGD(params).step()


def test_sparse_gradients_where_torch_serves_them() -> None:
    params = [nn.Parameter(torch.ones(5, 2)), nn.Parameter(torch.ones(5, 2))]
    optimizers = [lerac_fast.optim.SGD([params[0]], lr=0.5), torch.optim.SGD([params[1]], lr=0.5)]
    for param in params:
        nn.functional.embedding(torch.tensor([1, 3, 3]), param, sparse=True).sum().backward()
    with pytest.warns(UserWarning, match="not a strided tensor"):
        optimizers[0].step()
    optimizers[1].step()
    assert_equal(*params)


def test_sparse_gradients_where_torch_refuses_them() -> None:
    dense, param = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(5, 2))
    optimizer = lerac_fast.optim.Adam([dense, param])
    dense.grad = torch.ones(3)
    nn.functional.embedding(torch.tensor([1]), param, sparse=True).sum().backward()
    with pytest.warns(UserWarning, match="sparse|strided"), pytest.raises(RuntimeError, match="SparseAdam"):
        optimizer.step()
    assert_equal(dense.detach(), torch.ones(3))
    assert dense not in optimizer.state


class _Seen(TorchDispatchMode):
    """The operations that run under it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("fused", [True, None])
def test_torchs_step_is_the_one_asked_for(name: str, fused: bool | None) -> None:
    """A fused one, but for tensors of which torch has none: the other groups keep theirs."""
    params = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, dtype=torch.complex64))]
    twins = copy.deepcopy(params)
    optimizer = getattr(lerac_fast.optim, name)(groups(params), lr=0.5, fused=fused)
    expected = getattr(torch.optim, name)(groups(twins), lr=0.5)
    for param, twin in zip(params, twins, strict=True):
        param.grad, twin.grad = torch.ones_like(param), torch.ones_like(twin)
    with _Seen() as seen, pytest.warns(UserWarning, match="under a TorchDispatchMode"):
        optimizer.step()
    expected.step()
    assert any("_fused_" in name for name in seen.names) == bool(fused)
    assert [group["fused"] for group in optimizer.param_groups] == [fused, fused]
    for param, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(param, twin)


class _Loud(torch.Tensor):
    """A subclass with its own dispatch, as DTensor and quantized tensors are."""

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with torch._C._DisableTorchDispatch():
            return func(*args, **(kwargs or {}))


@typical_cases
def test_tensor_subclasses_with_their_own_dispatch_take_torchs_step(case: Case) -> None:
    values = torch.arange(4.0)
    param = torch.Tensor._make_subclass(_Loud, values.clone(), True)
    twin = nn.Parameter(values.clone())
    optimizer, expected = case.fast([param]), case.torch([twin])
    param.grad, twin.grad = torch.ones(4), torch.ones(4)
    with pytest.warns(UserWarning, match="subclass with its own dispatch"):
        optimizer.step()
    expected.step()
    torch.testing.assert_close(param.detach().as_subclass(torch.Tensor), twin.detach())


@typical_cases
def test_plain_subclasses_take_the_kernels(case: Case) -> None:
    class Weight(nn.Parameter):
        pass

    param = Weight(torch.ones(4))
    optimizer = case.fast([param])
    param.grad = torch.ones(4)
    optimizer.step()  # a warning would be an error
    assert not torch.equal(param.detach(), torch.ones(4))


@pytest.mark.compiles
def test_compiled_step_gives_the_same_numbers() -> None:
    net, expected = model(), model()
    optimizer = lerac_fast.optim.AdamW(net.parameters())
    compiled = torch.compile(optimizer.step, backend="eager")
    for seed in range(3):
        backward(net, seed)
        compiled()
    train(expected, lerac_fast.optim.AdamW(expected.parameters()), range(3))
    assert_same_parameters(net, expected)
