"""VGG16."""

from pathlib import Path

from torch import nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.shapes import has_small_images, head, image_shape, pad_to
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings

SIDE = 32
"""The smallest image that five poolings leave something of; smaller ones are surrounded by zeros."""


def _build(parts: Parts, _: Path | None) -> nn.Module:
    """With batch norm, as it hardly trains from scratch without. On small images, the classifier is one dense layer, as
    usual for CIFAR (Saxena et al. do not describe theirs); on others, torchvision's of three."""
    from torchvision.models import vgg16_bn

    model = vgg16_bn(weights=None, dropout=0.0)
    first = nn.Conv2d(image_shape(parts)[0], 64, 3, padding=1)
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
    model.features[0] = nn.Sequential(pad_to(SIDE, parts), first)
    if has_small_images(parts):
        model.avgpool = nn.AdaptiveAvgPool2d(1)
        model.classifier = nn.Sequential(head(512, parts))
    else:
        model.classifier[-1] = head(4096, parts)
    return model


# Saxena et al. (appendix) train it on random labels, and do not give their settings. These are this library's: those of
# their WRN-28-10 at half the rate, for LeRaC and CBS as for ResNet-18.
VGG_16 = ModelSpec(
    "vgg16",
    "VGG16",
    ("image",),
    _build,
    Settings("SGD", lr=5e-2, min_lr=5e-9, batch_size=128, epochs=150, lerac_epochs=6, cbs_every=3, weight_decay=5e-4),
)
