"""The images of the demonstrations: where they come from, and how they are split."""

from dataclasses import dataclass, replace
from typing import Literal

import torch

from lerac_experiments.data.digits import load_digits
from lerac_experiments.data.fashion_mnist import load_fashion_mnist
from lerac_experiments.data.images import ImageData, Labelled
from lerac_experiments.data.source import Unavailable

DataName = Literal["auto", "fashion-mnist", "digits"]


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


def load(name: DataName) -> ImageData:
    """Loads a data set by its name; "auto" is Fashion-MNIST, or digits with a note where that cannot be had.

    Raises:
        ExperimentError: the data set cannot be had, or a file of it is damaged.
    """
    if name == "digits":
        return load_digits()
    try:
        return load_fashion_mnist()
    except Unavailable as error:
        if name == "fashion-mnist":
            raise
        return load_digits(note=f"instead of Fashion-MNIST: {error}")
