"""Mosaic augmentation of images with boxes (Bochkovskiy et al., 2020): four images around a point, as one."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lerac_experiments.data.examples import Batch, Examples

CENTRE = 0.25, 0.75
"""Where the point is, in sides of the whole."""
LEAST_SIDE = 2.0
"""In pixels, of what is left of a box; and"""
LEAST_SHARE = 0.1
"""of its area."""
GREY = 114 / 255
"""Where there is no image; in YOLO models, around images that are no squares, too."""

_PER_BOX = ("labels", "difficult", "indices", "truncated", "occluded")
"""What targets have of each box, beside where it is."""


class Mosaic(Examples):
    """The images of other examples, each with three more: which, and how they lie, is drawn by the epoch and the number
    of the image.

    Attributes:
        boxes: how many there are in all images: those of a mosaic have the numbers that they have in their images.
    """

    def __init__(self, examples: Examples, seed: int) -> None:
        self._examples = examples
        self._seed = seed
        self.boxes = getattr(examples, "boxes", None)

    def __len__(self) -> int:
        return len(self._examples)

    def __getitems__(self, indices: list[int]) -> Batch:
        self._examples.epoch = self.epoch
        mosaics = [self._mosaic(index) for index in indices]
        return Batch([image for image, _ in mosaics], [target for _, target in mosaics], torch.tensor(indices))

    def _mosaic(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        generator = np.random.default_rng((self._seed, self.epoch, index))
        chosen = [index, *generator.integers(len(self), size=3).tolist()]
        batch = self._examples.__getitems__([chosen[i] for i in generator.permutation(4)])
        assert isinstance(batch.inputs, list)
        assert isinstance(batch.targets, list)
        side = 2 * max(batch.inputs[0].shape[-2:])
        column, row = (round(at * side) for at in generator.uniform(*CENTRE, 2))
        return compose(batch.inputs, batch.targets, side, (column, row))


def compose(
    images: list[Tensor], targets: list[dict[str, Tensor]], side: int, centre: tuple[int, int]
) -> tuple[Tensor, dict[str, Tensor]]:
    """A square of four images, which touch a point with a corner: above left, above right, below left, below right.

    Each is scaled to half of the square, and what juts out of it is cut off, with boxes of which too little is left.

    Args:
        centre: the point, its column and row.
    """
    square = images[0].new_full((3, side, side), GREY)
    parts = []
    for number, (image, target) in enumerate(zip(images, targets, strict=True)):
        scale = side / 2 / max(image.shape[-2:])
        rows, columns = (max(1, round(scale * length)) for length in image.shape[-2:])
        scaled = F.interpolate(image[None], (rows, columns), mode="bilinear", align_corners=False)[0]
        left = centre[0] - (columns if number % 2 == 0 else 0)
        top = centre[1] - (rows if number < 2 else 0)
        seen = scaled[:, max(0, -top) : side - top, max(0, -left) : side - left]
        at = max(0, top), max(0, left)
        square[:, at[0] : at[0] + seen.shape[1], at[1] : at[1] + seen.shape[2]] = seen
        parts.append(_moved(target, scale, left, top, side))
    return square, {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _moved(target: dict[str, Tensor], scale: float, left: int, top: int, side: int) -> dict[str, Tensor]:
    """The boxes of an image where it lies, without those of which too little is seen."""
    whole = target["boxes"] * scale + target["boxes"].new_tensor([left, top] * 2)
    seen = whole.clamp(0.0, float(side))
    sides = seen[:, 2:] - seen[:, :2]
    enough = (sides >= LEAST_SIDE).all(dim=1) & (sides.prod(dim=1) >= LEAST_SHARE * _areas(whole))
    return {"boxes": seen[enough], **{name: target[name][enough] for name in _PER_BOX if name in target}}


def _areas(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
