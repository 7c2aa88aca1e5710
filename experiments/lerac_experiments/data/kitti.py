"""KITTI's 2D detection (Geiger, Lenz and Urtasun, 2012): 7,481 annotated images of roads, with cars, pedestrians and
cyclists.

What an evaluation leaves out is kept beside the boxes: regions without annotation (DontCare), and classes that are
near to one of the three (vans, people who sit).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lerac_experiments.data.download import find
from lerac_experiments.data.media import decode_image, image_tensor
from lerac_experiments.data.source import DataSet, Parts, Request, data_folder
from lerac_experiments.data.stored import Stored
from lerac_experiments.data.voc import Annotation, BoxedImages, boxed_parts
from lerac_experiments.errors import ExperimentError, Unavailable

CLASSES = ("Car", "Pedestrian", "Cyclist")
NEIGHBOURS = {"Van": "Car", "Person_sitting": "Pedestrian"}
"""Finding one as the other is neither a hit nor a miss."""
DONT_CARE = "DontCare"
OTHERS = ("Truck", "Tram", "Misc")
"""That are background."""

_FOLDERS = ("kitti", "KITTI", "kitti/object")
_FIELDS = 15
_SPLIT_SEED = 0
_SPLIT_NOTE = (
    "there are no lists ImageSets/train.txt and val.txt: half of the images, drawn once with a fixed seed, are the "
    "test part, which is not the split of the paper"
)
_TEST_NOTE = "tested with the list val.txt, for the annotations of the official test part are not published"


@dataclass(frozen=True)
class KittiAnnotation(Annotation):
    """The objects in an image, and what is left out.

    Attributes:
        truncated: float64 [n], the share of the object that is beyond the image.
        occluded: int64 [n]: 0, visible; 1, partly hidden; 2, largely hidden; 3, unknown.
        ignored_boxes: float32 [m, 4], of regions and of neighbours.
        ignored_labels: int64 [m]: 0 for DontCare, or the label of the neighbouring class.
    """

    truncated: Tensor
    occluded: Tensor
    ignored_boxes: Tensor
    ignored_labels: Tensor


class KittiImages(BoxedImages):
    """Images with boxes: targets have, beside what those of BoxedImages have, what KittiAnnotation has."""

    def _image(self, annotation: Annotation) -> Tensor:
        return image_tensor(decode_image(self.files.read(annotation.image), self.files.place / annotation.image))

    def _target(self, index: int) -> dict[str, Tensor]:
        annotation = self.annotations[index]
        assert isinstance(annotation, KittiAnnotation)
        names = ("truncated", "occluded", "ignored_boxes", "ignored_labels")
        return {**super()._target(index), **{name: getattr(annotation, name) for name in names}}


def _load(request: Request) -> Parts:
    folder = next((at for name in _FOLDERS if (at := find(name)) is not None and (at / "training").is_dir()), None)
    if folder is None:
        raise Unavailable(
            f"there is no KITTI in {data_folder()}. From cvlibs.net/datasets/kitti, put the left colour images and the "
            f"labels of the object benchmark into {data_folder() / _FOLDERS[0]}, as training/image_2 and "
            "training/label_2, and the lists of Chen et al. (2015) as ImageSets/train.txt and val.txt"
        )
    files = Stored(folder)
    to_train, to_test, note = _split(files)

    def images(names: list[str]) -> KittiImages:
        return KittiImages(files, [_read(files, name) for name in names])

    return boxed_parts(images, to_train, to_test, CLASSES, str(folder), note, request)


def _split(files: Stored) -> tuple[list[str], list[str], str]:
    """The images to train with, those to test with, and how they were told apart."""
    lists = [f"ImageSets/{name}.txt" for name in ("train", "val")]
    there = [files.has(name) for name in lists]
    if all(there):
        train, test = ([line.strip() for line in files.lines(name)] for name in lists)
        names = [*train, *test]
        if not train or not test or len(set(names)) < len(names):
            raise ExperimentError(f"{files.place / 'ImageSets'}: train.txt and val.txt name an image twice, or none")
        return train, test, _TEST_NOTE
    if any(there):
        missing = lists[there.index(False)]
        raise ExperimentError(f"{files.place / missing} is missing: give both lists, or neither")
    folder = files.place / "training" / "label_2"
    names = sorted(path.stem for path in folder.glob("*.txt") if not path.name.startswith("."))
    if len(names) < 2:
        raise ExperimentError(f"there are {len(names)} labels in {folder}")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(_SPLIT_SEED)).tolist()
    half = len(names) // 2
    return [names[i] for i in sorted(order[half:])], [names[i] for i in sorted(order[:half])], _SPLIT_NOTE


def _read(files: Stored, name: str) -> KittiAnnotation:
    file, image = f"training/label_2/{name}.txt", f"training/image_2/{name}.png"
    if not files.has(image):
        raise ExperimentError(f"{files.place / image} is missing, which {file} describes")
    return parse_label(files.text(file), files.place / file, image)


def parse_label(content: str, path: Path, image: str) -> KittiAnnotation:
    """Reads a label file: a line for each object, of a type and 14 numbers. Edges count from 0.

    Args:
        path: for messages.

    Raises:
        ExperimentError: it is damaged, or a type is unknown.
    """
    objects, ignored = [], []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            kind, *numbers = line.split()
            truncated, occluded, _, *box = (float(value) for value in numbers[:7])
            if len(numbers) != _FIELDS - 1 or not all(map(math.isfinite, box)):
                raise ValueError(f"it has {len(numbers) + 1} fields, where {_FIELDS} are expected")
            if not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"the box {box} is empty")
            if kind in CLASSES:
                objects.append((box, CLASSES.index(kind) + 1, truncated, int(occluded)))
            elif kind == DONT_CARE:
                ignored.append((box, 0))
            elif kind in NEIGHBOURS:
                ignored.append((box, CLASSES.index(NEIGHBOURS[kind]) + 1))
            elif kind not in OTHERS:
                raise ValueError(f"{kind!r} is none of the types of KITTI")
        except ValueError as error:
            raise ExperimentError(f"{path} is damaged: line {number}: {error}") from error
    return KittiAnnotation(
        image=image,
        size=(0, 0),  # labels do not tell
        boxes=torch.tensor([box for box, *_ in objects], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([label for _, label, *_ in objects], dtype=torch.int64),
        difficult=torch.zeros(len(objects), dtype=torch.bool),
        truncated=torch.tensor([truncated for *_, truncated, _ in objects], dtype=torch.float64),
        occluded=torch.tensor([occluded for *_, occluded in objects], dtype=torch.int64),
        ignored_boxes=torch.tensor([box for box, _ in ignored], dtype=torch.float32).reshape(-1, 4),
        ignored_labels=torch.tensor([label for _, label in ignored], dtype=torch.int64),
    )


KITTI = DataSet("kitti", "KITTI", "detection", _load)
