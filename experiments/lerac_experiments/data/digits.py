"""The handwritten digits that scikit-learn carries: 1797 images of 8x8, so no download is needed."""

import numpy as np
import torch

from lerac_experiments.data.images import ImageData, Labelled

_TEST_IMAGES = 360


def load_digits(note: str | None = None) -> ImageData:
    """The digits in scikit-learn's order; the last fifth of them is the test part."""
    import sklearn.datasets  # takes long to import

    bunch = sklearn.datasets.load_digits()
    images = torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return ImageData(
        name="digits",
        source=f"scikit-learn {sklearn.__version__}",
        train=Labelled(images[:-_TEST_IMAGES], labels[:-_TEST_IMAGES]),
        test=Labelled(images[-_TEST_IMAGES:], labels[-_TEST_IMAGES:]),
        note=note,
    )
