"""Mosaics: four images and their boxes as one."""

import torch

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.mosaic import GREY, Mosaic, compose


def target(*boxes: list[float], first: int = 0) -> dict[str, torch.Tensor]:
    count = len(boxes)
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4),
        "labels": torch.full((count,), 1 + first),
        "indices": torch.arange(first, first + count),
    }


def test_four_images_meet_in_a_point() -> None:
    images = [torch.full((3, 20, 20), shade) for shade in (0.1, 0.2, 0.3, 0.4)]
    boxes = [[0.0, 0.0, 20.0, 20.0], [12.0, 2.0, 18.0, 8.0], [0.0, 0.0, 20.0, 20.0], [10.0, 10.0, 18.0, 18.0]]
    targets = [target(box, first=number) for number, box in enumerate(boxes)]
    square, together = compose(images, targets, 40, (30, 16))
    shades = [square[0, y, x].item() for y, x in ((10, 15), (10, 35), (20, 15), (20, 35), (2, 2), (38, 38))]
    torch.testing.assert_close(torch.tensor(shades), torch.tensor([0.1, 0.2, 0.3, 0.4, GREY, GREY]))
    # The second is cut off with its image, and the fourth is outside of the square.
    assert together["boxes"].tolist() == [[10, 0, 30, 16], [10, 16, 30, 36]]
    assert together["labels"].tolist() == [1, 3]
    assert together["indices"].tolist() == [0, 2]


class Squares(Examples):
    """Images of several sizes with a box around a white square in them."""

    boxes = 5

    def __len__(self) -> int:
        return 5

    def __getitems__(self, indices: list[int]) -> Batch:
        images, targets = [], []
        for index in indices:
            image = torch.zeros(3, 40 + 4 * index, 60)
            image[:, 10:30, 20:40] = 1.0
            images.append(image)
            targets.append(target([20.0, 10.0, 40.0, 30.0], first=index))
        return Batch(images, targets, torch.tensor(indices))


def test_boxes_stay_around_what_they_are_of() -> None:
    mosaic = Mosaic(Squares(), seed=0)
    assert (len(mosaic), mosaic.boxes) == (5, 5)
    batch = mosaic.__getitems__([0, 3])
    assert batch.indices.tolist() == [0, 3]
    for image, found in zip(batch.inputs, batch.targets, strict=True):
        assert len(found["labels"]) >= 2
        for left, top, right, bottom in found["boxes"].round().long().tolist():
            inner = image[:, top + 1 : bottom - 1, left + 1 : right - 1]
            assert inner.numel() == 0 or inner.min() > 0.5
    again = mosaic.__getitems__([3])
    assert torch.equal(again.inputs[0], batch.inputs[1]), "whatever else is in the batch"
    mosaic.epoch = 1
    assert not torch.equal(mosaic.__getitems__([3]).inputs[0], batch.inputs[1])
