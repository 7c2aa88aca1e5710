"""Average precision of detections, as VOC, COCO and KITTI have it."""

import warnings
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from torch import Tensor

from lerac_experiments.training.kitti_precision import KittiImage, kitti_precisions

Found: TypeAlias = Sequence[tuple[dict[str, Tensor], dict[str, Tensor]]]
"""Of each image what is detected (boxes, labels, scores) and its target, on the CPU."""

HALF = 0.5
"""The overlap that VOC asks for."""
COCO_OVERLAPS = [0.5 + 0.05 * step for step in range(10)]
VOC_RECALLS = [0.1 * step for step in range(11)]


def mean_average_precision(found: Found, overlaps: list[float], recalls: list[float] | None = None) -> float:
    """The mean over classes and overlaps. Objects marked as difficult are neither hits nor misses.

    Args:
        recalls: at which precision is averaged; None, COCO's 101 points.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchmetrics' own imports
        from torchmetrics.detection import MeanAveragePrecision
    precision = MeanAveragePrecision(box_format="xyxy", iou_thresholds=overlaps, rec_thresholds=recalls)
    precision.warn_on_many_detections = False
    for detected, target in found:
        truth = {"boxes": target["boxes"], "labels": target["labels"]}
        if "difficult" in target:
            truth["iscrowd"] = target["difficult"].int()
        precision.update([detected], [truth])
    return max(0.0, float(precision.compute()["map"]))  # -1 where there is not one box


def precisions(found: Found) -> dict[str, float]:
    """As the benchmarks report them, by their names: VOC's and COCO's, and KITTI's where targets have what it takes."""
    named = {
        "VOC 2007, 11 points": mean_average_precision(found, [HALF], VOC_RECALLS),
        "COCO, 0.5 to 0.95": mean_average_precision(found, COCO_OVERLAPS),
    }
    if all("occluded" in target for _, target in found):
        named |= kitti_precisions([_kitti(detected, target) for detected, target in found])
    return named


def _kitti(detected: dict[str, Tensor], target: dict[str, Tensor]) -> KittiImage:
    of_target = ("boxes", "labels", "truncated", "occluded", "ignored_boxes", "ignored_labels")
    arrays = [*(target[name] for name in of_target), *(detected[name] for name in ("boxes", "labels", "scores"))]
    return KittiImage(*(_array(values) for values in arrays))


def _array(values: Tensor) -> np.ndarray:
    return np.asarray(values.double() if values.is_floating_point() else values)
