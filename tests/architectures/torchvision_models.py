"""Models of torchvision, one of each family and kind of size."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torchvision.models import get_model

from tests.architectures.architecture import NUMBERED_BLOCKS, Architecture

_RESNET_BLOCKS = r"(.*\.)?layer\d+\.\d+"
_FEATURES = r"features\.\d+"
# name: side of the image, regular expression of blocks
_CLASSIFICATION = {
    "alexnet": (96, _FEATURES),
    "convnext_tiny": (64, _FEATURES),
    "densenet121": (64, r"features\.denseblock\d+\.denselayer\d+"),
    "efficientnet_b0": (64, _FEATURES),
    "efficientnet_v2_s": (64, _FEATURES),
    "googlenet": (64, NUMBERED_BLOCKS),
    "inception_v3": (299, NUMBERED_BLOCKS),
    "maxvit_t": (224, r"blocks\.\d+"),
    "mnasnet0_5": (64, r"layers\.\d+"),
    "mnasnet1_3": (64, r"layers\.\d+"),
    "mobilenet_v2": (64, _FEATURES),
    "mobilenet_v3_large": (64, _FEATURES),
    "mobilenet_v3_small": (64, _FEATURES),
    "regnet_x_400mf": (64, NUMBERED_BLOCKS),
    "regnet_y_400mf": (64, NUMBERED_BLOCKS),
    "resnet18": (64, _RESNET_BLOCKS),
    "resnet50": (64, _RESNET_BLOCKS),
    "resnext50_32x4d": (64, _RESNET_BLOCKS),
    "shufflenet_v2_x0_5": (64, r"stage\d+\.\d+"),
    "shufflenet_v2_x1_0": (64, r"stage\d+\.\d+"),
    "squeezenet1_0": (64, _FEATURES),
    "squeezenet1_1": (64, _FEATURES),
    "swin_t": (64, _FEATURES),
    "swin_v2_t": (64, _FEATURES),
    "vgg11": (64, _FEATURES),
    "vgg16_bn": (64, _FEATURES),
    "vit_b_16": (224, r"encoder\.layers\.encoder_layer_\d+"),
    "wide_resnet50_2": (64, _RESNET_BLOCKS),
}
_SEGMENTATION = {
    "deeplabv3_mobilenet_v3_large": r"backbone\.\d+",
    "deeplabv3_resnet50": _RESNET_BLOCKS,
    "fcn_resnet50": _RESNET_BLOCKS,
    "lraspp_mobilenet_v3_large": r"backbone\.\d+",
}
_DETECTION = {
    "fasterrcnn_mobilenet_v3_large_320_fpn": r"backbone\.body\.\d+",
    "fasterrcnn_resnet50_fpn": _RESNET_BLOCKS,
    "fasterrcnn_resnet50_fpn_v2": _RESNET_BLOCKS,
    "fcos_resnet50_fpn": _RESNET_BLOCKS,
    "keypointrcnn_resnet50_fpn": _RESNET_BLOCKS,
    "maskrcnn_resnet50_fpn": _RESNET_BLOCKS,
    "retinanet_resnet50_fpn": _RESNET_BLOCKS,
    "ssd300_vgg16": r"backbone\.features\.\d+",
    "ssdlite320_mobilenet_v3_large": r"backbone\.features\.\d+\.\d+",
}
_VIDEO = {
    "mc3_18": (64, 8, _RESNET_BLOCKS),
    "mvit_v2_s": (224, 16, r"blocks\.\d+"),
    "r2plus1d_18": (64, 8, _RESNET_BLOCKS),
    "r3d_18": (64, 8, _RESNET_BLOCKS),
    "s3d": (224, 16, _FEATURES),
    "swin3d_t": (64, 8, _FEATURES),
}
_OPTICAL_FLOW = {"raft_large": 128, "raft_small": 128}


def architectures() -> list[Architecture]:
    found = [_architecture(name, partial(_images, side), blocks) for name, (side, blocks) in _CLASSIFICATION.items()]
    found += [_architecture(name, partial(_images, 96), blocks) for name, blocks in _SEGMENTATION.items()]
    found += [_architecture(name, _images_and_targets, blocks) for name, blocks in _DETECTION.items()]
    found += [
        _architecture(name, partial(_clips, side, frames), blocks) for name, (side, frames, blocks) in _VIDEO.items()
    ]
    found += [
        _architecture(name, partial(_pairs_of_images, side), NUMBERED_BLOCKS, training=False)
        for name, side in _OPTICAL_FLOW.items()
    ]
    return found


def _architecture(name: str, inputs: Callable[[], Any], blocks: str, **options: Any) -> Architecture:
    build = partial(get_model, name, weights=None)
    if name in _SEGMENTATION or name in _DETECTION:
        build = partial(build, weights_backbone=None)
    if name in _DETECTION and not name.startswith("ssd"):
        build = partial(build, min_size=128, max_size=160)
    if "rcnn" in name:
        build = partial(build, rpn_post_nms_top_n_train=40, rpn_post_nms_top_n_test=40, box_batch_size_per_image=40)
    if name in ("googlenet", "inception_v3"):
        build = partial(build, init_weights=False)
    return Architecture("torchvision", name, build, inputs, blocks, **options)


def _images(side: int) -> tuple[torch.Tensor, ...]:
    return (torch.rand(2, 3, side, side),)


def _images_and_targets() -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    targets = {
        "boxes": torch.tensor([[10.0, 10.0, 90.0, 100.0], [30.0, 40.0, 120.0, 120.0]]),
        "labels": torch.tensor([1, 1]),
        "masks": torch.ones(2, 128, 160, dtype=torch.uint8),
        "keypoints": torch.tensor([50.0, 60.0, 1.0]).expand(2, 17, 3).contiguous(),
    }
    return [torch.rand(3, 128, 160), torch.rand(3, 128, 160)], [targets, {k: v.clone() for k, v in targets.items()}]


def _clips(side: int, frames: int) -> tuple[torch.Tensor, ...]:
    return (torch.rand(2 if side < 200 else 1, 3, frames, side, side),)


def _pairs_of_images(side: int) -> tuple[torch.Tensor, ...]:
    return torch.rand(1, 3, side, side), torch.rand(1, 3, side, side)
