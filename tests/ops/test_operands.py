"""Operands that would have the kernels read or leave out memory: on other devices, changed by others, or huge."""

import math
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lerac_fast import GaussianSmooth, gaussian_smooth, gaussian_smooth_, tempered_cross_entropy
from lerac_fast.ops.gaussian_smooth import extension
from tests.kernels import KERNELS
from tests.ops.test_gaussian_smooth import DTYPES, assert_smoothed, random
from tests.ops.test_tempered_cross_entropy import batch

# Devices

META = torch.device("meta")


@pytest.mark.parametrize("elsewhere", ["targets", "sigma", "weight"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_operands_of_the_loss_must_lie_with_the_logits(elsewhere: str, reduction: str) -> None:
    logits, targets, sigma = batch(4, 5, torch.float32)
    operands = {"targets": targets, "sigma": sigma, "weight": torch.ones(5)}
    with pytest.raises(ValueError, match=f"{elsewhere} is on meta, but the logits are on cpu"):
        tempered_cross_entropy(logits, **operands | {elsewhere: operands[elsewhere].to(META)}, reduction=reduction)
    on_meta = {name: operand.to(META) for name, operand in operands.items()}
    with pytest.raises(ValueError, match="is on cpu, but the logits are on meta"):
        tempered_cross_entropy(logits.to(META), **on_meta | {elsewhere: operands[elsewhere]}, reduction=reduction)


@pytest.mark.parametrize("op", [gaussian_smooth, gaussian_smooth_])
def test_sigma_must_lie_on_the_cpu_or_with_the_map(op: Callable[..., Tensor]) -> None:
    x = random((1, 2, 5), torch.float32)
    with pytest.raises(ValueError, match="sigma is on meta; it may be on the CPU or with x, which is on cpu"):
        op(x, torch.ones((), device=META))
    for sigma in (1.0, torch.ones(()), torch.ones((), device=META)):
        assert op(x.to(META), sigma).is_meta


def test_the_default_device_is_not_that_of_a_number() -> None:
    x, (logits, targets, _) = random((1, 2, 5), torch.float32), batch(4, 5, torch.float32)
    expected, loss = gaussian_smooth(x, 1.0), tempered_cross_entropy(logits, targets, 2.0)
    with torch.device(META):
        assert torch.equal(gaussian_smooth(x, 1.0), expected)
        assert torch.equal(GaussianSmooth(1.0)(x), expected)
        assert torch.equal(gaussian_smooth_(x.clone(), 1.0), expected)
        assert torch.equal(tempered_cross_entropy(logits, targets, 2.0), loss)
        with pytest.raises(ValueError, match="sigma must be 0 or more, not -1"):
            GaussianSmooth(-1.0)


# What is saved between the passes


def moved(saved: Tensor) -> Tensor:
    return saved.to(META)


def shortened(saved: Tensor) -> Tensor:
    return saved[:1]


def halved(saved: Tensor) -> Tensor:
    return saved.half()


@pytest.mark.parametrize("change", [moved, shortened, halved])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32], ids=["targets", "statistics"])
def test_what_comes_back_for_the_backward_pass_is_checked(change: Callable[[Tensor], Tensor], dtype) -> None:
    logits, targets, sigma = batch(7, 5, torch.float64)
    logits, shape = logits.float().requires_grad_(), {torch.int64: (7,), torch.float32: (7, 4)}[dtype]
    pack = lambda saved: change(saved) if saved.dtype == dtype and saved.shape == shape else saved  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        loss = tempered_cross_entropy(logits, targets, sigma)
    with pytest.raises(ValueError, match=r"(targets|statistics) (is on meta|must be|of shape)"):
        loss.backward()


def test_saved_statistics_of_any_strides() -> None:
    logits, targets, sigma = batch(7, 5, torch.float32)
    logits.requires_grad_()
    (expected,) = torch.autograd.grad(tempered_cross_entropy(logits, targets, sigma), logits)
    apart = lambda saved: torch.stack([saved, saved], -1)[..., 0]  # noqa: E731
    with torch.autograd.graph.saved_tensors_hooks(apart, lambda saved: saved):
        loss = tempered_cross_entropy(logits, targets, sigma, reduction="sum") / 7
    assert torch.allclose(torch.autograd.grad(loss, logits)[0], expected)


# Other threads

CHANGED_MEANWHILE = """
import threading
import torch
from lerac_fast import tempered_cross_entropy

rows = 20_000
logits, weight, targets = torch.randn(rows, 4), torch.ones(4), torch.zeros(rows, dtype=torch.int64)
done = False

def change():
    while not done:
        targets.fill_(2**40)
        targets.zero_()

thread = threading.Thread(target=change, daemon=True)  # so that an error ends the process
thread.start()
for _ in range(100):
    for options in ({}, {"weight": weight}):
        try:
            loss = tempered_cross_entropy(logits, targets, 1.0, **options)
            assert loss.isfinite()
        except ValueError as error:
            assert f"target {2**40} of row" in str(error), error
done = True
thread.join()
"""


@pytest.mark.skipif(KERNELS != "cpu", reason="about the CPU's kernels; those of GPUs read and check in one thread")
def test_targets_that_another_thread_changes_are_never_followed() -> None:
    """Whatever they are at the moment: what is used is what was checked."""
    subprocess.run([sys.executable, "-c", CHANGED_MEANWHILE], check=True)


# Windows


@pytest.mark.parametrize("sigma", [110.0, 1e3, 1e4, 1e5, 1e6, 1e9, 1e150, 1e200, 1e308, math.inf])
@pytest.mark.parametrize("radius", [1, 50, 4096, 4097, 10_000, 100_000])
def test_the_sum_of_many_weights(sigma: float, radius: int) -> None:
    expected = 1 + 2 * math.fsum(math.exp(-0.5 * (i / sigma) * (i / sigma)) for i in range(1, radius + 1))
    assert extension.gaussian_sum(radius, sigma) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 7, 9), (1, 2, 1, 300), (1, 2, 3, 400), (2, 20, 5, 5)], ids=str)
def test_a_window_beyond_all_borders_is_a_sum(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """At once, however large: neighbours that cannot be are not looked for."""
    x = torch.ones(shape, dtype=dtype)
    kernel_size = 2**20 + 1
    height, width = shape[2:]
    expected = torch.full(shape, height * width / kernel_size**2, dtype=torch.float64)
    for smooth in (gaussian_smooth, gaussian_smooth_):
        result = smooth(x.clone(), math.inf, kernel_size).double()
        torch.testing.assert_close(result, expected, rtol=2**-7, atol=2**-24 if dtype == torch.float16 else 0.0)
    gaussian_smooth(x, math.inf, 2**62 + 1)


@pytest.mark.parametrize("dims", [[2], [3], [2, 3]], ids=str)
def test_windows_wider_than_one_of_the_axes(dims: list[int]) -> None:
    for shape in ((1, 2, 3, 200), (1, 2, 200, 3), (1, 20, 2, 130), (3, 2, 1, 150)):
        for x in (random(shape, torch.float64), random((*shape[::2], *shape[1::2]), torch.float64).transpose(1, 2)):
            for radius in (1, 2, 3, 40, 400):
                result = gaussian_smooth(x, 60.0, 2 * radius + 1, dims)
                assert_smoothed(result, x, 60.0, 2 * radius + 1, dims)
                assert torch.equal(gaussian_smooth_(x.clone(), 60.0, 2 * radius + 1, dims), result)


# Around the blocks of one long row, and rows that are one block's border.
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("length", [4095, 4096, 4097, 8192, 8193, 20_000])
@pytest.mark.parametrize("radius", [1, 2, 4096, 5000])
def test_long_rows_in_blocks(length: int, radius: int, dtype: torch.dtype) -> None:
    x = random((1, 1, length), dtype)
    # For so many neighbours the reference takes minutes: one sum of products for each of a few elements.
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / 900) ** 2)
    weights /= weights.sum()
    padded = torch.nn.functional.pad(x.double(), (radius, radius))[0, 0]
    places = [*range(0, length, 1021), length - 1]
    expected = torch.stack([padded[i : i + 2 * radius + 1] @ weights for i in places])
    result = gaussian_smooth(x, 900.0, 2 * radius + 1)
    tolerance = {torch.float32: 3e-5, torch.float64: 1e-13, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    torch.testing.assert_close(result[0, 0, places].double(), expected, rtol=0, atol=tolerance)
    assert torch.equal(gaussian_smooth_(x.clone(), 900.0, 2 * radius + 1), result)


MEMORY_OF_ONE_ROW = """
import resource
import torch
from lerac_fast import gaussian_smooth_

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

for shape, dtype in (((1, 1, 2**25), torch.bfloat16), ((1, 1, 1, 2**25), torch.float32)):
    x = torch.zeros(shape, dtype=dtype)
    gaussian_smooth_(x[..., :10_000], 1.0, 5)
    before = peak()
    gaussian_smooth_(x, 1.0, 5)
    assert peak() - before < x.nbytes / 4, (peak() - before) / x.nbytes
"""


@pytest.mark.skipif(KERNELS != "cpu", reason="a GPU smooths into another tensor")
def test_one_long_row_takes_no_memory_in_place() -> None:
    subprocess.run([sys.executable, "-c", MEMORY_OF_ONE_ROW], check=True)
