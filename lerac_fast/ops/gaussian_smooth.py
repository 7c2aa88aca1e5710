"""Separable Gaussian smoothing of feature maps, with zero padding: the operation behind curriculum by smoothing.

The operator is its own adjoint, so that one kernel serves both directions. Schema: `csrc/schemas.cpp`; checks, fake
kernel and derivative: `csrc/ops/gaussian_smooth.cpp`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lerac_fast._native.extension import extension as extension  # registers the ops


def gaussian_smooth(
    x: Tensor, sigma: float | Tensor, kernel_size: int = 3, dims: int | Sequence[int] | None = None
) -> Tensor:
    """Convolve `x` along `dims` with a normalised Gaussian.

    Along each axis the weights are w(i) = exp(-i^2 / (2 sigma^2)) / sum, for \\|i\\| <= kernel_size // 2; beyond the
    borders `x` counts as zero. What is not named in `dims` (batch, channels) is left apart. float16 and bfloat16 are
    computed in float32 and rounded once. Under autocast the dtype is that of `x`.

    Args:
        x: float32, float64, bfloat16 or float16, of any strides; a feature map `[N, C, *spatial]` unless `dims` says
            otherwise.
        sigma: the Gaussian's width, in elements, 0 or more; 0 is the identity. A number or a floating point tensor
            without dimensions, on the CPU or where `x` is, whose value may change without torch.compile compiling
            again. It gets no gradient.
        kernel_size: elements that the Gaussian covers along each axis: odd.
        dims: the axes to smooth. By default all from the third on.

    Returns:
        A new tensor of the shape, dtype and memory layout of `x`.

    Raises:
        ValueError: `sigma` is negative or not a number, `kernel_size` is even or not positive, `x` has no such axes,
            is of another dtype, or `sigma` is on another device. The message names the value.

    Source: Sinha, Garg and Larochelle, "Curriculum by Smoothing", NeurIPS 2020.
    """
    smoothed: Tensor = torch.ops.lerac_fast.gaussian_smooth(x, _as_tensor(sigma), kernel_size, _axes(x, dims))
    return smoothed


def gaussian_smooth_(
    x: Tensor, sigma: float | Tensor, kernel_size: int = 3, dims: int | Sequence[int] | None = None
) -> Tensor:
    """`gaussian_smooth` in place: writes to `x` and returns it. On a GPU by way of another tensor.

    The usual rules of autograd hold: `x` must not be a leaf that requires a gradient, nor a tensor that the backward
    pass of another operation needs.
    """
    if torch.compiler.is_compiling():  # compilers work on functional graphs, and decide themselves what to overwrite
        return x.copy_(gaussian_smooth(x, sigma, kernel_size, dims))
    torch.ops.lerac_fast.gaussian_smooth_(x, _as_tensor(sigma), kernel_size, _axes(x, dims))
    return x


class GaussianSmooth(nn.Module):
    """`gaussian_smooth` as a module without parameters. `sigma` may be set at any time."""

    def __init__(self, sigma: float | Tensor, kernel_size: int = 3, dims: int | Sequence[int] | None = None) -> None:
        super().__init__()
        self.sigma = sigma
        self.kernel_size = kernel_size
        self.dims = dims
        width = _as_tensor(sigma)
        gaussian_smooth(torch.empty(0, device=width.device), width, kernel_size, dims=0)  # refuses bad values now

    def forward(self, x: Tensor) -> Tensor:
        return gaussian_smooth(x, self.sigma, self.kernel_size, self.dims)

    def extra_repr(self) -> str:
        dims = "" if self.dims is None else f", dims={self.dims}"
        return f"sigma={float(self.sigma):g}, kernel_size={self.kernel_size}{dims}"


def _as_tensor(sigma: float | Tensor) -> Tensor:
    return sigma if isinstance(sigma, Tensor) else torch.scalar_tensor(sigma, dtype=torch.float64, device="cpu")


def _axes(x: Tensor, dims: int | Sequence[int] | None) -> Sequence[int]:
    if dims is None:
        if x.ndim < 3:
            raise ValueError(
                f"gaussian_smooth: x has the shape {tuple(x.shape)}, no axis after batch and channels; name dims"
            )
        return range(2, x.ndim)
    return [dims] if isinstance(dims, int) else dims
