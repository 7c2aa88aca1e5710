"""Temperatures of examples with right and with wrong labels, over the epochs of a training."""

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """How temperatures are distributed."""

    mean: float
    quartiles: tuple[float, float, float]
    """A quarter, a half and three quarters of them are below."""

    @classmethod
    def of(cls, sigma: Tensor) -> "Spread":
        """Of the temperatures [N]."""
        quarter, half, three_quarters = sigma.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=sigma.dtype)).tolist()
        return cls(sigma.mean().item(), (quarter, half, three_quarters))


@dataclass
class SigmaHistory:
    """One entry per epoch."""

    clean: list[Spread] = field(default_factory=list)
    """Of the examples with the right label."""
    corrupt: list[Spread] = field(default_factory=list)
    """Of those with a wrong one."""
    found: list[float] = field(default_factory=list)
    """The share of wrong labels among the examples of the highest temperatures, as many as there are wrong labels: 1
    where temperatures part right from wrong, and the share of wrong labels where they know nothing of it."""

    def record(self, sigma: Tensor, corrupt: Tensor) -> None:
        """Adds an epoch.

        Args:
            sigma: the temperatures of all examples, [N].
            corrupt: which of them have a wrong label, bool [N].
        """
        self.clean.append(Spread.of(sigma[~corrupt]))
        self.corrupt.append(Spread.of(sigma[corrupt]))
        count = int(corrupt.sum())
        self.found.append(corrupt[sigma.topk(count).indices].float().mean().item())
