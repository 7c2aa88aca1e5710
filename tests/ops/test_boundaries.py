"""Sizes, addresses and values at which the kernels, those for GPUs above all, change their ways."""

import itertools
import math

import pytest
import torch

from lerac_fast import gaussian_smooth, gaussian_smooth_, tempered_cross_entropy
from tests.kernels import KERNELS
from tests.ops.test_gaussian_smooth import all_dtypes, assert_smoothed, channels_last, random
from tests.ops.test_tempered_cross_entropy import batch, check, with_weight

# Around vectors of 16 bytes and warps.
WIDTHS = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65]
OPTIONS = [{}, {"weight": True, "label_smoothing": 0.2, "ignore_index": 3}, {"reduction": "sum"}]
all_options = pytest.mark.parametrize("options", OPTIONS, ids=str)


@all_dtypes
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_sizes_of_maps(dtype: torch.dtype, kernel_size: int) -> None:
    for height, width in itertools.product((1, 2, 7, 8, 9, 16, 17, 18), WIDTHS):
        x = random((2, 3, height, width), dtype)
        assert_smoothed(gaussian_smooth(x, 0.8, kernel_size), x, 0.8, kernel_size, [2, 3])
    for height, width, channels in itertools.product((1, 2, 8, 9, 17), (1, 2, 3, 7), WIDTHS):
        x = channels_last(random((2, channels, height, width), dtype))
        assert_smoothed(gaussian_smooth(x, 0.8, kernel_size), x, 0.8, kernel_size, [2, 3])


@all_dtypes
@pytest.mark.parametrize("kernel_size", [3, 9])
@pytest.mark.parametrize("inner_channels", [False, True])
def test_maps_at_any_address(dtype: torch.dtype, kernel_size: int, inner_channels: bool) -> None:
    """The same bits as where addresses are aligned, and nothing written around."""
    shape, numel = (2, 8, 16, 16), 4096
    for offset in range(9):
        memory = random((numel + 16,), dtype)
        x = memory[offset : offset + numel].view(shape)
        if inner_channels:
            x = x.movedim(-1, 1)
        expected = gaussian_smooth(x.clone(), 0.8, kernel_size)
        assert torch.equal(gaussian_smooth(x, 0.8, kernel_size), expected)
        before = memory.clone()
        gaussian_smooth_(x, 0.8, kernel_size)
        assert torch.equal(x, expected)
        assert torch.equal(memory[:offset], before[:offset])
        assert torch.equal(memory[offset + numel :], before[offset + numel :])


@all_dtypes
@pytest.mark.parametrize("kernel_size", [127, 129, 131, 401])
def test_wide_windows(dtype: torch.dtype, kernel_size: int) -> None:
    """Around 64 neighbours on either side: so many weights are arguments of the CUDA kernel."""
    for x in (random((2, 3, 150, 205), dtype), channels_last(random((1, 8, 150, 20), dtype))):
        assert_smoothed(gaussian_smooth(x, 40.0, kernel_size), x, 40.0, kernel_size, [2, 3])


@all_dtypes
@all_options
@pytest.mark.parametrize(
    ("rows", "classes"),
    [(3, 2047), (3, 2048), (2, 2049), (2, 4099), (3, 5000), (9, 2040), (17, 1), (5, 256), (5, 255), (8, 8), (9, 33)],
)
def test_numbers_of_classes(dtype: torch.dtype, options: dict, rows: int, classes: int) -> None:
    check(*batch(rows, classes, dtype), **with_weight(options, classes))


@all_options
@pytest.mark.parametrize("rows", [1023, 1024, 1025, 16384, 16385, 20000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_of_rows(dtype: torch.dtype, options: dict, rows: int) -> None:
    check(*batch(rows, 5, dtype), **with_weight(options, 5))


@all_dtypes
def test_rows_at_any_address(dtype: torch.dtype) -> None:
    for offset in range(5):
        logits, targets, sigma = batch(6, 32, dtype)
        moved = torch.zeros(6 * 32 + 8, dtype=dtype)[offset : offset + 192].view(6, 32).copy_(logits)
        check(moved, targets, sigma)


def test_no_rows_and_no_classes() -> None:
    for reduction in ("none", "mean", "sum"):
        nothing = torch.empty(0, 3, requires_grad=True)
        tempered_cross_entropy(nothing, torch.empty(0, dtype=torch.long), 1.0, reduction=reduction).sum().backward()


def test_many_rows_of_which_none_counts() -> None:
    logits, targets, sigma = batch(16400, 3, torch.float32)
    logits.requires_grad_()
    loss = tempered_cross_entropy(logits, targets * 0, sigma, ignore_index=0)
    assert loss.isnan()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("layout", ["strided", "expanded"])
def test_gradients_of_any_strides(layout: str) -> None:
    logits, targets, sigma = batch(12, 7, torch.float32)
    logits.requires_grad_()
    loss = tempered_cross_entropy(logits, targets, sigma, reduction="none")
    upstream = torch.arange(24.0)[::2] if layout == "strided" else torch.ones(()).expand(12)
    (expected,) = torch.autograd.grad(loss, logits, upstream.clone(), retain_graph=True)
    (gradient,) = torch.autograd.grad(loss, logits, upstream)
    assert torch.equal(gradient, expected)


@pytest.mark.skipif(KERNELS == "cpu", reason="the CPU refuses such values; a GPU would have to be waited for")
@pytest.mark.parametrize("rows", [4, 9])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 2, 0, 1, 3])], ids=["equal", "weighted"])
def test_bad_values_make_their_rows_nan(rows: int, reduction: str, weight: torch.Tensor | None) -> None:
    """And nobody else's."""
    logits, targets, sigma = batch(rows, 5, torch.float32)
    targets[0], targets[1] = 5, -7
    sigma[2] = -1.0
    logits.requires_grad_()
    sigma.requires_grad_()
    loss = tempered_cross_entropy(logits, targets, sigma, reduction=reduction, weight=weight, label_smoothing=0.1)
    if reduction == "none":
        assert loss[:3].isnan().all()
        assert loss[3:].isfinite().all()
    else:
        assert loss.isnan()
    for gradient in torch.autograd.grad(loss.sum(), (logits, sigma)):
        assert gradient[:3].isnan().all()
        assert gradient[3:].isfinite().all()
    for bad in (0.0, math.inf, math.nan, 1e-39):
        assert tempered_cross_entropy(logits, targets * 0, bad).isnan()
