"""Wide residual networks for CIFAR."""

import torch.nn.functional as F
from torch import Tensor, nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.shapes import head, image_shape
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings


class PreActivationBlock(nn.Module):
    """Twice norm, ReLU and 3x3 convolution; the shortcut is a 1x1 convolution of the activated input where the shape
    changes, and the input itself elsewhere."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if in_channels != out_channels or stride != 1:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.bn1(x))
        if self.shortcut is not None:
            x = self.shortcut(activated)
        out: Tensor = self.conv2(F.relu(self.bn2(self.conv1(activated))))
        return out + x


class WideResNet(nn.Module):
    """WRN-`depth`-`width` of Zagoruyko and Komodakis (2016), without dropout.

    Three stages of (depth - 4) / 6 blocks, of 16, 32 and 64 times `width` channels.

    Shapes: [B, channels, H, W] -> [B, 64 * width] features -> what `head` makes of them.
    """

    def __init__(self, channels: int, depth: int, width: int, head: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.blocks = nn.Sequential()
        in_channels = 16
        for stage in range(3):
            out_channels = 16 * width * 2**stage
            for block in range((depth - 4) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                self.blocks.append(PreActivationBlock(in_channels, out_channels, stride))
                in_channels = out_channels
        self.bn = nn.BatchNorm2d(in_channels)
        self.head = head
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.blocks(self.stem(x))))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def _wide_resnet(parts: Parts, depth: int, width: int) -> nn.Module:
    return WideResNet(image_shape(parts)[0], depth, width, head(64 * width, parts))


# Of Zagoruyko and Komodakis, as Saxena et al. have them (section 3.1). Neither trains it with LeRaC or CBS: these are
# as for Wide-ResNet-50.
WRN_28_10 = ModelSpec(
    "wrn-28-10",
    "WRN-28-10",
    ("image",),
    lambda parts, _: _wide_resnet(parts, depth=28, width=10),
    Settings("SGD", lr=1e-1, min_lr=1e-8, batch_size=128, epochs=200, lerac_epochs=6, cbs_every=3, weight_decay=5e-4),
)

# This library's, for short trainings on a CPU.
WRN_16_2 = ModelSpec(
    "wrn-16-2",
    "WRN-16-2",
    ("image",),
    lambda parts, _: _wide_resnet(parts, depth=16, width=2),
    Settings("SGD", lr=1e-1, min_lr=1e-8, batch_size=64, epochs=15, lerac_epochs=2, cbs_every=1, weight_decay=5e-4),
)
