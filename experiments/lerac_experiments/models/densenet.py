"""Densely connected networks."""

from typing import Any

from torch import nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.shapes import has_small_images, head, image_shape
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings


def _densenet(parts: Parts, *, stem: int, **sizes: Any) -> nn.Module:
    """torchvision's, of any size, for the images or spectrograms of `parts`.

    Args:
        stem: channels of the first convolution. It is 3x3 and keeps the resolution of small images, as in Huang et al.
            (2017), section 4, for CIFAR; of others, it is 7x7 and, with a pooling, divides the resolution by 4.
        sizes: growth_rate, block_config and bn_size of torchvision's DenseNet.
    """
    from torchvision.models import DenseNet

    model = DenseNet(num_init_features=stem, **sizes)
    small = has_small_images(parts)
    size, stride = (3, 1) if small else (7, 2)
    model.features.conv0 = nn.Conv2d(image_shape(parts)[0], stem, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(model.features.conv0.weight)
    if small:
        model.features.pool0 = nn.Identity()
    model.classifier = head(model.classifier.in_features, parts)
    return model


# Of Table 1: k 2-5, u 1-3. It gives no weight decay, so there is none.
DENSENET_121 = ModelSpec(
    "densenet121",
    "DenseNet-121",
    ("audio", "image"),
    lambda parts, _: _densenet(parts, stem=64, growth_rate=32, block_config=(6, 12, 24, 16)),
    Settings("Adam", lr=1e-4, min_lr=5e-8, batch_size=64, epochs=50, lerac_epochs=3, sigma=0.8, cbs_every=2),
)

# This library's, for short trainings on a CPU.
DENSENET_SMALL = ModelSpec(
    "densenet-small",
    "DenseNet, small",
    ("audio", "image"),
    lambda parts, _: _densenet(parts, stem=16, growth_rate=8, block_config=(3, 3, 3), bn_size=2),
    Settings("Adam", lr=1e-3, min_lr=5e-7, batch_size=16, epochs=15, lerac_epochs=2, sigma=0.8, cbs_every=1),
)
