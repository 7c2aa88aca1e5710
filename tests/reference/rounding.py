"""Rounding to the 16-bit types, by IEEE 754: to the nearest number, and of two to the even one."""

import math

import torch
from torch import Tensor


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The numbers of `dtype` that are nearest to those of `x`; both are float64, which holds them and every tie."""
    info = torch.finfo(dtype)
    lowest = math.frexp(info.smallest_normal)[1]  # from there down numbers lie as densely as there
    exponent = torch.frexp(x).exponent.clamp(min=lowest).long() - 1
    distance = (exponent + 1023 << 52).view(torch.float64) * info.eps  # of two neighbours: 2^exponent x eps
    nearest = torch.round(x / distance) * distance  # which rounds to even
    nearest = torch.where(nearest.abs() > info.max, x.sign() * torch.inf, nearest)
    return torch.where(torch.isfinite(x), nearest, x)
