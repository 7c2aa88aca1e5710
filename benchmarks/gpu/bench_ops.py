"""The operators on a GPU: smoothing against depthwise ``conv2d``, the tempered loss against torch's cross entropy.

Feature maps are those of ResNet-18, Wide-ResNet-50-2 and DenseNet-121 at batch 64. The limit is a copy of as many
bytes.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.bench_gaussian_smooth import SHAPES, depthwise, feature_map, name, sigma
from benchmarks.gpu.conftest import TINY
from lerac_fast import gaussian_smooth, gaussian_smooth_, tempered_cross_entropy

layouts = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels_last"]
)
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape[1:])))


def at_batch_64(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (1, *(min(size, 8) for size in shape[1:])) if TINY else (64, *shape[1:])


@shapes
@layouts
@dtypes
def bench_smoothing(compare_on_device, device: str, shape, layout, dtype) -> None:
    x = feature_map(at_batch_64(shape), layout, dtype, device)
    convolve = depthwise(x)
    timed = {
        "gaussian_smooth": lambda: gaussian_smooth(x, sigma),
        "gaussian_smooth_": lambda: gaussian_smooth_(x, sigma),
        "depthwise conv2d": lambda: convolve(x),
    }
    with torch.no_grad():
        compare_on_device(name(tuple(x.shape), layout, dtype), timed, bytes_moved=2 * x.nbytes, seconds=0.2)


@shapes
@layouts
@dtypes
def bench_smoothing_forward_and_backward(compare_on_device, device: str, shape, layout, dtype) -> None:
    """Through autograd, with a new map and a new gradient."""
    x = feature_map(at_batch_64(shape), layout, dtype, device).requires_grad_()
    gradient = feature_map(at_batch_64(shape), layout, dtype, device)
    convolve = depthwise(x)
    timed = {
        "gaussian_smooth": lambda: torch.autograd.grad(gaussian_smooth(x, sigma), x, gradient),
        "depthwise conv2d": lambda: torch.autograd.grad(convolve(x), x, gradient),
    }
    compare_on_device(name(tuple(x.shape), layout, dtype), timed, bytes_moved=4 * x.nbytes, seconds=0.2)


# Of images, and of the words and word pieces of language models; 50,257 classes are aligned in no row but the first.
@pytest.mark.parametrize(("rows", "classes"), [(64, 10), (128, 1000), (4096, 1000), (8192, 32_000), (4096, 50_257)])
@dtypes
def bench_loss(compare_on_device, device: str, rows: int, classes: int, dtype: torch.dtype) -> None:
    """Forward and backward, for logits and temperatures; torch's without temperatures, and with them written out. Read
    twice and written once, the logits are the limit."""
    if TINY:
        rows, classes = min(rows, 64), min(classes, 1000)
    logits = torch.randn(rows, classes, device=device).to(dtype).requires_grad_()
    targets = torch.randint(0, classes, (rows,), device=device)
    temperatures = torch.ones(rows, device=device).requires_grad_()

    def run(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def forward_and_backward() -> None:
            logits.grad = temperatures.grad = None
            loss().backward()

        return forward_and_backward

    timed = {
        "tempered_cross_entropy": run(lambda: tempered_cross_entropy(logits, targets, temperatures)),
        "F.cross_entropy": run(lambda: F.cross_entropy(logits, targets)),
        "F.cross_entropy of logits / sigma": run(
            lambda: F.cross_entropy(logits / temperatures[:, None].to(dtype), targets)
        ),
    }
    compare_on_device(f"{rows} x {classes}, {str(dtype)[6:]}", timed, bytes_moved=3 * logits.nbytes)
