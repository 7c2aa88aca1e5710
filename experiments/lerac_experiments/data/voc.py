"""Images with boxes around objects, in the layout of PASCAL VOC (Everingham et al., 2010)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch
from torch import Tensor

from lerac_experiments.data.examples import Batch, Examples
from lerac_experiments.data.media import decode_image, image_tensor, read_each
from lerac_experiments.data.source import Parts, Request, draw, draw_test
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError

_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class Annotation:
    """The objects in an image.

    Attributes:
        size: of the image, its width and height.
        boxes: float32 [n, 4]: left, top, right and bottom edges, from 0 to the width and the height.
        labels: int64 [n], from 1.
        difficult: bool [n], which of them an evaluation leaves out.
    """

    image: str
    size: tuple[int, int]
    boxes: Tensor
    labels: Tensor
    difficult: Tensor


class BoxedImages(Examples):
    """Images with boxes, decoded as they are asked for.

    Inputs are float32 [3, H, W] from 0 to 1, one tensor for each image, in the sizes that they come in. Targets are,
    for each image, `boxes`, `labels` and `difficult` as in Annotation, and `indices`, int64 [n]: the numbers of the
    boxes among all of the part.

    Attributes:
        boxes: how many there are in all images.
    """

    def __init__(self, files: Stored, annotations: Sequence[Annotation]) -> None:
        self.files = files
        self.annotations = annotations
        *self.first_box, self.boxes = accumulate((len(each.labels) for each in annotations), initial=0)

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitems__(self, indices: list[int]) -> Batch:
        images = read_each(self._image, [self.annotations[index] for index in indices])
        return Batch(images, [self._target(index) for index in indices], torch.tensor(indices))

    @property
    def box_labels(self) -> Tensor:
        """The labels of all boxes, int64."""
        return torch.cat([annotation.labels for annotation in self.annotations])

    def told(self, index: int) -> str:
        return f"{self.annotations[index].image}, {super().told(index)}"

    def _image(self, annotation: Annotation) -> Tensor:
        path = self.files.place / annotation.image
        image = decode_image(self.files.read(annotation.image), path)
        if image.size != annotation.size:
            raise ExperimentError(f"{path} is of {image.size} pixels, and its annotation says {annotation.size}")
        return image_tensor(image)

    def _target(self, index: int) -> dict[str, Tensor]:
        annotation, first = self.annotations[index], self.first_box[index]
        return {
            "boxes": annotation.boxes,
            "labels": annotation.labels,
            "difficult": annotation.difficult,
            "indices": torch.arange(first, first + len(annotation.labels)),
        }


def load_voc(
    files: Stored, train: str, test: str, classes: Sequence[str], source: str, note: str | None, request: Request
) -> Parts:
    """A data set in the layout of PASCAL VOC: Annotations, ImageSets/Main and JPEGImages.

    Args:
        train, test: the names of the lists in ImageSets/Main, without ".txt".
        classes: the names of those that annotations give, without the background.

    Raises:
        ExperimentError: a list, an annotation or an image is missing or damaged. The message names the file.
    """
    to_train, to_test = _read_list(files, train), _read_list(files, test)
    if both := set(to_train) & set(to_test):
        path = files.place / _list_file(test)
        raise ExperimentError(f"{path} is damaged: it names {min(both)}, which is in {train}.txt, too")

    def images(names: list[str]) -> BoxedImages:
        return BoxedImages(files, [_read_annotation(files, name, classes) for name in names])

    return boxed_parts(images, to_train, to_test, classes, source, note, request)


def boxed_parts(
    images: Callable[[list[str]], BoxedImages],
    to_train: Sequence[str],
    to_test: Sequence[str],
    classes: Sequence[str],
    source: str,
    note: str | None,
    request: Request,
) -> Parts:
    """Images with boxes that are known by names, of which some are drawn for each part.

    Args:
        images: reads those of these names.
    """
    chosen, held_out = draw(len(to_train), request)

    def part(names: Sequence[str], indices: Tensor) -> BoxedImages:
        return images([names[index] for index in indices.tolist()])

    return Parts(
        task="detection",
        classes=len(classes) + 1,
        train=part(to_train, chosen),
        validation=part(to_train, held_out),
        test=part(to_test, draw_test(len(to_test), request)),
        source=source,
        note=note,
        class_names=tuple(classes),
    )


def _read_list(files: Stored, name: str) -> list[str]:
    file = _list_file(name)
    names = [line.split()[0] for line in files.lines(file)]
    if len(set(names)) != len(names) or not names:
        raise ExperimentError(f"{files.place / file} is damaged: it names no image, or one of them twice")
    return names


def _list_file(name: str) -> str:
    return f"ImageSets/Main/{name}.txt"


def _read_annotation(files: Stored, name: str, classes: Sequence[str]) -> Annotation:
    file, image = f"Annotations/{name}.xml", f"JPEGImages/{name}.jpg"
    if not files.has(image):
        raise ExperimentError(f"{files.place / image} is missing, which {file} describes")
    return parse_annotation(files.read(file), files.place / file, image, classes)


def parse_annotation(content: bytes, path: Path, image: str, classes: Sequence[str]) -> Annotation:
    """Reads an annotation in VOC's XML.

    Its pixels are numbered from 1, and the right and bottom ones belong to the box. Edges are between pixels and count
    from 0: a box of one pixel is 1 wide. What juts out of the image is cut off.

    Args:
        path: for messages.

    Raises:
        ExperimentError: it is damaged, a class is not among `classes`, or a box is empty.
    """
    try:
        size, objects = read_objects(content)
        found = [_labelled(each, classes, size) for each in objects]
    except ValueError as error:
        raise ExperimentError(f"{path} is damaged: {error}") from error
    return annotation_of(image, size, found)


class Marked(NamedTuple):
    """An object as an annotation has it.

    Attributes:
        edges: left, top, right and bottom, between pixels, from 0.
    """

    name: str
    edges: tuple[float, float, float, float]
    difficult: bool


def read_objects(content: bytes) -> tuple[tuple[int, int], list[Marked]]:
    """The width and height of the image, and the objects in it. Raises ValueError if the annotation is damaged."""
    root = _parse_xml(content)
    size = (int(_text(root, "size/width")), int(_text(root, "size/height")))
    return size, [_parse_object(each) for each in root.findall("object")]


def cut_to(edges: tuple[float, float, float, float], size: tuple[int, int]) -> list[float] | None:
    """The part of a box that is in the image; None, there is none."""
    left, top, right, bottom = edges
    width, height = size
    box = [max(left, 0.0), max(top, 0.0), min(right, float(width)), min(bottom, float(height))]
    return box if box[0] < box[2] and box[1] < box[3] else None


def annotation_of(image: str, size: tuple[int, int], found: Sequence[tuple[list[float], int, bool]]) -> Annotation:
    """Of an image, with the box and the label of each object, and whether it is difficult."""
    return Annotation(
        image=image,
        size=size,
        boxes=torch.tensor([box for box, _, _ in found]).reshape(-1, 4),
        labels=torch.tensor([label for _, label, _ in found], dtype=torch.int64),
        difficult=torch.tensor([difficult for _, _, difficult in found], dtype=torch.bool),
    )


def _parse_xml(content: bytes) -> ElementTree.Element:
    # Entities, which can make a small file a huge one, need a document type; annotations have none.
    if b"<!DOCTYPE" in content.replace(b"\0", b""):  # also in UTF-16
        raise ValueError("it has a document type")
    try:
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise ValueError(error) from error


def _parse_object(element: ElementTree.Element) -> Marked:
    name = _text(element, "name")
    left, top, right, bottom = (float(_text(element, f"bndbox/{edge}")) for edge in _EDGES)
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return Marked(name, (left - 1, top - 1, right, bottom), difficult)


def _labelled(found: Marked, classes: Sequence[str], size: tuple[int, int]) -> tuple[list[float], int, bool]:
    """An object's box, its label, and whether it is difficult."""
    if found.name not in classes:
        raise ValueError(f"{found.name!r} is none of the classes {', '.join(classes)}")
    box = cut_to(found.edges, size)
    if box is None:
        left, top, right, bottom = found.edges
        raise ValueError(
            f"the box {left + 1:g}, {top + 1:g}, {right:g}, {bottom:g} of {found.name!r} is empty, or not in the image"
        )
    return box, classes.index(found.name) + 1, found.difficult


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"<{element.tag}> lacks {path}")
    return text.strip()
