"""SSD, the detector of the data parameters paper."""

from pathlib import Path

from torch import Tensor, nn

from lerac_experiments.data.source import Parts
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.settings import Settings

SMALL_SIDE = 96


class SmallBackbone(nn.Module):
    """Five 3x3 convolutions with norm and ReLU, each of stride 2.

    Shapes: [B, 3, H, W] -> maps of 32, 64 and 64 channels and of 1/8, 1/16 and 1/32 of the sides, by their names.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(self._block(3, 16), self._block(16, 24))
        self.stages = nn.ModuleList([self._block(24, 32), self._block(32, 64), self._block(64, 64)])
        self.out_channels = [32, 64, 64]

    @staticmethod
    def _block(in_channels: int, out_channels: int) -> nn.Sequential:
        convolution = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.stem(x)
        maps = {}
        for number, stage in enumerate(self.stages):
            x = maps[str(number)] = stage(x)
        return maps


def _build_300(parts: Parts, _: Path | None) -> nn.Module:
    """torchvision's, with random weights; it scales images of values from 0 to 1 to 300x300 pixels and to its norm."""
    from torchvision.models.detection import ssd300_vgg16

    model: nn.Module = ssd300_vgg16(weights=None, weights_backbone=None, num_classes=parts.classes)
    return model


def _build_small(parts: Parts, _: Path | None) -> nn.Module:
    """torchvision's class on a small backbone; it scales images of values from 0 to 1 to 96x96 pixels."""
    from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
    from torchvision.models.detection.ssd import SSD as TorchvisionSSD
    from torchvision.models.detection.ssd import SSDHead

    backbone = SmallBackbone()
    anchors = DefaultBoxGenerator([[2], [2, 3], [2]], scales=[0.12, 0.3, 0.55, 0.85])
    model: nn.Module = TorchvisionSSD(
        backbone,
        anchors,
        (SMALL_SIDE, SMALL_SIDE),
        parts.classes,
        image_mean=[0.5] * 3,
        image_std=[0.25] * 3,
        head=SSDHead(backbone.out_channels, anchors.num_anchors_per_location(), parts.classes),
    )
    return model


def _smoothing(name: str, module: nn.Module) -> bool:
    """The wide convolutions of the backbone; those of the heads give predictions, not feature maps."""
    return name.startswith("backbone.") and isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1


# Rate, batch and weight decay are those of Liu et al. (2016), section 3, from whom Saxena et al. have it. The rest is
# this library's, for LeRaC and CBS as for ResNet-18.
SSD = ModelSpec(
    "ssd",
    "SSD300",
    ("detection",),
    _build_300,
    Settings("SGD", lr=1e-3, min_lr=1e-10, batch_size=32, epochs=200, lerac_epochs=6, cbs_every=3, weight_decay=5e-4),
    _smoothing,
)

# This library's, for short trainings on a CPU.
SSD_SMALL = ModelSpec(
    "ssd-small",
    "SSD, small",
    ("detection",),
    _build_small,
    Settings("SGD", lr=1e-2, min_lr=1e-9, batch_size=16, epochs=15, lerac_epochs=2, cbs_every=1, weight_decay=5e-4),
    _smoothing,
)
