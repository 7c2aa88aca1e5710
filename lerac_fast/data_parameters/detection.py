"""Data parameters of boxes, for anchor-based detectors.

Source: Saxena, Tuzel and DeCoste, "Data Parameters", section 3.3: every annotated box has a temperature, anchors
matched to it use it, and background anchors use the mean of the boxes in the batch. That the mean gets no gradient is
this library's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lerac_fast.data_parameters.loss import DataParameters


def anchor_temperatures(
    criterion: DataParameters, targets: Sequence[Mapping[str, Tensor]], matched: Sequence[Tensor]
) -> Tensor:
    """Return the temperature of every anchor `[N, A]`, with a gradient that `criterion.step()` will apply.

    Args:
        criterion: with a temperature for each box of the data set (`num_instances`), and for each label if it has
            classes, too.
        targets: of each of N images, as torchvision's detectors take them: `"indices"`, int64 `[boxes]`, the number
            of each box among all boxes of the data set, and `"labels"`.
        matched: of each image, int64 `[A]`, which of its boxes each anchor is matched to; negative for background.

    Raises:
        ValueError: an image has no `"indices"`, or not one for each of its labels, or they are out of range.
    """
    with criterion._refusing():
        labels, boxes = _boxes(targets, criterion.num_classes is not None)
    of_boxes = criterion.temperatures(labels, boxes)
    of_background = of_boxes.detach().mean() if len(of_boxes) else of_boxes.new_ones(())
    per_image = of_boxes.split([len(target["labels"]) for target in targets])
    return torch.stack(
        [
            torch.cat([sigmas, of_background[None]])[torch.where(match < 0, len(sigmas), match)]
            for sigmas, match in zip(per_image, matched, strict=True)
        ]
    )


def _boxes(targets: Sequence[Mapping[str, Tensor]], have_classes: bool) -> tuple[Tensor | None, Tensor]:
    """The labels, if classes have temperatures, and the numbers of all boxes."""
    for image, target in enumerate(targets):
        indices = target.get("indices")
        if indices is None or indices.shape != target["labels"].shape:
            given = "are missing" if indices is None else f"are {tuple(indices.shape)}"
            raise ValueError(
                f"targets[{image}]: 'indices' {given}, and there are {len(target['labels'])} boxes: give each box its "
                "number among all boxes of the data set"
            )
    labels = torch.cat([target["labels"] for target in targets]) if have_classes else None
    return labels, torch.cat([target["indices"] for target in targets])


class TemperedAnchors:
    """Wraps the `compute_loss` of torchvision's SSD, so that class logits are divided by temperatures of boxes.

    In evaluation mode of the criterion, it changes nothing.

    Examples:
        >>> model = torchvision.models.detection.ssd300_vgg16(num_classes=4)
        >>> criterion = DataParameters(num_instances=boxes, instance_lr=0.1, momentum=0.0, weight_decay=0.0)
        >>> model.compute_loss = TemperedAnchors(model.compute_loss, criterion)
        >>> for images, targets in loader:  # each target with "boxes", "labels" and "indices"
        ...     optimizer.zero_grad()
        ...     sum(model(images, targets).values()).backward()
        ...     optimizer.step()
        ...     criterion.step()
    """

    def __init__(self, compute_loss: Callable[..., dict[str, Tensor]], criterion: DataParameters) -> None:
        self.compute_loss = compute_loss
        self.criterion = criterion

    def __call__(
        self,
        targets: Sequence[Mapping[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: Any,
        matched_idxs: Sequence[Tensor],
    ) -> dict[str, Tensor]:
        if self.criterion.training:
            sigma = anchor_temperatures(self.criterion, targets, matched_idxs)
            # Divided here, and not in the loss, which the detector goes on to choose hard background anchors by.
            tempered = head_outputs["cls_logits"] / sigma.unsqueeze(-1).to(head_outputs["cls_logits"].dtype)
            head_outputs = {**head_outputs, "cls_logits": tempered}
        return self.compute_loss(targets, head_outputs, anchors, matched_idxs)
