"""CBS, slow and readable: the annealed width, the step of retirement, the sites, and a smoothed network."""

import torch
from torch import Tensor, nn

from tests.reference.gaussian_smooth import gaussian_smooth, weights


def sigma_table(sigma: float, decay: float, every: int, steps: int) -> list[float]:
    """The width after 0, ..., steps - 1 steps."""
    table = []
    for step in range(steps):
        if step > 0 and step % every == 0:
            sigma *= decay
        table.append(sigma)
    return table


def retirement_step(sigma: float, decay: float, every: int, kernel_size: int, half_an_ulp: float) -> int:
    """The first step at which the nearest neighbour's weight is below half an ulp of 1."""
    step = 0
    while weights(sigma, kernel_size)[kernel_size // 2 + 1] >= half_an_ulp:
        step += 1
        if step % every == 0:
            sigma *= decay
    return step


def wide_convolutions(model: nn.Module) -> list[str]:
    """The names of the weights that have spatial axes, of which one is longer than 1."""
    return [
        name.removesuffix(".weight")
        for name, parameter in model.named_parameters()
        if name.endswith("weight") and parameter.ndim > 2 and max(parameter.shape[2:]) > 1
    ]


class Smooth(nn.Module):
    """Stands behind a convolution with `axes` spatial axes, and differentiates by autograd."""

    def __init__(self, sigma: float, axes: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.arguments = sigma, kernel_size, list(range(-axes, 0))

    def forward(self, x: Tensor) -> Tensor:
        return gaussian_smooth(x, *self.arguments).to(x.dtype)


def smoothed(model: nn.Sequential, sigma: float, axes: int, kernel_size: int = 3) -> nn.Sequential:
    """`model`, whose modules it shares, with every convolution wider than 1 followed by `Smooth`."""
    layers: list[nn.Module] = []
    for module in model:
        layers.append(module)
        if hasattr(module, "kernel_size") and torch.tensor(module.kernel_size).max() > 1:
            layers.append(Smooth(sigma, axes, kernel_size))
    return nn.Sequential(*layers)
