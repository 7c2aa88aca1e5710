"""The detector of the YOLO family: its arithmetic against slow references, its size, and where boxes come back to."""

import math

import pytest
import torch
from torch import Tensor

from lerac_experiments.models import MODELS
from lerac_experiments.models.yolo import ANCHORS, STRIDES, Placed, Yolo, _moved
from lerac_experiments.models.yolo_loss import SCALE_WEIGHTS, box_of, match, yolo_losses


def test_it_is_of_the_published_size() -> None:
    """YOLOv5s for 80 classes has 7,235,389 parameters, YOLOv5n's widths and 3 classes make 1.77 million."""
    with torch.device("meta"):
        model = Yolo(80, width=0.5, depth=0.33, side=640)
    assert sum(parameter.numel() for parameter in model.parameters()) == 7_235_389


def ciou(a: list[float], b: list[float]) -> float:
    """Zheng et al. (2020), equations 5 to 9."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    sides = [(box[2] - box[0], box[3] - box[1]) for box in (a, b)]
    union = sides[0][0] * sides[0][1] + sides[1][0] * sides[1][1] - width * height
    iou = width * height / union
    distance = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    diagonal = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    v = 4 / math.pi**2 * (math.atan(sides[1][0] / sides[1][1]) - math.atan(sides[0][0] / sides[0][1])) ** 2
    alpha = v / (1 - iou + v) if v else 0.0
    return iou - distance / diagonal - alpha * v


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cross_entropy(logit: float, target: float) -> float:
    return -target * math.log(sigmoid(logit)) - (1 - target) * math.log(1 - sigmoid(logit))


def reference(outputs: list[Tensor], anchors: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> dict[str, float]:
    """The losses, box by box and cell by cell."""
    classes = outputs[0].shape[4] - 5
    total = {"box": 0.0, "object": 0.0, "class": 0.0}
    for output, sizes, stride, weight in zip(outputs, anchors.tolist(), STRIDES, SCALE_WEIGHTS, strict=True):
        count, _, rows, columns, _ = output.shape
        wanted, box_losses, class_losses = {}, [], []
        for image in range(count):
            for box, label in zip(boxes[image].tolist(), labels[image].tolist(), strict=True):
                box = [edge / stride for edge in box]
                x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                column, row = int(x), int(y)
                cells = [(row, column)]
                cells.append((row, column - 1) if x - column < 0.5 else (row, column + 1))
                cells.append((row - 1, column) if y - row < 0.5 else (row + 1, column))
                for number, (width, height) in enumerate(sizes):
                    width, height = width / stride, height / stride
                    ratios = [(box[2] - box[0]) / width, (box[3] - box[1]) / height]
                    if max(max(ratio, 1 / ratio) for ratio in ratios) >= 4:
                        continue
                    for at_row, at_column in cells:
                        if not (0 <= at_row < rows and 0 <= at_column < columns):
                            continue
                        raw = output[image, number, at_row, at_column].tolist()
                        centre = 2 * sigmoid(raw[0]) - 0.5 + at_column, 2 * sigmoid(raw[1]) - 0.5 + at_row
                        w, h = width * (2 * sigmoid(raw[2])) ** 2, height * (2 * sigmoid(raw[3])) ** 2
                        found = [centre[0] - w / 2, centre[1] - h / 2, centre[0] + w / 2, centre[1] + h / 2]
                        overlap = ciou(found, box)
                        box_losses.append(1 - overlap)
                        place = image, number, at_row, at_column
                        wanted[place] = max(wanted.get(place, 0.0), overlap)
                        class_losses += [cross_entropy(raw[5 + c], float(c == label)) for c in range(classes)]
        objects = [
            cross_entropy(output[place][4].item(), wanted.get(place, 0.0))
            for place in torch.cartesian_prod(*(torch.arange(n) for n in output.shape[:4])).unbind()
            for place in [tuple(place.tolist())]
        ]
        total["object"] += count * weight * sum(objects) / len(objects)
        if box_losses:
            total["box"] += count * 0.05 * sum(box_losses) / len(box_losses)
            total["class"] += count * 0.5 * classes / 80 * sum(class_losses) / len(class_losses)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_losses(seed: int) -> None:
    torch.manual_seed(seed)
    classes, side = 3, 64
    outputs = [
        torch.randn(2, 3, side // stride, side // stride, 5 + classes, dtype=torch.float64) for stride in STRIDES
    ]
    anchors = torch.tensor(ANCHORS, dtype=torch.float64) / 5
    corners = torch.rand(7, 2, dtype=torch.float64) * 40
    every = torch.cat([corners, corners + 2 + 20 * torch.rand(7, 2, dtype=torch.float64)], dim=1)
    every[6] = every[5] + 0.1  # two that share cells and anchors
    boxes, labels = [every[:2], every[2:]], [torch.tensor([0, 2]), torch.tensor([1, 1, 0, 2, 1])]
    losses = yolo_losses(outputs, anchors, STRIDES, boxes, labels)
    wanted = reference(outputs, anchors, boxes, labels)
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(wanted[name], rel=1e-6), name


def test_images_without_boxes() -> None:
    outputs = [torch.randn(1, 3, 2, 2, 6, requires_grad=True) for _ in STRIDES]
    losses = yolo_losses(outputs, torch.tensor(ANCHORS) / 5, STRIDES, [torch.zeros(0, 4)], [torch.zeros(0).long()])
    assert losses["box"] == losses["class"] == 0
    losses["object"].backward()
    assert all(output.grad is not None for output in outputs)


def test_a_centre_at_the_edge_stays_inside() -> None:
    boxes = torch.tensor([[0.0, 0.0, 0.2, 0.2], [7.9, 7.8, 8.1, 8.2]])
    found = match(boxes, torch.tensor([0, 1]), torch.tensor([[0.2, 0.3]]), (8, 8))
    cells = list(zip(found.box.tolist(), found.row.tolist(), found.column.tolist(), strict=True))
    assert cells == [(0, 0, 0), (1, 7, 7)]


def test_boxes_are_predicted_as_they_are_read() -> None:
    """What the loss takes for a box is what detection gives out."""
    torch.manual_seed(0)
    model = Yolo(2, width=0.125, depth=0.33, side=64)
    outputs = [torch.randn(1, 3, 64 // stride, 64 // stride, 7) for stride in STRIDES]
    decoded = model._decoded(outputs)[0]
    row, column, anchor = 1, 2, 2
    cells = torch.tensor([[column, row]])
    wanted = 16 * box_of(outputs[1][0, anchor, row, column, :4][None], cells, model.anchors[1][anchor][None] / 16)
    place = 3 * 8 * 8 + anchor * 16 + row * 4 + column
    torch.testing.assert_close(decoded[place, :4], wanted[0])


def test_boxes_go_to_the_square_and_back() -> None:
    model = Yolo(1, width=0.125, depth=0.33, side=64)
    square, place = model._place(torch.ones(3, 50, 100))
    assert place == Placed(0.64, 0, 16, (50, 100))
    assert square[:, 16:48].min() > 0.99
    assert square[:, :16].max() < 0.5
    boxes = torch.tensor([[10.0, 5.0, 90.0, 45.0]])
    moved = _moved(boxes, place)
    found = torch.cat([moved, torch.tensor([[0.9]])], dim=1)
    detected = model._detected(found, place)
    torch.testing.assert_close(detected["boxes"], boxes)
    assert detected["labels"].tolist() == [1]
    low = torch.cat([moved, torch.tensor([[1e-4]])], dim=1)
    assert len(model._detected(low, place)["scores"]) == 0


def test_of_overlapping_detections_the_best_of_each_class_stays() -> None:
    model = Yolo(2, width=0.125, depth=0.33, side=64)
    box = [10.0, 10.0, 30.0, 30.0]
    found = torch.tensor(
        [[*box, 0.9, 0.2], [*(edge + 1 for edge in box), 0.8, 0.1], [40.0, 40.0, 60.0, 60.0, 0.7, 0.0]]
    )
    detected = model._detected(found, Placed(1.0, 0, 0, (64, 64)))
    assert list(zip(detected["labels"].tolist(), detected["scores"].tolist(), strict=True)) == [
        (1, pytest.approx(0.9)),
        (1, pytest.approx(0.7)),
        (2, pytest.approx(0.2)),
    ]


def test_layers_go_from_the_backbone_to_the_heads() -> None:
    model = MODELS["yolo-small"].build(
        type("Parts", (), {"classes": 4})(),  # nothing else is asked for
        None,
    )
    groups = MODELS["yolo-small"].groups(model, [torch.rand(3, 64, 64)])
    names = [group["name"] for group in groups]
    assert names[0].startswith("backbone.stem")
    assert [name for name in names if name.startswith("head")] == ["head.0", "head.1", "head.2"]
    assert max(group["depth"] for group in groups) == next(
        group["depth"] for group in groups if group["name"] == "head.2"
    )
