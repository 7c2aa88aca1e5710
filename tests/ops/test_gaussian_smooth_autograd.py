"""What torch builds on: derivatives, in-place rules, fake tensors, compilation, autocast."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from lerac_fast import GaussianSmooth, gaussian_smooth, gaussian_smooth_
from tests.ops.test_gaussian_smooth import all_dtypes, all_layouts, channels_last, random

OPS = torch.ops.lerac_fast
SIGMA = torch.tensor(0.8, dtype=torch.float64)


@all_layouts
@pytest.mark.parametrize(("shape", "kernel_size"), [((2, 3, 4, 5), 3), ((1, 33, 3, 3), 3), ((2, 2, 6), 5)], ids=str)
def test_derivatives(shape, kernel_size, layout) -> None:
    x = layout(random(shape, torch.float64)).requires_grad_()
    assert gradcheck(lambda x: gaussian_smooth(x, 0.8, kernel_size), x)
    assert gradgradcheck(lambda x: gaussian_smooth(x, 0.8, kernel_size), x)
    # A product first, for something to overwrite, and a power after it, for a second derivative.
    assert gradcheck(lambda x: gaussian_smooth_(x * 2, 0.8, kernel_size) ** 2, x)
    assert gradgradcheck(lambda x: gaussian_smooth_(x * 2, 0.8, kernel_size) ** 2, x)


@all_dtypes
def test_backward_is_forward(dtype) -> None:
    x = random((2, 5, 9, 9), dtype).requires_grad_()
    gradient = random((2, 5, 9, 9), dtype, seed=1)
    (result,) = torch.autograd.grad(gaussian_smooth(x, 1.1, 5), x, gradient)
    assert torch.equal(result, gaussian_smooth(gradient, 1.1, 5))


def test_gradients_of_any_strides() -> None:
    x = random((2, 5, 9, 9), torch.float32).requires_grad_()
    for gradient in (channels_last(random((2, 5, 9, 9), torch.float32)), torch.ones(()).expand(2, 5, 9, 9)):
        (result,) = torch.autograd.grad(gaussian_smooth(x, 1.1), x, gradient)
        assert torch.allclose(result, gaussian_smooth(gradient.contiguous(), 1.1))


def _ops_in_backward(loss: Tensor) -> set[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss.backward()
    return {event.key.removeprefix("lerac_fast::") for event in profile.key_averages() if "lerac_fast" in event.key}


@pytest.mark.parametrize("op", [gaussian_smooth, gaussian_smooth_])
def test_backward_overwrites_gradients_that_nobody_else_holds(op) -> None:
    """So that smoothing adds no memory to the backward pass."""
    x = random((2, 5, 9, 9), torch.float32).requires_grad_()
    ours = _ops_in_backward((op(x * 1, 0.8) * 1).sum())
    assert "gaussian_smooth_" in ours
    assert "gaussian_smooth" not in ours
    expected, x.grad = x.grad, None

    held: list[Tensor] = []
    y = op(x * 1, 0.8)
    y.register_hook(held.append)
    assert "gaussian_smooth" in _ops_in_backward((y * 1).sum())
    assert torch.equal(held[0], torch.ones_like(y))
    assert torch.equal(x.grad, expected)
    x.grad = None

    assert "gaussian_smooth" in _ops_in_backward(op(x * 1, 0.8).sum())  # an expanded gradient has no memory of its own
    assert torch.equal(x.grad, expected)


def test_gradients_that_others_hold_are_left_alone() -> None:
    x = random((2, 5, 9, 9), torch.float32).requires_grad_()

    gradient = torch.ones(2, 5, 9, 9)
    gaussian_smooth(x, 0.8).backward(gradient)  # the user's
    assert torch.equal(gradient, torch.ones_like(gradient))
    expected, x.grad = x.grad, None

    y = gaussian_smooth(x, 0.8)
    y.retain_grad()
    (y * 1).sum().backward()
    assert torch.equal(y.grad, torch.ones_like(y))
    assert torch.equal(x.grad, expected)
    x.grad = None

    h = x * 1
    (gaussian_smooth(h, 0.8) + gaussian_smooth(h, 0.8) + h).sum().backward()  # one tensor for three
    assert torch.allclose(x.grad, 2 * expected + 1)
    x.grad = None

    halves = gaussian_smooth(x, 0.8), gaussian_smooth(x, 0.8)  # views of one memory
    torch.cat(halves).sum().backward()
    assert torch.equal(x.grad, 2 * expected)

    y = gaussian_smooth(x, 0.8)
    first = torch.autograd.grad((y * 1).sum(), x, retain_graph=True)[0]
    assert torch.equal(torch.autograd.grad((y * 1).sum(), x)[0], first)


class _FromNumpy(torch.autograd.Function):
    """Its gradient lies in memory that NumPy owns."""

    @staticmethod
    def forward(ctx, x: Tensor, weights: np.ndarray) -> Tensor:
        ctx.weights = weights
        return x.view_as(x)

    @staticmethod
    def backward(ctx, _: Tensor) -> tuple[Tensor, None]:
        return torch.from_numpy(ctx.weights), None


def test_memory_that_is_not_torchs_is_left_alone() -> None:
    x = random((2, 5, 9, 9), torch.float32).requires_grad_()
    weights = np.ones((2, 5, 9, 9), dtype=np.float32)
    _FromNumpy.apply(gaussian_smooth(x, 0.8), weights).sum().backward()
    gaussian_smooth(x, 0.8).backward(torch.from_numpy(weights))
    y = gaussian_smooth(x, 0.8)
    y.register_hook(lambda _: torch.from_numpy(weights))
    (y * 1).sum().backward()
    assert (weights == 1).all()


def test_in_place_rules() -> None:
    leaf = random((1, 1, 4, 4), torch.float32).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        gaussian_smooth_(leaf, 1.0)

    x = leaf * 1
    version = x._version
    gaussian_smooth_(x, 1.0)
    assert x._version > version
    assert x.grad_fn is not None

    y = (leaf * 1).exp()  # needs its result for its derivative
    gaussian_smooth_(y, 1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()

    plain = leaf.detach().clone()
    version = plain._version
    gaussian_smooth_(plain, 1.0)
    assert plain._version > version
    assert not plain.requires_grad


def test_in_place_on_a_view() -> None:
    """The whole that the view belongs to gets the derivative, too."""
    x = random((3, 6, 4), torch.float64).requires_grad_()

    def smooth_all_but_the_first(x: Tensor) -> Tensor:
        whole = x * 1
        gaussian_smooth_(whole[:, 1:], 0.8, 3, 1)
        return whole

    assert gradcheck(smooth_all_but_the_first, x)
    result = smooth_all_but_the_first(x)
    assert torch.equal(result[:, 0], x[:, 0])
    assert torch.equal(result[:, 1:], gaussian_smooth(x[:, 1:], 0.8, 3, 1))


def test_sigma_changed_before_backward_is_noticed() -> None:
    sigma = torch.tensor(0.8)
    y = gaussian_smooth(random((1, 1, 4, 4), torch.float32).requires_grad_(), sigma)
    sigma.fill_(0.4)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_without_gradients() -> None:
    x = random((2, 3, 8, 8), torch.float32)
    expected = gaussian_smooth(x, 1.0)
    with torch.no_grad():
        assert not gaussian_smooth(x.clone().requires_grad_(), 1.0).requires_grad
    with torch.inference_mode():
        y = x.clone()
        assert torch.equal(gaussian_smooth(y, 1.0), expected)
        assert torch.equal(gaussian_smooth_(y, 1.0), expected)


# opcheck's own test warns so, of torch.relu just as well.
@pytest.mark.compiles
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")
@all_dtypes
@all_layouts
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(requires_grad, layout, dtype) -> None:
    x = layout(random((2, 34, 5, 4), dtype)).requires_grad_(requires_grad)
    opcheck(OPS.gaussian_smooth.default, (x, SIGMA, 3, [2, 3]))
    strided = x.detach()[:, ::2, 1:].requires_grad_(requires_grad)
    opcheck(OPS.gaussian_smooth.default, (strided, SIGMA, 5, [-1]))
    # The in-place operator never is in a graph: gaussian_smooth_ says what it means in functional terms there.
    eager = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(OPS.gaussian_smooth_.default, (x.detach().clone(), SIGMA, 3, [2, 3]), test_utils=eager)


@pytest.mark.compiles
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("op", [gaussian_smooth, gaussian_smooth_])
def test_compiles_whole(op, backend) -> None:
    def function(x: Tensor, sigma: float | Tensor) -> Tensor:
        return op(x * 2, sigma, 3).relu()

    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, backend=backend)
    for sigma in (0.9, torch.tensor(0.7, dtype=torch.float64)):
        x = channels_last(random((2, 5, 6, 6), torch.float32)).requires_grad_()
        expected, result = function(x, sigma), compiled(x, sigma)
        torch.testing.assert_close(result, expected)
        weights = random((2, 5, 6, 6), torch.float32, seed=1)
        gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (expected, result)]
        torch.testing.assert_close(*gradients)


@pytest.mark.compiles
@pytest.mark.parametrize("op", [gaussian_smooth, gaussian_smooth_])
def test_annealing_does_not_compile_again(op) -> None:
    torch._dynamo.reset()
    sigma = torch.tensor(1.0, dtype=torch.float64)
    compiled = torch.compile(lambda x: op(x + 0, sigma), fullgraph=True, backend="aot_eager")
    x = random((2, 3, 6, 6), torch.float32)
    compiled(x)
    with torch.compiler.set_stance("fail_on_recompile"):
        for value in (0.9, 0.5, 0.1, 0.0):
            sigma.fill_(value)
            torch.testing.assert_close(compiled(x), gaussian_smooth(x, value))


@pytest.mark.compiles
def test_dynamic_shapes() -> None:
    torch._dynamo.reset()
    compiled = torch.compile(lambda x: gaussian_smooth(x, SIGMA) * 2, fullgraph=True, dynamic=True, backend="aot_eager")
    for shape in ((2, 3, 8, 8), (4, 3, 8, 9), (1, 5, 7, 3)):
        x = random(shape, torch.float32)
        torch.testing.assert_close(compiled(x), gaussian_smooth(x, SIGMA) * 2)


@pytest.mark.compiles
def test_export() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), GaussianSmooth(0.8))
    x = random((2, 3, 8, 8), torch.float32)
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_dtype(dtype) -> None:
    """What a convolution hands on in the lower precision is smoothed in it, and what is in float32 in that."""
    conv = nn.Conv2d(3, 4, 3)
    x = random((2, 3, 8, 8), torch.float32)
    with torch.autocast("cpu", dtype):
        y = conv(x)
        smooth = gaussian_smooth(y, 0.8)
        assert (y.dtype, smooth.dtype) == (dtype, dtype)
        assert gaussian_smooth(x, 0.8).dtype == torch.float32
        assert gaussian_smooth_(x.clone(), 0.8).dtype == torch.float32
    smooth.float().sum().backward()
    assert conv.weight.grad.dtype == torch.float32


def test_meta_and_fake_tensors() -> None:
    x = torch.empty(2, 3, 8, 8, device="meta").to(memory_format=torch.channels_last)
    y = gaussian_smooth(x, torch.tensor(1.0, device="meta"))
    assert (y.shape, y.stride(), y.device) == (x.shape, x.stride(), x.device)
    with torch._subclasses.FakeTensorMode():
        fake = torch.empty(2, 3, 8, 8)
        assert gaussian_smooth(fake, 1.0).shape == fake.shape
        assert gaussian_smooth_(fake, 1.0) is fake
