"""A small model with CBS for the trainers, and the widths of a plain loop."""

from typing import Any

import torch
from torch import Tensor, nn

from lerac_fast import CBS

EPOCHS, DECAY = 4, 0.5
WIDTHS = [1.0, 0.5, 0.25, 0.125]
"""In each epoch, its training and the evaluation at its end: CBS is stepped after both."""

IMAGES = torch.randn(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Notes the width of the smoothing at every pass, in training and in evaluation."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
        self.smoothing = [CBS(self.layers, 1.0, decay=DECAY, every=1)]  # a list, as the CBS is no part of the model
        self.seen: dict[str, list[float]] = {"training": [], "evaluation": []}

    def forward(self, images: Tensor, labels: Tensor | None = None) -> dict[str, Any]:
        self.seen["training" if self.training else "evaluation"].append(self.smoothing[0].sigma)
        logits = self.layers(images)
        return {"logits": logits} if labels is None else {"loss": nn.functional.cross_entropy(logits, labels)}


def per_epoch(passes: int, first: int = 0) -> list[float]:
    return [width for width in WIDTHS[first:] for _ in range(passes)]
