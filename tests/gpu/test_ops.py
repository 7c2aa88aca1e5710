"""The operators on a GPU, against the float64 references on the CPU."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from lerac_fast import gaussian_smooth, gaussian_smooth_, tempered_cross_entropy
from tests.ops import test_gaussian_smooth as smoothing
from tests.ops import test_tempered_cross_entropy as tempered
from tests.reference.tempered_cross_entropy import tempered_cross_entropy as reference

pytestmark = pytest.mark.gpu
OPS = torch.ops.lerac_fast
SIGMA = torch.tensor(0.8, dtype=torch.float64)
opchecked = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf Tensor:UserWarning")

# ---- gaussian_smooth ----

SHAPES = [
    (1, 1, 1, 1),
    (3, 2, 1, 7),
    (2, 3, 8, 8),
    (33, 5, 4, 4),
    (5, 40, 7, 7),
    (2, 64, 14, 14),
    (1, 3, 129, 131),
    (3, 70, 5, 17),
    (2, 20, 301),
    (2, 3, 5, 6, 7),
    (2, 3, 0, 4),
]
# As views of a tensor on the device: with gaps, and beginning where no access of 16 bytes does.
VIEWS = {
    "every second channel": lambda x: x[:, ::2],
    "without a border": lambda x: x[..., 1:-1, 1:],
    "transposed": lambda x: x.transpose(-1, -2),
    "unaligned": lambda x: torch.cat([x.new_zeros(1), x.flatten()])[1:].view(x.shape),
    "expanded": lambda x: x[:1].expand(3, *x.shape[1:]),
}


def assert_smoothed(result: Tensor, x: Tensor, sigma: float, kernel_size: int, dims: list[int]) -> None:
    assert (result.dtype, result.device, result.shape) == (x.dtype, x.device, x.shape)
    assert result.stride() == torch.empty_like(x).stride()
    if x.numel():
        smoothing.assert_smoothed(result.cpu(), x.cpu(), sigma, kernel_size, dims)


@smoothing.all_dtypes
@smoothing.all_layouts
@pytest.mark.parametrize("kernel_size", [3, 5, 11, 151])
def test_smoothing(kernel_size: int, layout, dtype: torch.dtype, device: torch.device) -> None:
    for shape in SHAPES:
        x = layout(smoothing.random(shape, dtype)).to(device)
        result = gaussian_smooth(x, 0.8, kernel_size)
        assert_smoothed(result, x, 0.8, kernel_size, list(range(2, x.ndim)))
        assert torch.equal(gaussian_smooth_(x, 0.8, kernel_size), result), "the same bits in place"


@smoothing.all_dtypes
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_smoothing_of_views(view, dtype: torch.dtype, device: torch.device) -> None:
    x = view(smoothing.random((4, 18, 9, 20), dtype).to(device))
    for dims in ([2, 3], [1], [0, 2], [3, 1]):
        assert_smoothed(gaussian_smooth(x, 1.3, 5, dims), x, 1.3, 5, dims)
    if x.stride(0):
        whole = x._base if x._base is not None else x
        before = whole.clone()
        expected = gaussian_smooth(x, 1.3)
        assert torch.equal(gaussian_smooth_(x, 1.3), expected)
        assert (whole != before).sum() <= x.numel(), "what surrounds the view is left alone"


@smoothing.all_dtypes
@smoothing.all_layouts
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stays_among_its_neighbours(value: float, layout, dtype, device: torch.device) -> None:
    shape = (2, 9, 6, 35)
    for n, c, h, w in ((0, 0, 0, 0), (0, 8, 5, 34), (1, 0, 0, 34), (1, 4, 3, 17)):
        x = smoothing.random(shape, dtype)
        x[n, c, h, w] = value
        touched = torch.zeros(shape, dtype=torch.bool)
        touched[n, c, max(h - 1, 0) : h + 2, max(w - 1, 0) : w + 2] = True
        assert torch.equal(gaussian_smooth(layout(x).to(device), 0.8).isfinite().cpu(), ~touched)


@smoothing.all_layouts
@pytest.mark.parametrize(("shape", "kernel_size"), [((2, 3, 4, 5), 3), ((1, 5, 3, 3), 5)], ids=str)
def test_derivatives_of_smoothing(shape, kernel_size: int, layout, device: torch.device) -> None:
    x = layout(smoothing.random(shape, torch.float64)).to(device).requires_grad_()
    assert gradcheck(lambda x: gaussian_smooth(x, 0.8, kernel_size), x)
    assert gradcheck(lambda x: gaussian_smooth_(x * 2, 0.8, kernel_size) ** 2, x)
    assert gradgradcheck(lambda x: gaussian_smooth_(x * 2, 0.8, kernel_size) ** 2, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_leaves_the_dtype(dtype: torch.dtype, device: torch.device) -> None:
    conv = nn.Conv2d(3, 4, 3).to(device)
    x = smoothing.random((2, 3, 8, 8), torch.float32).to(device)
    with torch.autocast(device.type, dtype):
        y = conv(x)
        smooth = gaussian_smooth(y, 0.8)
        assert (y.dtype, smooth.dtype) == (dtype, dtype)
        assert gaussian_smooth(x, 0.8).dtype == torch.float32
    smooth.float().sum().backward()
    assert conv.weight.grad.isfinite().all()


def test_smoothing_does_not_wait(device: torch.device, no_synchronization) -> None:
    x = smoothing.random((2, 5, 9, 9), torch.float32).to(device).requires_grad_()
    for kernel_size in (3, 11, 151):
        with no_synchronization():
            gaussian_smooth(x, SIGMA, kernel_size).sum().backward()
        x.grad = None


@opchecked
@pytest.mark.compiles
@smoothing.all_layouts
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck_of_smoothing(requires_grad: bool, layout, device: torch.device) -> None:
    x = layout(smoothing.random((2, 34, 5, 4), torch.float32)).to(device).requires_grad_(requires_grad)
    opcheck(OPS.gaussian_smooth.default, (x, SIGMA, 3, [2, 3]))
    opcheck(OPS.gaussian_smooth.default, (x.detach()[:, ::2, 1:].requires_grad_(requires_grad), SIGMA, 5, [-1]))


# ---- tempered_cross_entropy ----


def check(logits: Tensor, targets: Tensor, sigma: Tensor, device: torch.device, **options) -> None:
    """Loss and both gradients, for an uneven gradient of the loss."""
    dtype = logits.dtype
    single = torch.float32 if dtype.itemsize == 2 else dtype
    exact = [x.double().requires_grad_() for x in (logits, sigma)]
    expected = reference(exact[0], targets, exact[1], **options)
    upstream = torch.linspace(0.5, 1.5, expected.numel(), dtype=single).view(expected.shape)
    there = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in options.items()}
    inputs = [x.to(device).requires_grad_() for x in (logits, sigma)]
    loss = tempered_cross_entropy(inputs[0], targets.to(device), inputs[1], **there)
    assert loss.dtype == torch.promote_types(dtype, sigma.dtype)
    tempered.assert_near(loss.cpu(), expected, single, floor=0.1)
    gradients = torch.autograd.grad(loss, inputs, upstream.to(device))
    by_logits, by_sigma = torch.autograd.grad(expected, exact, upstream.double())
    assert gradients[0].stride() == torch.empty_like(inputs[0]).stride()
    tempered.assert_near(gradients[0].cpu(), by_logits, dtype, floor=1 / max(1, len(targets)))
    # The difference of two sums of the logits' size.
    tempered.assert_near(gradients[1].cpu(), by_sigma, single, floor=1.0)


@tempered.all_dtypes
@pytest.mark.parametrize("classes", [1, 2, 10, 31, 32, 33, 1000, 4097])
def test_numbers_of_classes(classes: int, dtype: torch.dtype, device: torch.device) -> None:
    for rows in (1, 7, 130):
        check(*tempered.batch(rows, classes, dtype), device)


@tempered.all_options
@tempered.all_dtypes
def test_options(options, dtype: torch.dtype, device: torch.device) -> None:
    check(*tempered.batch(65, 33, dtype), device, **tempered.with_weight(options, 33))
    logits, targets, sigma = tempered.batch(4 * 5 * 6, 19, dtype)  # [N, C, d1, d2]
    logits = logits.view(4, 5, 6, 19).movedim(-1, 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        shaped = logits.contiguous(memory_format=layout), targets.view(4, 5, 6), sigma.view(4, 5, 6)
        check(*shaped, device, **tempered.with_weight(options, 19))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_more_rows_than_one_block_reduces(reduction: str, device: torch.device) -> None:
    check(*tempered.batch(20_000, 5, torch.float32), device, reduction=reduction, ignore_index=2)


def test_impossible_classes_and_ignored_rows(device: torch.device) -> None:
    logits, targets, sigma = tempered.batch(8, 20, torch.float32)
    logits[:, 5:9] = -math.inf
    targets = torch.where((targets >= 5) & (targets < 9), 0, targets)
    targets[3], logits[4, 11] = -100, math.nan
    inputs = [x.to(device).requires_grad_() for x in (logits, sigma)]
    losses = tempered_cross_entropy(inputs[0], targets.to(device), inputs[1], reduction="none")
    assert losses.isnan().tolist() == [row == 4 for row in range(8)]
    assert losses[3] == 0
    by_logits, by_sigma = (g.cpu() for g in torch.autograd.grad(losses.sum(), inputs))
    rows = [0, 1, 2, 3, 5, 6, 7]
    assert by_logits[rows].isfinite().all()
    assert by_sigma[rows].isfinite().all()
    assert not by_logits[rows, 5:9].any()
    assert not by_logits[3].any()


@pytest.mark.usefixtures("gpu_kernels")
@pytest.mark.parametrize(
    ("target", "sigma"), [(5, 1.0), (-1, 1.0), (0, 0.0), (0, -2.0), (0, math.nan), (0, math.inf), (0, 1e-39)]
)
def test_bad_values_make_their_row_nan(target: int, sigma: float, device: torch.device) -> None:
    """A GPU cannot refuse them without waiting for them."""
    logits, targets, sigmas = tempered.batch(6, 5, torch.float32)
    targets[2], sigmas[2] = target, sigma
    inputs = [x.to(device).requires_grad_() for x in (logits, sigmas)]
    losses = tempered_cross_entropy(inputs[0], targets.to(device), inputs[1], reduction="none")
    assert losses.isnan().tolist() == [row == 2 for row in range(6)]
    by_logits, by_sigma = torch.autograd.grad(losses.sum(), inputs)
    assert by_logits.isnan().any(1).tolist() == [row == 2 for row in range(6)]
    assert by_sigma.isnan().tolist() == [row == 2 for row in range(6)]


@tempered.all_options
def test_derivatives_of_the_loss(options, device: torch.device) -> None:
    logits, targets, sigma = (x.to(device) for x in tempered.batch(6, 5, torch.float64))
    options = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in tempered.with_weight(options, 5).items()}
    inputs = logits.requires_grad_(), sigma.requires_grad_()
    assert gradcheck(lambda z, s: tempered_cross_entropy(z, targets, s, **options), inputs)
    assert gradgradcheck(lambda z, s: tempered_cross_entropy(z, targets, s, **options), inputs)


def test_the_loss_does_not_wait(device: torch.device, no_synchronization) -> None:
    logits, targets, sigma = (x.to(device) for x in tempered.batch(64, 10, torch.float32))
    weight = torch.linspace(0.5, 2, 10, device=device)
    for rows in (logits, logits.repeat(400, 1)):
        rows.requires_grad_()
        repeats = len(rows) // 64
        with no_synchronization():
            tempered_cross_entropy(
                rows, targets.repeat(repeats), sigma.repeat(repeats), weight=weight, label_smoothing=0.1
            ).backward()
    torch.testing.assert_close(
        tempered_cross_entropy(logits, targets, 1.0, weight=weight), F.cross_entropy(logits, targets, weight)
    )


@opchecked
@pytest.mark.compiles
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_opcheck_of_the_loss(reduction: str, device: torch.device) -> None:
    logits, targets, sigma = (x.to(device) for x in tempered.batch(6, 21, torch.float32))
    arguments = (logits.requires_grad_(), targets, sigma.requires_grad_(), None, reduction, 0.1, -100)
    opcheck(OPS._tempered_cross_entropy.default, arguments)
    opcheck(OPS.tempered_cross_entropy.default, arguments)


@pytest.mark.compiles
def test_both_compile_whole(device: torch.device) -> None:
    torch._dynamo.reset()
    maps, sigma = smoothing.random((6, 21, 4, 4), torch.float32).to(device), torch.ones(6, device=device)
    targets = torch.arange(6, device=device)
    inputs = maps.requires_grad_(), sigma.requires_grad_()

    def function(x: Tensor, s: Tensor) -> Tensor:
        return tempered_cross_entropy(gaussian_smooth(x * 2, SIGMA).mean((2, 3)), targets, s.exp())

    compiled = torch.compile(function, fullgraph=True)
    expected, result = function(*inputs), compiled(*inputs)
    torch.testing.assert_close(result, expected)
    for ours, other in zip(torch.autograd.grad(result, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(ours, other)
