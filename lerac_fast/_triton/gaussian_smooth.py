"""gaussian_smooth on any GPU that Triton compiles for. The compiled module plans which axes lie where in memory, as for
the CPU: `csrc/ops/sweeps.h`.

Programs must not write what others still read, so that every sweep has a target of its own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from lerac_fast._native.extension import extension
from lerac_fast._triton._launch import launch
from lerac_fast._triton._math import smooth_farther, smooth_nearest

# Groups of elements that a program works on: one for each of its threads.
GROUPS = 128
# The rows of a strip: each thread smooths as many, and reads one more on either side.
ROWS = 4
# Offsets in larger tensors are computed in 64 bits.
LARGEST_32_BIT = 2**30


class Sweep(NamedTuple):
    """Planes of rows x columns x inner elements without gaps, smoothed across the rows, along the columns, or both."""

    planes: int
    rows: int
    columns: int
    inner: int
    row_stride: int
    across_rows: bool
    across_columns: bool


# ---- kernels ----
#
# A group is what a thread loads and stores at once: `WIDTH` elements that lie next to each other in one row, and, where
# a column has inner elements (not ADJACENT), in one column. All offsets are products with WIDTH, from which the
# compiler sees that groups are aligned. What lies beyond a border is not read and counts as zero: 0 x NaN would be NaN.


@triton.jit
def _elements_before(x, first):
    """The left neighbours of the elements of all groups `x` [groups, width], in registers; `first` is the first's."""
    if x.shape[1] == 1:
        before = first[:, None]
    else:
        even, odd = tl.split(tl.reshape(x, [x.shape[0], x.shape[1] // 2, 2]))
        before = tl.reshape(tl.join(_elements_before(odd, first), even), [x.shape[0], x.shape[1]])
    return before


@triton.jit
def _elements_after(x, last):
    """The right neighbours of the elements of all groups `x` [groups, width], in registers; `last` is the last's."""
    if x.shape[1] == 1:
        after = last[:, None]
    else:
        even, odd = tl.split(tl.reshape(x, [x.shape[0], x.shape[1] // 2, 2]))
        after = tl.reshape(tl.join(odd, _elements_after(even, last)), [x.shape[0], x.shape[1]])
    return after


@triton.jit
def _smooth_columns(
    x, start, there, has_before, has_after, inner, weight0, weight1,
    ACROSS_COLUMNS: tl.constexpr, ADJACENT: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """The groups of `x` that begin at `start`, smoothed along the columns; zeros where no group is `there`."""
    offsets = start[:, None] + tl.arange(0, WIDTH)[None, :]
    center = tl.load(x + offsets, there[:, None], other=0).to(COMPUTE)
    if ACROSS_COLUMNS:
        has_before &= there
        has_after &= there
        if ADJACENT:
            before = _elements_before(center, tl.load(x + start - 1, has_before, other=0).to(COMPUTE))
            after = _elements_after(center, tl.load(x + start + WIDTH, has_after, other=0).to(COMPUTE))
        else:
            before = tl.load(x + offsets - inner, has_before[:, None], other=0).to(COMPUTE)
            after = tl.load(x + offsets + inner, has_after[:, None], other=0).to(COMPUTE)
        center = smooth_nearest(center, before, after, weight0, weight1)
    return center


@triton.jit(do_not_specialize=["rows", "row_groups", "inner_groups", "strips", "groups"])
def smooth_nearest_kernel(
    x, y, weight0: tl.float64, weight1: tl.float64, rows, row_groups, inner_groups, strips, groups,
    ACROSS_ROWS: tl.constexpr, ACROSS_COLUMNS: tl.constexpr, ADJACENT: tl.constexpr,
    ROWS: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr, OFFSET: tl.constexpr,
):  # fmt: skip
    """Smooths by the next neighbours, in one pass over memory. Each thread takes one group and the `ROWS` - 1 below it;
    `groups` is the number of threads that are needed, `strips` of them one below the other in a plane.
    """
    weight0 = tl.full([], weight0, COMPUTE)
    weight1 = tl.full([], weight1, COMPUTE)
    group = tl.program_id(0).to(OFFSET) * GROUPS + tl.arange(0, GROUPS)
    strip = group // row_groups
    column = (group - strip * row_groups) * WIDTH
    plane = strip // strips
    top = (strip - plane * strips) * ROWS
    row_size = row_groups.to(OFFSET) * WIDTH
    inner = inner_groups.to(OFFSET) * WIDTH
    start = (plane * rows + top) * row_size + column
    there = group < groups
    has_before = column >= (1 if ADJACENT else inner)
    has_after = column < row_size - (WIDTH if ADJACENT else inner)

    # All loads come before the first store, so that they are under way at once.
    FIRST: tl.constexpr = -1 if ACROSS_ROWS else 0
    smoothed = ()
    for i in tl.static_range(FIRST, ROWS - FIRST):
        row_there = there & (top + i >= 0) & (top + i < rows)
        smoothed += (  # type: ignore[assignment]
            _smooth_columns(
                x, start + i * row_size, row_there, has_before, has_after, inner, weight0, weight1,
                ACROSS_COLUMNS, ADJACENT, WIDTH, COMPUTE,
            ),
        )  # fmt: skip
    for i in tl.static_range(ROWS):
        result = smoothed[i]  # type: ignore[var-annotated]
        if ACROSS_ROWS:
            result = smooth_nearest(smoothed[i + 1], smoothed[i], smoothed[i + 2], weight0, weight1)
        offsets = (start + i * row_size)[:, None] + tl.arange(0, WIDTH)[None, :]
        tl.store(y + offsets, result, (there & (top + i < rows))[:, None])


@triton.jit(do_not_specialize=["radius", "length", "stride_groups", "groups"])
def smooth_line_kernel(
    x, y, weights, radius, length, stride_groups, groups,
    ADJACENT: tl.constexpr, GROUPS: tl.constexpr, WIDTH: tl.constexpr, COMPUTE: tl.constexpr, OFFSET: tl.constexpr,
):  # fmt: skip
    """Smooths along one axis of `length` elements by `radius` neighbours on either side.

    An element's neighbours lie at multiples of `stride_groups` groups; if ADJACENT, at multiples of one element, and
    `stride_groups` is the number of groups in a line.
    """
    lane = tl.arange(0, WIDTH)[None, :]
    group = tl.program_id(0).to(OFFSET) * GROUPS + tl.arange(0, GROUPS)
    there = (group < groups)[:, None]
    if ADJACENT:
        stride = tl.full([], 1, OFFSET)
        place = ((group % stride_groups) * WIDTH)[:, None] + lane
    else:
        stride = stride_groups.to(OFFSET) * WIDTH
        place = ((group // stride_groups) % length)[:, None]
    offsets = (group * WIDTH)[:, None] + lane
    has_before = there & (place >= 1)
    has_after = there & (place < length - 1)
    before = tl.load(x + offsets - stride, has_before, other=0).to(COMPUTE)
    after = tl.load(x + offsets + stride, has_after, other=0).to(COMPUTE)
    center = tl.load(x + offsets, there, other=0).to(COMPUTE)
    total = smooth_nearest(center, before, after, tl.load(weights), tl.load(weights + 1))
    for distance in range(2, radius + 1):
        has_before = there & (place >= distance)
        has_after = there & (place < length - distance)
        before = tl.load(x + offsets - distance * stride, has_before, other=0).to(COMPUTE)
        after = tl.load(x + offsets + distance * stride, has_after, other=0).to(COMPUTE)
        total = smooth_farther(total, before, after, tl.load(weights + distance))
    tl.store(y + offsets, total, there)


# ---- launches ----

TYPES = {torch.float32: tl.float32, torch.float64: tl.float64}


def gaussian_smooth(x: Tensor, sigma: Tensor, kernel_size: int, dims: Sequence[int]) -> Tensor:
    """`x` smoothed along `dims`: a new tensor, with the strides of `torch.empty_like(x)`."""
    weights = extension.gaussian_weights(x, sigma, kernel_size, dims)
    if x.dtype not in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        raise ValueError(
            f"gaussian_smooth: x is of {x.dtype}; on a GPU it may be float32, float64, bfloat16 or float16"
        )
    if x.numel() == 0 or len(weights) == 1:
        return x.clone()
    y = torch.empty_like(x)
    if y.stride() != x.stride():  # `x` has gaps or overlaps
        x = x.clone()
    sweeps = [Sweep(*sweep) for sweep in extension.gaussian_sweeps(x, dims)]
    if len(weights) == 2:
        _smooth_nearest(x, y, sweeps, weights)
    else:
        _smooth_lines(x, y, sweeps, weights)
    return y


def gaussian_smooth_(x: Tensor, sigma: Tensor, kernel_size: int, dims: Sequence[int]) -> Tensor:
    """`gaussian_smooth` with its result in `x`, by way of other memory."""
    return x.copy_(gaussian_smooth(x, sigma, kernel_size, dims))


def _smooth_nearest(x: Tensor, y: Tensor, sweeps: list[Sweep], weights: list[float]) -> None:
    compute = _compute_type(x)
    for sweep in sweeps:
        target = y if sweep is sweeps[-1] else torch.empty_like(y, dtype=compute)
        row_size = sweep.columns * sweep.inner
        adjacent = sweep.inner == 1
        width = _width(x, target, sweep.inner if sweep.across_columns and not adjacent else row_size)
        rows = ROWS if sweep.across_rows else 1
        strips = triton.cdiv(sweep.rows, rows)
        groups = sweep.planes * strips * (row_size // width)
        launch(
            smooth_nearest_kernel, (triton.cdiv(groups, GROUPS),), GROUPS, x, x, target, *weights,
            sweep.rows, row_size // width, sweep.inner // width, strips, groups,
            ACROSS_ROWS=sweep.across_rows, ACROSS_COLUMNS=sweep.across_columns, ADJACENT=adjacent,
            ROWS=rows, GROUPS=GROUPS, WIDTH=width, COMPUTE=TYPES[compute], OFFSET=_offset_type(x),
        )  # fmt: skip
        x = target


def _smooth_lines(x: Tensor, y: Tensor, sweeps: list[Sweep], weights: list[float]) -> None:
    """One axis at a time: an axis' elements are `length`, and lie `stride` apart."""
    compute = _compute_type(x)
    # Made on the device: a copy from the host could be no part of a CUDA graph. From the middle of the window: the
    # nearest weight of a wide one is the first in almost all digits, and the last may be subnormal.
    distances = torch.arange(len(weights), dtype=torch.float64, device=x.device)
    middle = len(weights) // 2
    exponent = math.log(weights[middle] / weights[0]) / middle**2
    weight = distances.square_().mul_(exponent).exp_().mul_(weights[0]).to(compute)
    axes = []
    for sweep in sweeps:
        if sweep.across_columns:
            axes.append((sweep.columns, sweep.inner))
        if sweep.across_rows:
            axes.append((sweep.rows, sweep.columns * sweep.inner))
    for i, (length, stride) in enumerate(axes, 1):
        target = y if i == len(axes) else torch.empty_like(y, dtype=compute)
        unit = length if stride == 1 else stride
        width = _width(x, target, unit)
        groups = x.numel() // width
        launch(
            smooth_line_kernel, (triton.cdiv(groups, GROUPS),), GROUPS, x, x, target, weight,
            min(len(weights), length) - 1, length, unit // width, groups,
            ADJACENT=stride == 1, GROUPS=GROUPS, WIDTH=width, COMPUTE=TYPES[compute], OFFSET=_offset_type(x),
        )  # fmt: skip
        x = target


def _compute_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _offset_type(x: Tensor) -> tl.dtype:
    return tl.int32 if x.numel() <= LARGEST_32_BIT else tl.int64


def _width(x: Tensor, y: Tensor, unit: int) -> int:
    """Elements in a group: up to 128 bits of the narrower dtype, and a whole number of groups in `unit` elements."""
    width = 16 // min(x.element_size(), y.element_size()) if x.data_ptr() % 16 == 0 else 1
    return math.gcd(width, unit)
