"""The image data of the experiments: where it comes from, and how it is split."""

from typing import Literal

from lerac_fast.experiments.data.corrupt import corrupt_labels, random_labels
from lerac_fast.experiments.data.digits import load_digits
from lerac_fast.experiments.data.fashion_mnist import Unavailable, load_fashion_mnist
from lerac_fast.experiments.data.images import ImageData, Labelled, Splits, split
from lerac_fast.experiments.errors import ExperimentError

DataName = Literal["auto", "fashion-mnist", "digits"]

__all__ = ["DataName", "ImageData", "Labelled", "Splits", "corrupt_labels", "load", "random_labels", "split"]


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
            raise ExperimentError(f"{error}. `apt-get install dataset-fashion-mnist` installs it on Debian") from error
        return load_digits(note=f"instead of Fashion-MNIST: {error}")
