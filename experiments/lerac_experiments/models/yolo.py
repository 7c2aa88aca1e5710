"""A detector of the YOLO family, written from published descriptions: the backbone of YOLOv4 (Bochkovskiy et al., 2020)
with cross-stage parts (Wang et al., 2020), pooling pyramid, path aggregation (Liu et al., 2018), and YOLOv5's (Jocher,
2020) numbers of channels, anchors at three scales and loss."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lerac_experiments.data.mosaic import GREY
from lerac_experiments.data.source import Parts
from lerac_experiments.models.spec import ModelSpec
from lerac_experiments.models.yolo_loss import yolo_losses
from lerac_experiments.settings import Settings

STRIDES = (8, 16, 32)
ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))
"""Widths and heights of boxes at each scale, in images of `ANCHOR_SIDE` pixels (those that YOLOv5 has for COCO)."""
ANCHOR_SIDE = 640

LOWEST_SCORE = 1e-3
MOST_CANDIDATES = 1000
"""Of an image, before those that overlap are dropped."""
MOST_DETECTIONS = 300
NMS_OVERLAP = 0.6


def _convolution(in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1) -> nn.Sequential:
    padding = kernel // 2 if kernel % 2 else (kernel - stride) // 2
    convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03), nn.SiLU())


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, added to what comes in if it is a `shortcut`."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(_convolution(channels, channels), _convolution(channels, channels, 3))
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class CrossStage(nn.Module):
    """Half of the channels go through bottlenecks and half go past them (CSP)."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, shortcut: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        bottlenecks = [Bottleneck(half, shortcut) for _ in range(depth)]
        self.through = nn.Sequential(_convolution(in_channels, half), *bottlenecks)
        self.past = _convolution(in_channels, half)
        self.join = _convolution(2 * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.join(torch.cat([self.through(x), self.past(x)], dim=1))
        return y


class PoolingPyramid(nn.Module):
    """The maxima of 5x5, 9x9 and 13x13 neighbours, by one pooling three times (SPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = _convolution(channels, half)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = _convolution(4 * half, channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.reduce(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        y: Tensor = self.join(torch.cat(maps, dim=1))
        return y


class Backbone(nn.Module):
    """[B, 3, H, W] -> maps of 1/8, 1/16 and 1/32 of the sides."""

    def __init__(self, channels: list[int], depths: list[int]) -> None:
        super().__init__()
        self.stem = _convolution(3, channels[0], 6, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(_convolution(before, after, 3, 2), CrossStage(after, after, depth))
            for before, after, depth in zip(channels, channels[1:], depths, strict=False)
        )
        self.pyramid = PoolingPyramid(channels[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return [*maps[1:-1], self.pyramid(maps[-1])]


class Neck(nn.Module):
    """Maps of three scales, each told of the others: from coarse to fine, and back (PAN)."""

    def __init__(self, channels: list[int], depth: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.reduce_coarse, self.reduce_middle = _convolution(coarse, middle), _convolution(middle, fine)
        self.to_middle = CrossStage(2 * middle, middle, depth, shortcut=False)
        self.to_fine = CrossStage(2 * fine, fine, depth, shortcut=False)
        self.from_fine, self.from_middle = _convolution(fine, fine, 3, 2), _convolution(middle, middle, 3, 2)
        self.back_to_middle = CrossStage(2 * fine, middle, depth, shortcut=False)
        self.back_to_coarse = CrossStage(2 * middle, coarse, depth, shortcut=False)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        fine, middle, coarse = maps
        coarse = self.reduce_coarse(coarse)
        middle = self.reduce_middle(self.to_middle(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], dim=1)))
        fine = self.to_fine(torch.cat([F.interpolate(middle, scale_factor=2.0), fine], dim=1))
        middle = self.back_to_middle(torch.cat([self.from_fine(fine), middle], dim=1))
        coarse = self.back_to_coarse(torch.cat([self.from_middle(middle), coarse], dim=1))
        return [fine, middle, coarse]


class Placed(NamedTuple):
    """Where an image lies in the square that it was scaled into."""

    scale: float
    left: int
    top: int
    size: tuple[int, int]
    """Of the image as it came, its height and width."""


class Yolo(nn.Module):
    """Takes images of any sizes, float [3, H, W] from 0 to 1, as torchvision's detectors do.

    In training, with targets of `boxes` (left, top, right, bottom) and `labels` from 1: a dictionary of losses. Else:
    of each image `boxes`, `labels` and `scores`.

    Args:
        classes: without the background.
        width, depth: what multiplies channels and numbers of bottlenecks; YOLOv5s has 0.5 and 0.33.
        side: of the squares that images are scaled into, a multiple of 32.
    """

    anchors: Tensor

    def __init__(self, classes: int, width: float, depth: float, side: int) -> None:
        super().__init__()
        if side % STRIDES[-1]:
            raise ValueError(f"side must be a multiple of {STRIDES[-1]}, got {side}")
        self.classes, self.side = classes, side
        channels = [round(width * count) for count in (64, 128, 256, 512, 1024)]
        self.backbone = Backbone(channels, [max(1, round(depth * count)) for count in (3, 6, 9, 3)])
        self.neck = Neck(channels[2:], max(1, round(depth * 3)))
        self.head = nn.ModuleList(nn.Conv2d(count, len(ANCHORS[0]) * (5 + classes), 1) for count in channels[2:])
        # [scales, anchors, 2], in pixels of the square.
        self.register_buffer("anchors", torch.tensor(ANCHORS) * (side / ANCHOR_SIDE), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        """Weights by He et al.; biases of the heads as if there were 8 objects in an image, and 0.6 classes in each, as
        Lin et al. start with focal loss."""
        for module in (*self.backbone.modules(), *self.neck.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for head, stride in zip(self.head, STRIDES, strict=True):
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            bias = head.bias.detach().view(len(ANCHORS[0]), -1)
            cells = (self.side / stride) ** 2
            bias[:, 4] = -torch.log(torch.tensor(max(cells / 8 - 1, 1.0)))
            bias[:, 5:] = -torch.log(torch.tensor(max(self.classes / 0.6 - 1, 1.0)))

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        placed = [self._place(image) for image in images]
        outputs = self.predict(torch.stack([square for square, _ in placed]))
        places = [place for _, place in placed]
        if self.training:
            assert targets is not None
            boxes = [_moved(target["boxes"], place) for target, place in zip(targets, places, strict=True)]
            labels = [target["labels"] - 1 for target in targets]
            return yolo_losses([output.float() for output in outputs], self.anchors, STRIDES, boxes, labels)
        found = self._decoded([output.float() for output in outputs])
        return [self._detected(each, place) for each, place in zip(found, places, strict=True)]

    def predict(self, squares: Tensor) -> list[Tensor]:
        """[B, 3, S, S] -> at each scale [B, anchors, rows, columns, 5 + classes]: the box, whether there is an object,
        and of which class, all before the sigmoid."""
        outputs = []
        for head, features in zip(self.head, self.neck(self.backbone(squares)), strict=True):
            raw = head(features)
            count, _, rows, columns = raw.shape
            outputs.append(raw.view(count, len(ANCHORS[0]), -1, rows, columns).permute(0, 1, 3, 4, 2))
        return outputs

    def _place(self, image: Tensor) -> tuple[Tensor, Placed]:
        """Scales an image into the middle of a grey square."""
        height, width = image.shape[-2:]
        scale = self.side / max(height, width)
        rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
        scaled = F.interpolate(image[None], (rows, columns), mode="bilinear", align_corners=False, antialias=scale < 1)
        top, left = (self.side - rows) // 2, (self.side - columns) // 2
        square = image.new_full((3, self.side, self.side), GREY)
        square[:, top : top + rows, left : left + columns] = scaled[0]
        return square, Placed(scale, left, top, (height, width))

    def _decoded(self, outputs: list[Tensor]) -> Tensor:
        """Boxes in pixels of the square, and the scores of classes: [B, all anchors, 4 + classes]."""
        decoded = []
        for output, anchors, stride in zip(outputs, self.anchors, STRIDES, strict=True):
            rows, columns = output.shape[2:4]
            y, x = (torch.arange(n, device=output.device, dtype=output.dtype) for n in (rows, columns))
            cells = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)], dim=2)
            values = output.sigmoid()
            centre = (2.0 * values[..., :2] - 0.5 + cells) * stride
            size = (2.0 * values[..., 2:4]) ** 2 * anchors[None, :, None, None]
            scores = values[..., 4:5] * values[..., 5:]
            decoded.append(torch.cat([centre - size / 2, centre + size / 2, scores], dim=4).flatten(1, 3))
        return torch.cat(decoded, dim=1)

    def _detected(self, found: Tensor, place: Placed) -> dict[str, Tensor]:
        """Of an image: without those of low scores, and those that overlap a better one of their class."""
        from torchvision.ops import batched_nms, clip_boxes_to_image  # takes long to import

        anchor, label = (found[:, 4:] > LOWEST_SCORE).nonzero(as_tuple=True)
        scores = found[anchor, 4 + label]
        scores, best = scores.topk(min(MOST_CANDIDATES, len(scores)))
        boxes, label = found[anchor[best], :4], label[best]
        kept = batched_nms(boxes, scores, label, NMS_OVERLAP)[:MOST_DETECTIONS]
        shift = boxes.new_tensor([place.left, place.top] * 2)
        on_image = clip_boxes_to_image((boxes[kept] - shift) / place.scale, place.size)
        return {"boxes": on_image, "labels": label[kept] + 1, "scores": scores[kept]}


def _moved(boxes: Tensor, place: Placed) -> Tensor:
    """Boxes of an image in its square."""
    return boxes * place.scale + boxes.new_tensor([place.left, place.top] * 2)


def _build(parts: Parts, width: float, depth: float, side: int) -> nn.Module:
    return Yolo(parts.classes - 1, width, depth, side)


def _smoothing(name: str, module: nn.Module) -> bool:
    """The wide convolutions of the backbone, as of SSD."""
    return name.startswith("backbone.") and isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1


def _build_small_variant(parts: Parts, _: Path | None) -> nn.Module:
    return _build(parts, width=0.25, depth=0.33, side=192)


# As YOLOv5s in size, rate, momentum, weight decay and 300 epochs from random weights. Unlike there, gradients are not
# gathered to batches of 64 images, and the weight of objectness does not go by the size of the images. For LeRaC and
# CBS as for ResNet-18.
YOLO = ModelSpec(
    "yolo",
    "YOLO",
    ("detection",),
    lambda parts, _: _build(parts, width=0.5, depth=0.33, side=640),
    Settings(
        "SGD",
        lr=1e-2,
        min_lr=1e-9,
        batch_size=16,
        epochs=300,
        lerac_epochs=6,
        cbs_every=3,
        momentum=0.937,
        weight_decay=5e-4,
    ),
    _smoothing,
    temperatures=False,
)

# This library's, for short trainings on a CPU.
YOLO_SMALL = ModelSpec(
    "yolo-small",
    "YOLO, small",
    ("detection",),
    _build_small_variant,
    Settings("AdamW", lr=2e-3, min_lr=2e-10, batch_size=8, epochs=30, lerac_epochs=3, cbs_every=1, weight_decay=5e-4),
    _smoothing,
    temperatures=False,
)
