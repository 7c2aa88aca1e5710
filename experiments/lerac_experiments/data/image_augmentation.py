"""Images cropped and mirrored at random, as is usual on CIFAR and ImageNet.

Saxena et al. train so, by the code they published. Croitoru et al. do not augment images (section 4.2).
"""

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lerac_experiments.data.examples import TensorExamples

MARGIN = 1 / 8
"""The most that small images are shifted by, to any side, in sides: 4 pixels of 32."""
AREA = 0.08, 1.0
"""The shares of a photograph that are cut out."""
RATIO = 3 / 4, 4 / 3
"""Their width to their height."""


@lru_cache(maxsize=1)
def draws(seed: int, epoch: int, count: int) -> Tensor:
    """Three numbers from 0 to 1 for each of so many examples, float32 [count, 3], other ones in each epoch.

    Those of an epoch are drawn at once: neither the order of the examples nor the worker process matters.
    """
    return torch.from_numpy(np.random.default_rng((seed, epoch)).random((count, 3), np.float32))


class AugmentedImages(TensorExamples):
    """Small images in memory, shifted by up to an eighth of their sides, and half of them mirrored.

    Args:
        border: what comes in from beyond an image, float [1, C, 1, 1].
    """

    def __init__(self, inputs: Tensor, targets: Tensor, border: Tensor, seed: int) -> None:
        super().__init__(inputs, targets)
        self._border = border
        self._seed = seed

    def inputs_of(self, indices: list[int]) -> Tensor:
        images = super().inputs_of(indices)
        assert isinstance(images, Tensor)
        return shifted_and_mirrored(images, self._border, draws(self._seed, self.epoch, len(self))[indices])


def shifted_and_mirrored(images: Tensor, border: Tensor, drawn: Tensor) -> Tensor:
    """Images [B, C, H, W] by numbers from 0 to 1 [B, 3]: for the shift down, to the right, and the mirror."""
    count, channels, height, width = images.shape
    above, beside = round(MARGIN * height), round(MARGIN * width)
    padded = border.expand(count, channels, height + 2 * above, width + 2 * beside).clone()
    padded[:, :, above : above + height, beside : beside + width] = images
    tops, lefts = ((drawn[:, i] * (2 * margin + 1)).long().unsqueeze(1) for i, margin in enumerate((above, beside)))
    columns = torch.arange(width)
    mirrored = (drawn[:, 2] < 0.5).unsqueeze(1)
    rows, columns = tops + torch.arange(height), lefts + torch.where(mirrored, columns.flip(0), columns)
    numbers = torch.arange(count).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[numbers, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2)


def cut_and_mirrored(image: Image.Image, size: int, generator: tuple[int, int, int]) -> Image.Image:
    """A part of a photograph, scaled to a square of `size` pixels, and half of them mirrored.

    Args:
        generator: what decides: a seed, the epoch, and the number of the example.
    """
    from torchvision.transforms import RandomResizedCrop, functional  # takes long to import

    with torch.random.fork_rng(devices=()):  # torchvision draws from the generator of the process
        torch.default_generator.manual_seed(int(np.random.default_rng(generator).integers(2**63)))
        top, left, height, width = RandomResizedCrop.get_params(image, AREA, RATIO)
        mirrored = bool(torch.rand(()) < 0.5)
    image = functional.resized_crop(image, top, left, height, width, [size, size])
    return functional.hflip(image) if mirrored else image
