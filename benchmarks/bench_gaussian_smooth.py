"""Gaussian smoothing, op by op, against depthwise ``conv2d`` (as the authors of CBS do it) and torchvision's blur.

Feature maps are those of ResNet-18 (CIFAR, batch 64) and of ResNet-18, Wide-ResNet-50-2 and DenseNet-121 (ImageNet,
batch 16), where smoothing has a site.
"""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from benchmarks.conftest import LIMIT
from lerac_fast import gaussian_smooth, gaussian_smooth_

SIGMA, KERNEL = 0.9, 3

SHAPES = [
    (64, 64, 32, 32),  # ResNet-18, CIFAR
    (64, 128, 16, 16),
    (64, 256, 8, 8),
    (64, 512, 4, 4),
    (16, 64, 112, 112),  # stems, ImageNet
    (16, 64, 56, 56),  # ResNet-18, ImageNet
    (16, 128, 28, 28),
    (16, 256, 14, 14),
    (16, 512, 7, 7),
    (16, 128, 56, 56),  # Wide-ResNet-50-2
    (16, 256, 28, 28),
    (16, 512, 14, 14),
    (16, 1024, 7, 7),
    (16, 32, 56, 56),  # DenseNet-121
    (16, 32, 28, 28),
    (16, 32, 14, 14),
    (16, 32, 7, 7),
]
CASES = [
    pytest.param(shape, layout, dtype, id=f"{shape} {str(layout)[6:]} {str(dtype)[6:]}".replace("_format", ""))
    for dtype in (torch.float32, torch.bfloat16)
    for layout in (torch.contiguous_format, torch.channels_last)
    for shape in SHAPES
]
cases = pytest.mark.parametrize(("shape", "layout", "dtype"), CASES)

# Sigma as CBS holds it: a tensor.
sigma = torch.tensor(SIGMA, dtype=torch.float64)


def feature_map(shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype, device: str = "cpu") -> Tensor:
    return torch.randn(shape, device=device).to(dtype).contiguous(memory_format=layout)


def depthwise(x: Tensor) -> Callable[[Tensor], Tensor]:
    """The authors' formulation: a convolution whose groups are the channels."""
    weights = torch.exp(-(torch.arange(-1.0, 2.0) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    kernel = torch.outer(weights, weights).to(x).repeat(x.size(1), 1, 1, 1)
    return lambda x: F.conv2d(x, kernel, padding=1, groups=x.size(1))


def name(shape: tuple[int, ...], layout: torch.memory_format, dtype: torch.dtype) -> str:
    return f"{' x '.join(map(str, shape))}, {str(layout)[6:].removesuffix('_format')}, {str(dtype)[6:]}"


@cases
def bench_forward(compare, shape, layout, dtype) -> None:
    x = feature_map(shape, layout, dtype)
    convolve = depthwise(x)
    timed = {
        "gaussian_smooth": lambda: gaussian_smooth(x, sigma),
        "depthwise conv2d": lambda: convolve(x),
    }
    if dtype == torch.float32 and layout == torch.contiguous_format:
        timed["torchvision gaussian_blur"] = lambda: gaussian_blur(x, KERNEL, SIGMA)
    with torch.no_grad():
        compare(name(shape, layout, dtype), timed, bytes_moved=2 * x.nbytes, seconds=1.0)


@cases
def bench_in_place(compare, shape, layout, dtype) -> None:
    """As CBS does it, forward and backward alike. The limit is a plain copy into memory that is there."""
    x = feature_map(shape, layout, dtype)
    y = torch.empty_like(x)
    timed = {"gaussian_smooth_": lambda: gaussian_smooth_(x, sigma), LIMIT: lambda: y.copy_(x)}
    with torch.no_grad():
        compare(name(shape, layout, dtype), timed, bytes_moved=2 * x.nbytes, seconds=0.5)


@cases
def bench_forward_and_backward(compare, shape, layout, dtype) -> None:
    """Through autograd, with a new map and a new gradient."""
    x = feature_map(shape, layout, dtype).requires_grad_()
    gradient = feature_map(shape, layout, dtype)
    convolve = depthwise(x)
    timed = {
        "gaussian_smooth": lambda: torch.autograd.grad(gaussian_smooth(x, sigma), x, gradient),
        "depthwise conv2d": lambda: torch.autograd.grad(convolve(x), x, gradient),
    }
    compare(name(shape, layout, dtype), timed, bytes_moved=4 * x.nbytes, seconds=1.0)
