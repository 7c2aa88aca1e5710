"""`boxes:`: annotations of boxes in three forms, as people have them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from experiments.tests.data.own.helpers import counts, faulty, image, load, refused, write
from lerac_experiments.data.source import Parts

WIDTH, HEIGHT = 60, 40
NAMES = ("cat", "dog")
OBJECTS = [[], [("dog", (10, 20, 30, 40))], [("cat", (0, 0, 60, 40)), ("dog", (5, 5, 6, 6))]]
"""Of the images, by their numbers modulo 3: edges in pixels from 0."""


def voc(objects: list[tuple[str, Any]], size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    shown = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax>"
        f"<ymax>{bottom}</ymax></bndbox></object>"
        for name, (left, top, right, bottom) in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{shown}</annotation>"


def yolo(objects: list[tuple[str, Any]]) -> str:
    lines = []
    for name, (left, top, right, bottom) in objects:
        shares = (
            (left + right) / 2 / WIDTH,
            (top + bottom) / 2 / HEIGHT,
            (right - left) / WIDTH,
            (bottom - top) / HEIGHT,
        )
        lines.append(" ".join([str(NAMES.index(name)), *(f"{share:.6f}" for share in shares)]))
    return "\n".join(lines)


def coco(count: int, first: int = 0, **changes: Any) -> dict[str, Any]:
    images = [{"id": i, "file_name": f"{i:02}.png", "width": WIDTH, "height": HEIGHT} for i in range(first, count)]
    annotations = [
        {"image_id": i, "category_id": 7 + NAMES.index(name), "bbox": [x, y, right - x, bottom - y]}
        for i in range(first, count)
        for name, (x, y, right, bottom) in OBJECTS[i % 3]
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 8, "name": "dog"}, {"id": 9, "name": "never"}]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def images(count: int, within: str = "") -> dict[str, bytes | str]:
    return {f"{within}{i:02}.png": image(10 * i, (WIDTH, HEIGHT)) for i in range(count)}


def write_voc(folder: Path, count: int = 12) -> Path:
    return write(
        folder,
        {**images(count, "JPEGImages/"), **{f"Annotations/{i:02}.xml": voc(OBJECTS[i % 3]) for i in range(count)}},
    )


def write_yolo(folder: Path, count: int = 12) -> Path:
    labels = {f"labels/{i:02}.txt": yolo(OBJECTS[i % 3]) for i in range(count)}
    return write(folder, {**images(count, "images/"), **labels, "data.yaml": "names: {0: cat, 1: dog}\n"})


def write_coco(folder: Path, count: int = 12) -> Path:
    return write(folder, {**images(count, "images/"), "annotations.json": json.dumps(coco(count))})


def coco_with(key: str, *more: Any, **changes: Any) -> str:
    """A list of 12 images, with more in one of its own lists."""
    whole = coco(12, **changes)
    return json.dumps({**whole, key: [*whole[key], *more]})


LOST = {**coco(12)["annotations"][0], "image_id": 77}
NO_IMAGE = "annotations without an image"
CAT = [{"id": 7, "name": "cat"}]
WRITE = {"voc": write_voc, "yolo": write_yolo, "coco": write_coco}


def boxes_of(parts: Parts) -> dict[float, tuple[Tensor, Tensor]]:
    """By the shades of the images, which are their own."""
    found = {}
    for part in (parts.train, parts.validation, parts.test):
        batch = part.__getitems__([*range(len(part))])
        for picture, target in zip(batch.inputs, batch.targets, strict=True):
            found[round(float(picture.mean()) * 25.5)] = (target["boxes"], target["labels"])
    return found


@pytest.mark.parametrize("form", WRITE)
def test_all_forms_say_the_same(form: str, tmp_path: Path) -> None:
    parts = load(f"boxes:{WRITE[form](tmp_path)}")
    assert (parts.task, parts.classes, parts.class_names, counts(parts)) == ("detection", 3, NAMES, (9, 1, 2))
    found = boxes_of(parts)
    assert len(found) == 12
    for number, (boxes, labels) in found.items():
        expected = torch.tensor([box for _, box in OBJECTS[number % 3]], dtype=torch.float32).reshape(-1, 4)
        assert torch.allclose(boxes, expected, atol=1e-3)
        assert labels.tolist() == [1 + NAMES.index(name) for name, _ in OBJECTS[number % 3]]


def test_parts_by_folders_lists_and_names(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"data.yaml": "names: [cat, dog]"}
    for part, count in (("train", 6), ("valid", 3), ("test", 4)):
        files |= {f"{part}/images/{i}.png": image(20 * len(part) + i, (WIDTH, HEIGHT)) for i in range(count)}
        files |= {f"{part}/labels/{i}.txt": yolo(OBJECTS[1]) for i in range(count)}
    parts = load(f"boxes:{write(tmp_path / 'yolo', files)}")
    assert (counts(parts), parts.note) == ((6, 3, 4), None)

    lists = {"trainval": range(8), "val": range(6, 8), "test": range(8, 11)}
    write_voc(tmp_path / "voc")
    write(
        tmp_path / "voc", {f"ImageSets/Main/{name}.txt": "".join(f"{i:02}\n" for i in of) for name, of in lists.items()}
    )
    parts = load(f"boxes:{tmp_path}/voc")
    assert counts(parts) == (6, 2, 3)
    assert parts.left_out["JPEGImages/11.png"] == "images in no part"

    write(tmp_path / "coco", images(12, "images/"))
    write(
        tmp_path / "coco",
        {"instances_train2017.json": json.dumps(coco(8)), "instances_val2017.json": json.dumps(coco(12, 8))},
    )
    parts = load(f"boxes:{tmp_path}/coco")
    assert counts(parts) == (7, 1, 4)
    assert "tested on the validation part" in (parts.note or "")


@pytest.mark.parametrize(
    ("form", "files", "kinds", "left"),
    [
        ("voc", {"Annotations/01.xml": "<annotation>"}, ["damaged annotations"], 11),
        ("voc", {"Annotations/01.xml": voc([("", (5, 5, 9, 9))])}, ["boxes of unknown classes"], 12),
        ("voc", {"Annotations/01.xml": voc([("dog", (5, 5, 5, 9))])}, ["boxes that are empty or outside"], 12),
        ("voc", {"Annotations/01.xml": voc([("dog", (70, 5, 80, 9))])}, ["boxes that are empty or outside"], 12),
        ("voc", {"Annotations/01.xml": voc([("dog", (5, 5, "nan", 9))])}, ["boxes that are empty or outside"], 12),
        ("voc", {"Annotations/01.xml": voc([], (HEIGHT, WIDTH))}, ["images of other sizes than annotated"], 11),
        ("voc", {"Annotations/99.xml": voc([])}, ["annotations without an image"], 12),
        ("voc", {"JPEGImages/99.png": image(size=(WIDTH, HEIGHT))}, ["images without annotations"], 12),
        ("voc", {"JPEGImages/01.png": b""}, ["damaged images"], 11),
        ("voc", {"JPEGImages/01.jpg": image(form="JPEG")}, [NO_IMAGE, "images without annotations"], 11),
        ("yolo", {"labels/01.txt": "2 0.5 0.5 0.1 0.1"}, ["boxes of unknown classes"], 12),
        ("yolo", {"labels/01.txt": "-1 0.5 0.5 0.1 0.1"}, ["boxes of unknown classes"], 12),
        ("yolo", {"labels/01.txt": "0 0.5 0.5 0.1"}, ["damaged annotations"], 12),
        ("yolo", {"labels/01.txt": "0 30 20 10 10"}, ["damaged annotations"], 12),
        ("yolo", {"labels/01.txt": "0 nan 0.5 0.1 0.1"}, ["damaged annotations"], 12),
        ("yolo", {"labels/01.txt": "0 0.5 0.5 0 0.1"}, ["boxes that are empty or outside"], 12),
        ("yolo", {"labels/01.txt": "0 .1 .1 .2 .1 .2 .2"}, ["damaged annotations"], 12),
        ("yolo", {"labels/01.txt": b"\xff\xfe0"}, ["damaged annotations"], 11),
        ("yolo", {"labels/99.txt": ""}, ["annotations without an image"], 12),
        ("coco", {"annotations.json": json.dumps(coco(11))}, ["images without annotations"], 11),
        ("coco", {"annotations.json": json.dumps(coco(13))}, ["annotations without an image"], 12),
        ("coco", {"annotations.json": coco_with("images", categories=CAT)}, ["boxes of unknown classes"], 12),
        ("coco", {"annotations.json": coco_with("images", coco(1)["images"][0])}, ["images that are listed twice"], 12),
        ("coco", {"annotations.json": coco_with("images", {"id": 3})}, ["damaged annotations"], 12),
        ("coco", {"annotations.json": coco_with("annotations", {"image_id": 1})}, ["damaged annotations"], 12),
        ("coco", {"annotations.json": coco_with("annotations", LOST)}, ["boxes of images that are not listed"], 12),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named(
    form: str, files: dict[str, Any], kinds: list[str], left: int, tmp_path: Path
) -> None:
    write(WRITE[form](tmp_path), files)
    assert sum(counts(faulty(f"boxes:{tmp_path}", *kinds))) == left


def test_boxes_that_jut_out_are_cut_and_counted(tmp_path: Path) -> None:
    write(write_voc(tmp_path), {"Annotations/01.xml": voc([("dog", (-20, 5, 30, 90))])})
    parts = load(f"boxes:{tmp_path}")
    assert "1 boxes jut out of their images" in (parts.note or "")
    assert boxes_of(parts)[1][0].tolist() == [[0, 5, 30, 40]]


def test_images_without_an_annotation_may_be_backgrounds(tmp_path: Path) -> None:
    write(
        write_yolo(tmp_path),
        {"images/99.png": image(size=(WIDTH, HEIGHT)), "README.txt": "of the export", "notes.md": ""},
    )
    write(tmp_path, {"labels/01.txt": b"\xff"})
    (tmp_path / "data.yaml").unlink()
    parts = faulty(f"boxes:{tmp_path},backgrounds", "damaged annotations")
    assert (sum(counts(parts)), parts.class_names) == (12, ("0", "1")), "what is damaged is no background"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "there are no images in"),
        (images(3), "holds annotations of no form that is known"),
        ({**images(3), "00.xml": voc([]), "01.txt": ""}, "holds annotations of voc and yolo"),
        ({**images(12), **{f"{i:02}.xml": voc([]) for i in range(12)}}, "holds no box that can be used"),
        ({**images(3), "a.json": '{"images": [], "annotations": '}, "a.json is damaged, or not COCO's"),
        (
            {**images(3), "a.json": json.dumps(coco(3, categories=[{"id": 7, "name": "a"}] * 2))},
            "two categories have the same id",
        ),
        ({**images(3), "a.json": json.dumps(coco(3, categories=[{"id": 7}]))}, "KeyError: 'name'"),
        ({**images(3), "00.txt": "", "data.yaml": "names: ["}, "data.yaml is damaged"),
        ({**images(3), "00.txt": "", "data.yaml": "names: {3: cat}"}, "data.yaml is damaged"),
        ({**images(3), "00.txt": "", "data.yaml": "names: [a, a]"}, "two classes are called alike"),
        (
            {**images(3), "00.txt": "", "data.yaml": "names: [a, b]", "classes.txt": "a\n"},
            "several lists of classes, which differ",
        ),
    ],
)
def test_what_cannot_be_read_is_refused(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    refused(f"boxes:{write(tmp_path, {'x.md': '', **files})}", message)
