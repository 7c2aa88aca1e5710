"""A multilayer perceptron, for tables."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.shapes import head
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings

WIDTHS = (128, 128, 64)


class Mlp(nn.Module):
    """Dense layers with batch norm and ReLU, and a head.

    The values of a regression are predicted in units of their deviation from their mean in the training part.

    Shapes: [B, features] -> logits [B, classes], or values [B].
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        inputs = parts.train.__getitems__([0]).inputs
        assert isinstance(inputs, Tensor)
        sizes = (inputs.shape[1], *WIDTHS)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU())
                for before, after in pairwise(sizes)
            )
        )
        self.head = head(sizes[-1], parts)
        self.scale: Tensor
        self.offset: Tensor
        scale, offset = torch.tensor(1.0), torch.tensor(0.0)
        if parts.task == "regression":
            scale, offset = torch.std_mean(parts.train.targets, correction=0)
        self.register_buffer("scale", scale.clamp_min(1e-12))
        self.register_buffer("offset", offset)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.layers(x)) * self.scale + self.offset
        return out


# This library's, for short trainings on a CPU. There are no feature maps that CBS could smooth.
MLP = ModelSpec(
    "mlp",
    "MLP",
    ("table",),
    lambda parts, _: Mlp(parts),
    Settings("AdamW", lr=1e-3, min_lr=1e-7, batch_size=32, epochs=30, lerac_epochs=3, weight_decay=1e-2),
    smoothing=(),
)
