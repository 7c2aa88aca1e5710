"""The loss of detectors of the YOLO family with anchors: boxes by their complete overlap (CIoU, Zheng et al., 2020),
whether there is an object, and its class."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BOX_WEIGHT, OBJECT_WEIGHT, CLASS_WEIGHT = 0.05, 1.0, 0.5
CLASS_COUNT = 80
"""For which the weight of classes is."""
SCALE_WEIGHTS = (4.0, 1.0, 0.4)
"""Of whether there is an object, from the finest scale on, which has the most cells."""
LARGEST_RATIO = 4.0
"""Between a box and an anchor, of widths or heights, for the anchor to be matched."""


class Matches(NamedTuple):
    """The anchors of a scale that are to find a box, one row each."""

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    box: Tensor
    """Its number among the boxes of all images."""


def yolo_losses(
    outputs: Sequence[Tensor],
    anchors: Tensor,
    strides: Sequence[int],
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
) -> dict[str, Tensor]:
    """The three losses, weighted, summed over the scales and the images.

    Args:
        outputs: of each scale [B, anchors, rows, columns, 5 + classes], before the sigmoid.
        anchors: [scales, anchors, 2], widths and heights in pixels.
        boxes: of each image [n, 4], in pixels.
        labels: of each image int64 [n], from 0.
    """
    from torchvision.ops import complete_box_iou_loss  # takes long to import

    count, classes = len(outputs[0]), outputs[0].shape[4] - 5
    images = torch.cat([torch.full((len(own),), i, device=anchors.device) for i, own in enumerate(boxes)])
    every_box, every_label = torch.cat(list(boxes)), torch.cat(list(labels))
    box_loss = object_loss = class_loss = outputs[0].new_zeros(())
    for output, sizes, stride, weight in zip(outputs, anchors, strides, SCALE_WEIGHTS, strict=True):
        found = match(every_box / stride, images, sizes / stride, output.shape[2:4])
        chosen = output[found.image, found.anchor, found.row, found.column]
        wanted = output.new_zeros(output.shape[:4])
        if len(found.box):
            cells = torch.stack([found.column, found.row], dim=1)
            predicted = box_of(chosen[:, :4], cells, sizes[found.anchor] / stride)
            loss = complete_box_iou_loss(predicted, every_box[found.box] / stride)
            box_loss = box_loss + loss.mean()
            # Of boxes that share an anchor, the one that it fits best.
            places = (found.image, found.anchor, found.row, found.column)
            flat = _flat(places, wanted.shape)
            wanted.view(-1).scatter_reduce_(0, flat, (1.0 - loss.detach()).clamp_(0.0, 1.0), "amax")
            one_hot = F.one_hot(every_label[found.box], classes).to(output.dtype)
            class_loss = class_loss + F.binary_cross_entropy_with_logits(chosen[:, 5:], one_hot)
        object_loss = object_loss + weight * F.binary_cross_entropy_with_logits(output[..., 4], wanted)
    return {
        "box": count * BOX_WEIGHT * box_loss,
        "object": count * OBJECT_WEIGHT * object_loss,
        "class": count * CLASS_WEIGHT * classes / CLASS_COUNT * class_loss,
    }


def match(boxes: Tensor, images: Tensor, anchors: Tensor, size: Sequence[int]) -> Matches:
    """Which anchors are to find which boxes, at one scale.

    An anchor fits a box whose sides are not 4 times as long or short. It is asked for at the cell of the box's centre,
    and at the two that are next to the centre: a cell's predictions reach half a cell beyond it.

    Args:
        boxes: [n, 4], in cells.
        images: int64 [n], of which each is.
        anchors: [A, 2], in cells.
        size: rows and columns.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    ratios = sides[:, None] / anchors[None]
    fits = torch.maximum(ratios, 1.0 / ratios.clamp_min(1e-9)).amax(dim=2) < LARGEST_RATIO
    box, anchor = fits.nonzero(as_tuple=True)
    limits = torch.tensor([size[1], size[0]], device=boxes.device)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    own = torch.minimum(centre.long().clamp_min(0), limits - 1)
    # To the left or to the right, above or below.
    step = torch.where(centre - own < 0.5, -1, 1)
    beside = own.clone()
    beside[:, 0] += step[:, 0]
    over = own.clone()
    over[:, 1] += step[:, 1]
    cells = torch.stack([own, beside, over], dim=1)[box]  # [matched, 3, 2]
    inside = ((cells >= 0) & (cells < limits)).all(dim=2)
    number, which = inside.nonzero(as_tuple=True)
    chosen = cells[number, which]
    return Matches(images[box[number]], anchor[number], chosen[:, 1], chosen[:, 0], box[number])


def box_of(raw: Tensor, cells: Tensor, anchors: Tensor) -> Tensor:
    """The box that a cell and an anchor predict, [n, 4] in cells: its centre reaches half a cell beyond the cell, and
    its sides are up to four times the anchor's.

    Args:
        raw: [n, 4], before the sigmoid.
        cells: [n, 2], columns and rows.
        anchors: [n, 2].
    """
    values = raw.sigmoid()
    centre = 2.0 * values[:, :2] - 0.5 + cells
    half = 2.0 * values[:, 2:] ** 2 * anchors
    return torch.cat([centre - half, centre + half], dim=1)


def _flat(places: tuple[Tensor, ...], shape: Sequence[int]) -> Tensor:
    """Where places of several dimensions are in a tensor's memory."""
    flat = torch.zeros_like(places[0])
    for numbers, length in zip(places, shape, strict=True):
        flat = flat * length + numbers
    return flat
