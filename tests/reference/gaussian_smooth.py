"""Gaussian smoothing as its definition reads: one weighted, shifted sum per axis, in float64."""

import math

import torch
from torch import Tensor


def weights(sigma: float, kernel_size: int) -> list[float]:
    """w(-r), ..., w(r)."""
    radius = kernel_size // 2
    if sigma == 0:
        return [float(i == 0) for i in range(-radius, radius + 1)]
    terms = [math.exp(-(i**2) / (2 * sigma**2)) for i in range(-radius, radius + 1)]
    return [term / sum(terms) for term in terms]


def gaussian_smooth(x: Tensor, sigma: float, kernel_size: int, dims: list[int]) -> Tensor:
    """`x` smoothed along `dims` with zeros beyond the borders, as a float64 tensor."""
    result = x.double()
    radius = kernel_size // 2
    for dim in dims:
        total = torch.zeros_like(result)
        length = x.size(dim)
        for offset, weight in zip(range(-radius, radius + 1), weights(sigma, kernel_size), strict=True):
            count = length - abs(offset)
            if count > 0 and weight != 0:
                there = result.narrow(dim, max(offset, 0), count)
                total.narrow(dim, max(-offset, 0), count).add_(there, alpha=weight)
        result = total
    return result
