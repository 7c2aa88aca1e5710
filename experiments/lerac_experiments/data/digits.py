"""The handwritten digits that scikit-learn carries: 1797 images of 8x8, so no download is needed."""

import numpy as np
import torch

from lerac_experiments.data.images_in_memory import ImageData, Labelled, in_memory
from lerac_experiments.data.source import DataSet, Parts, Request

_TEST_IMAGES = 360
_WHITE = 16
_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_NOTE = "scikit-learn's digits have no test part of their own: the last 360 images serve as one"


def load_digits() -> ImageData:
    """The digits in scikit-learn's order; the last fifth of them is the test part."""
    import sklearn.datasets  # takes long to import

    bunch = sklearn.datasets.load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    train, test = (Labelled(images[part], labels[part]) for part in (slice(-_TEST_IMAGES), slice(-_TEST_IMAGES, None)))
    return ImageData(f"scikit-learn {sklearn.__version__}", train, test, _NOTE, _WHITE, _NAMES)


def _load(request: Request) -> Parts:
    return in_memory(load_digits(), request, classes=10)


DIGITS = DataSet("digits", "Digits", "image", _load)
