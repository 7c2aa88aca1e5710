"""Residual networks: one of any size for small images, and torchvision's."""

from collections.abc import Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.shapes import has_small_images, head, image_shape
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings

SMALL_WIDTHS = (16, 32, 64)
WIDE_IMAGE = 16  # from this width on the stem halves the resolution, for the sake of time


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + self.shortcut(x))


class ResNet(nn.Module):
    """The residual network for CIFAR of He et al. (2016), section 4.2, of any width and depth.

    A 3x3 stem, one stage of `blocks` residual blocks per width, each stage but the first halving the
    resolution, global average pooling and a linear head: 2 * stages * blocks + 2 layers on the main path.
    Shortcuts that change shape are convolutions, layers parallel to those of their block. A `stem_stride` of
    2 cuts the work to a quarter.

    Shapes: [N, channels, H, W] -> [N, classes] logits.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        blocks: int = 2,
        stem_stride: int = 1,
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, stem_stride, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.stages = nn.Sequential()
        in_channels = widths[0]
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                self.stages.append(ResidualBlock(in_channels, width, stride))
                in_channels = width
        self.head: nn.Module = nn.Linear(in_channels, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = self.stages(x)
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def _torchvision(name: str, parts: Parts) -> nn.Module:
    """torchvision's of this name, fitted to the channels of the images and, if these are small, to their size.

    Small ones get a 3x3 convolution without stride or pooling, as in He et al. (2016), section 4.2, for CIFAR.
    """
    import torchvision.models  # takes long to import

    model: torchvision.models.ResNet = getattr(torchvision.models, name)(weights=None)
    channels = image_shape(parts)[0]
    small = has_small_images(parts)
    size, stride = (3, 1) if small else (7, 2)
    model.conv1 = nn.Conv2d(channels, 64, size, stride, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    if small:
        model.maxpool = nn.Identity()
    model.fc = head(model.fc.in_features, parts)
    return model


def _build_small(parts: Parts, _: Path | None) -> nn.Module:
    channels, width = image_shape(parts)[::2]
    stem_stride = 2 if width >= WIDE_IMAGE else 1
    model = ResNet(channels, parts.classes, widths=SMALL_WIDTHS, blocks=1, stem_stride=stem_stride)
    model.head = head(SMALL_WIDTHS[-1], parts)
    return model


# Of Table 1: epochs 100-200, k 5-7, u 2-5. It gives no weight decay; 1e-4 is that of the authors' code for ResNet-18.
_SETTINGS = Settings(
    "SGD", lr=1e-1, min_lr=1e-8, batch_size=64, epochs=150, lerac_epochs=6, cbs_every=3, weight_decay=1e-4
)

RESNET_18 = ModelSpec(
    "resnet18", "ResNet-18", ("image", "audio"), lambda parts, _: _torchvision("resnet18", parts), _SETTINGS
)
WIDE_RESNET_50 = ModelSpec(
    "wide-resnet50",
    "Wide-ResNet-50",
    ("image", "audio"),
    lambda parts, _: _torchvision("wide_resnet50_2", parts),
    _SETTINGS,
)

# This library's, for short trainings on a CPU.
RESNET_SMALL = ModelSpec(
    "resnet-small",
    "ResNet, small",
    ("image", "audio"),
    _build_small,
    Settings("SGD", lr=1e-1, min_lr=1e-8, batch_size=64, epochs=15, lerac_epochs=2, cbs_every=1, weight_decay=1e-4),
)
