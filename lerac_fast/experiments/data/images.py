"""Labelled images in memory, and how they are split."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Labelled:
    """Images [N, C, H, W] and their classes, int64 [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "Labelled":
        """The images of these numbers, int64 [M], in their order; or those chosen by bool [N]."""
        return Labelled(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class ImageData:
    """A data set as it was published: pixels as they are, and its own test part."""

    name: str
    source: str
    """Where it came from, for the record."""
    train: Labelled
    test: Labelled
    note: str | None = None
    """What a reader of the results must know, such as that it stands in for another data set."""

    @property
    def classes(self) -> int:
        return int(self.train.labels.max()) + 1


@dataclass(frozen=True)
class Splits:
    """Disjoint parts of a data set as float32, scaled to mean 0 and deviation 1 of the training part."""

    train: Labelled
    validation: Labelled
    test: Labelled

    @property
    def sizes(self) -> dict[str, int]:
        """How many images each part holds."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def split(data: ImageData, train_images: int, seed: int) -> Splits:
    """Draws `train_images` images (all, if there are fewer) and sets every tenth aside for validation.

    The test part is the data set's own, whole.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(data.train), generator=generator)[:train_images]
    held_out = len(drawn) // 10
    train = data.train.take(drawn[held_out:])
    deviation, mean = torch.std_mean(train.images.float())

    def normalised(part: Labelled) -> Labelled:
        return replace(part, images=(part.images.float() - mean) / deviation)

    validation = data.train.take(drawn[:held_out])
    return Splits(normalised(train), normalised(validation), normalised(data.test))
