"""Convolutional vision transformers."""

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.shapes import has_small_images, head, image_shape
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.models.weights import pretrained_folder, quiet_loading
from lerac_experiments.settings import Settings


class CvtClassifier(nn.Module):
    """transformers' CvtForImageClassification, with a head of its own.

    CBS acts at its convolutions, which are where its tokens come from: the embedding of each stage, and the depthwise
    3x3 convolutions that make the tokens of queries, keys and values. So tokens are smoothed on their grid, and the
    class token, which passes them by, is not.

    Shapes: [B, C, H, W] -> logits [B, classes], or values [B]. One channel is repeated where the network takes three.
    """

    def __init__(self, network: Any, parts: Parts) -> None:
        super().__init__()
        self.channels: int = network.config.num_channels
        self.cvt = network
        self.cvt.classifier = head(network.classifier.in_features, parts)

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        logits: Tensor = self.cvt(images).logits
        return logits


def _block(parameter: str) -> str | None:
    """The embedding of each stage, each block, and the head. A stage's class token belongs to its first block."""
    place = re.match(
        r"(?P<stage>cvt\.cvt\.encoder\.stages\.\d+)\.(embedding|layers\.\d+|(?P<token>cls_token))", parameter
    )
    if place is None:
        return None
    return place["stage"] + ".layers.0" if place["token"] else place[0]


def _random(parts: Parts, **sizes: Any) -> nn.Module:
    from transformers import CvtConfig, CvtForImageClassification

    config = CvtConfig(num_channels=image_shape(parts)[0], **sizes)
    return CvtClassifier(CvtForImageClassification(config), parts)


_STEM_OF_SMALL_IMAGES = {"patch_sizes": (3, 3, 3), "patch_stride": (2, 2, 2), "patch_padding": (1, 1, 1)}
"""Images of 32x32 pixels give 256, 64 and 16 tokens in the three stages. The stem of ImageNet, 7x7 with a stride of 4,
would leave 64, 16 and 4. How the authors of LeRaC did is not known."""


def _build_pretrained(parts: Parts, folder: Path | None) -> nn.Module:
    """With the stem that it was trained with, so images should not be very small; without a folder, random."""
    if folder is None:
        return _random(parts)
    from transformers import CvtForImageClassification

    with quiet_loading():
        network = CvtForImageClassification.from_pretrained(folder, local_files_only=True)
    return CvtClassifier(network, parts)


_SMALL = {
    **{"embed_dim": (16, 32, 64), "num_heads": (1, 2, 4), "depth": (1, 2, 3), "mlp_ratio": (2.0, 2.0, 2.0)},
    **{"drop_path_rate": (0.0, 0.0, 0.0)},
    **_STEM_OF_SMALL_IMAGES,
}


# Of Table 1: batch 64-128, epochs 150-200, k 2-5, u 2-5. It gives no weight decay, so there is none.
CVT_13 = ModelSpec(
    "cvt13",
    "CvT-13",
    ("image",),
    lambda parts, _: _random(parts, **(_STEM_OF_SMALL_IMAGES if has_small_images(parts) else {})),
    Settings("Adamax", lr=2e-3, min_lr=2e-8, batch_size=64, epochs=175, lerac_epochs=3, cbs_every=3),
    by=_block,
)

# Of Table 1: batch 64-128, k 3-6, u 2-5. It gives no weight decay, so there is none.
CVT_13_PRETRAINED = ModelSpec(
    "cvt13-pretrained",
    "CvT-13 pre-trained",
    ("image",),
    _build_pretrained,
    Settings("Adamax", lr=5e-4, min_lr=5e-10, batch_size=64, epochs=25, lerac_epochs=4, cbs_every=3),
    by=_block,
    pretrained=pretrained_folder("cvt-13", "microsoft/cvt-13"),
)

# This library's, for short trainings on a CPU.
CVT_SMALL = ModelSpec(
    "cvt-small",
    "CvT, small",
    ("image",),
    lambda parts, _: _random(parts, **_SMALL),
    Settings("Adamax", lr=2e-3, min_lr=2e-8, batch_size=64, epochs=15, lerac_epochs=2, cbs_every=1),
    by=_block,
)
