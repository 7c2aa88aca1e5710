"""Data sets whose images all fit into memory as float32, so that a batch is one look-up."""

import torch
from torch import Tensor

from lerac_experiments.data.digits import load_digits
from lerac_experiments.data.examples import TensorExamples
from lerac_experiments.data.fashion_mnist import load_fashion_mnist
from lerac_experiments.data.image_augmentation import AugmentedImages
from lerac_experiments.data.images import ImageData, Labelled
from lerac_experiments.data.source import DataSet, Parts, Request, draw, draw_test


def in_memory(data: ImageData, request: Request, classes: int) -> Parts:
    """Splits a data set, and normalises its images by the mean and deviation of each channel of those to train with."""
    chosen, held_out = draw(len(data.train), request)
    train = data.train.take(chosen)
    deviation, mean = torch.std_mean(train.images.float(), dim=(0, 2, 3), keepdim=True)

    def examples(part: Labelled) -> TensorExamples:
        return TensorExamples(_normalised(part.images, mean, deviation), part.labels)

    def training_examples() -> TensorExamples:
        if request.image_seed is None:
            return examples(train)
        black = _normalised(torch.zeros_like(mean), mean, deviation)
        return AugmentedImages(_normalised(train.images, mean, deviation), train.labels, black, request.image_seed)

    return Parts(
        task="classification",
        classes=classes,
        train=training_examples(),
        validation=examples(data.train.take(held_out)),
        test=examples(data.test.take(draw_test(len(data.test), request))),
        source=data.source,
        note=data.note,
    )


def _normalised(images: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    # A channel that never varies becomes 0 throughout.
    return images.float().sub_(mean).div_(deviation.clamp_min(1e-6))


def _load_fashion_mnist(request: Request) -> Parts:
    data = load_fashion_mnist()
    return in_memory(data, request, data.classes)


def _load_digits(request: Request) -> Parts:
    data = load_digits(note="scikit-learn's digits have no test part of their own: the last 360 images serve as one")
    return in_memory(data, request, data.classes)


FASHION_MNIST = DataSet("fashion-mnist", "Fashion-MNIST", "image", _load_fashion_mnist)
DIGITS = DataSet("digits", "Digits", "image", _load_digits)
