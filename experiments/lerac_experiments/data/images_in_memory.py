"""Data sets whose images all fit into memory as float32, so that a batch is one look-up."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lerac_experiments.data.examples import TensorExamples
from lerac_experiments.data.image_augmentation import AugmentedImages
from lerac_experiments.data.source import Parts, Request, draw, draw_test


class Labelled(NamedTuple):
    """Images [N, C, H, W] and their classes, int64 [N]."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class ImageData:
    """A data set as it was published: pixels as they are, and its own test part."""

    source: str
    """Where it came from, for the record."""
    train: Labelled
    test: Labelled
    note: str | None = None
    """What a reader of the results must know, such as that it stands in for another data set."""
    white: int = 255
    """The highest shade."""
    class_names: tuple[str, ...] = ()


def in_memory(data: ImageData, request: Request, classes: int) -> Parts:
    """Splits a data set, and normalises its images by the mean and deviation of each channel of those to train with."""
    chosen, held_out = draw(len(data.train.labels), request)
    deviation, mean = torch.std_mean(data.train.images[chosen].float(), dim=(0, 2, 3), keepdim=True)

    def examples(part: Labelled, numbers: Tensor, image_seed: int | None = None) -> TensorExamples:
        images, labels = _normalised(part.images[numbers], mean, deviation), part.labels[numbers]
        if image_seed is None:
            return TensorExamples(images, labels)
        return AugmentedImages(images, labels, _normalised(torch.zeros_like(mean), mean, deviation), image_seed)

    return Parts(
        task="classification",
        classes=classes,
        train=examples(data.train, chosen, request.image_seed),
        validation=examples(data.train, held_out),
        test=examples(data.test, draw_test(len(data.test.labels), request)),
        source=data.source,
        note=data.note,
        normalisation=(mean / data.white, _not_zero(deviation) / data.white),
        class_names=data.class_names,
    )


def _normalised(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    return images.float().sub_(mean).div_(_not_zero(deviation))


def _not_zero(deviation: Tensor) -> Tensor:
    # A channel that never varies becomes 0 throughout.
    return deviation.clamp_min(1e-6)
