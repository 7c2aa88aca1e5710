"""Labelled images in memory."""

from dataclasses import dataclass

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
