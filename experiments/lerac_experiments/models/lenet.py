"""LeNet-5."""

import torch.nn.functional as F
from torch import Tensor, nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.shapes import head, image_shape, pad_to
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings

SIDE = 32


class LeNet(nn.Module):
    """LeNet-5 of LeCun et al. (1998), with ReLU and max pooling as in use today: two convolutions, three dense layers.

    Images smaller than 32x32 are surrounded by zeros, as the digits of 28x28 pixels were in the paper.

    Shapes: [B, C, H, W] -> logits [B, classes], or values [B].
    """

    def __init__(self, parts: Parts) -> None:
        super().__init__()
        channels, height, width = image_shape(parts)
        self.pad = pad_to(SIDE, parts)
        self.conv1 = nn.Conv2d(channels, 6, 5)
        self.conv2 = nn.Conv2d(6, 16, 5)
        rows, columns = (((max(side, SIDE) - 4) // 2 - 4) // 2 for side in (height, width))
        self.dense1 = nn.Linear(16 * rows * columns, 120)
        self.dense2 = nn.Linear(120, 84)
        self.head = head(84, parts)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(self.pad(x))), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2).flatten(1)
        logits: Tensor = self.head(F.relu(self.dense2(F.relu(self.dense1(x)))))
        return logits


# This library's, for short trainings on a CPU. LeRaC's rates span seven decades, as the paper's for SGD.
LENET = ModelSpec(
    "lenet",
    "LeNet-5",
    ("image", "audio"),
    lambda parts, _: LeNet(parts),
    Settings("SGD", lr=1e-2, min_lr=1e-9, batch_size=64, epochs=20, lerac_epochs=2, cbs_every=1, weight_decay=5e-4),
)
