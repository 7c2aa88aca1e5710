"""What models take from a data set: the shape of its inputs, and the head that its task asks for."""

from torch import Tensor, nn

from lerac_experiments.data.source import Parts

SMALL_IMAGE = 96
"""Images with a side below it get the stem of CIFAR, which keeps the resolution, in place of the one of ImageNet."""


def image_shape(parts: Parts) -> tuple[int, int, int]:
    """Channels, height and width of the images or spectrograms, from the first example."""
    inputs = parts.train.__getitems__([0]).inputs
    assert isinstance(inputs, Tensor)
    channels, height, width = inputs.shape[1:]
    return channels, height, width


def has_small_images(parts: Parts) -> bool:
    return min(image_shape(parts)[1:]) < SMALL_IMAGE


def head(features: int, parts: Parts) -> nn.Module:
    """The last layer: [B, features] -> logits [B, classes], or values [B] for regression."""
    if parts.task == "regression":
        return nn.Sequential(nn.Linear(features, 1), nn.Flatten(0))
    return nn.Linear(features, parts.classes)


def pad_to(side: int, parts: Parts) -> nn.ZeroPad2d:
    """Surrounds images that are smaller with zeros, so that their sides are at least so many pixels."""
    _, height, width = image_shape(parts)
    below, beside = max(0, side - height), max(0, side - width)
    return nn.ZeroPad2d((beside // 2, beside - beside // 2, below // 2, below - below // 2))
