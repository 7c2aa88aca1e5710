"""Images cropped and mirrored at random, as is usual on CIFAR and ImageNet.

Saxena et al. train so, by the code they published. Croitoru et al. do not augment images (section 4.2).
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lerac_fast.experiments.data.examples import Batch, TensorExamples

MARGIN = 1 / 8
"""The most that small images are shifted by, to any side, in sides: 4 pixels of 32."""
AREA = 0.08, 1.0
"""The shares of a photograph that are cut out."""
RATIO = 3 / 4, 4 / 3
"""Their width to their height."""

CROP_COLUMNS = 5
"""How many numbers a crop takes: for its share, ratio, two places and the mirror."""


class Draws:
    """Numbers from 0 to 1 for every example, other ones in each epoch.

    Those of an epoch are drawn at once: neither the order of the examples nor the worker process matters.

    Args:
        count: of the examples.
        columns: how many numbers each gets.
    """

    def __init__(self, seed: int, count: int, columns: int) -> None:
        self._seed, self._shape = seed, (count, columns)
        self._epoch, self._numbers = -1, torch.empty(0)

    def of(self, epoch: int, indices: list[int]) -> Tensor:
        """Float32 [B, columns]."""
        if epoch != self._epoch:
            drawn = np.random.default_rng((self._seed, epoch)).random(self._shape, np.float32)
            self._epoch, self._numbers = epoch, torch.from_numpy(drawn)
        return self._numbers[indices]


class AugmentedImages(TensorExamples):
    """Small images in memory, shifted by up to an eighth of their sides, and half of them mirrored.

    What comes into an image from beyond its border is 0: the mean colour, as images are normalised.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, seed: int) -> None:
        super().__init__(inputs, targets)
        self._draws = Draws(seed, len(targets), 3)

    def __getitems__(self, indices: list[int]) -> Batch:
        batch = super().__getitems__(indices)
        assert isinstance(batch.inputs, Tensor)
        return batch._replace(inputs=shifted_and_mirrored(batch.inputs, self._draws.of(self.epoch, indices)))


def shifted_and_mirrored(images: Tensor, drawn: Tensor) -> Tensor:
    """Images [B, C, H, W] by numbers from 0 to 1 [B, 3]: for the shift down, to the right, and the mirror."""
    height, width = images.shape[2:]
    margins = round(MARGIN * height), round(MARGIN * width)
    padded = F.pad(images, (margins[1], margins[1], margins[0], margins[0]))
    tops, lefts = (
        (number * (2 * margin + 1)).long().unsqueeze(1)
        for number, margin in zip(drawn.unbind(1)[:2], margins, strict=True)
    )
    columns = torch.arange(width)
    mirrored = (drawn[:, 2] < 0.5).unsqueeze(1)
    rows, columns = tops + torch.arange(height), lefts + torch.where(mirrored, columns.flip(0), columns)
    numbers = torch.arange(len(images)).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[numbers, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


class Crop(NamedTuple):
    """What is cut out of a photograph, in pixels, and whether it is mirrored then."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool

    @classmethod
    def drawn(cls, height: int, width: int, numbers: list[float]) -> "Crop":
        """Of a photograph of this size, by `CROP_COLUMNS` numbers from 0 to 1.

        As Szegedy et al. (2015), a share and a ratio; where both together do not fit, the ratio gives way.
        """
        share, ratio, down, right, mirror = numbers
        area = height * width * (AREA[0] + share * (AREA[1] - AREA[0]))
        proportion = math.exp(math.log(RATIO[0]) + ratio * math.log(RATIO[1] / RATIO[0]))
        cut_height = min(height, max(1, round(math.sqrt(area / proportion))))
        cut_width = min(width, max(1, round(math.sqrt(area * proportion))))
        top, left = int(down * (height - cut_height + 1)), int(right * (width - cut_width + 1))
        return cls(top, left, cut_height, cut_width, mirror < 0.5)
