"""Images with boxes, from small trees in the layout of PASCAL VOC."""

import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from experiments.tests.data.image_parts import batches, cut, load_all, write_image
from lerac_experiments.data.detection import BCCD, VOC
from lerac_experiments.data.source import Request
from lerac_experiments.data.voc import BoxedImages, parse_annotation
from lerac_experiments.errors import ExperimentError, Unavailable

SIZE = (60, 40)
BOX = (11, 21, 30, 40)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    return tmp_path


def object_xml(name: str, box: Sequence[float] = BOX, *, difficult: bool = False) -> str:
    edges = "".join(f"<{edge}>{at}</{edge}>" for edge, at in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    return f"<object><name>{name}</name><difficult>{difficult:d}</difficult><bndbox>{edges}</bndbox>{part}</object>"


def annotation_xml(*objects: str) -> str:
    size = f"<size><width>{SIZE[0]}</width><height>{SIZE[1]}</height><depth>3</depth></size>"
    return f"<annotation><filename>x.jpg</filename>{size}{''.join(objects)}</annotation>"


def write_voc(folder: Path, lists: dict[str, int], classes: tuple[str, str]) -> Path:
    """Images with 0, 1 or 2 objects each, in lists of these lengths."""
    number = 0
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, length in lists.items():
        images = []
        for _ in range(length):
            image = f"{name}_{number:06}"
            images.append(image)
            write_image(folder / "JPEGImages" / f"{image}.jpg", SIZE)
            objects = [object_xml(classes[0]), object_xml(classes[1], difficult=True)][: number % 3]
            (folder / "Annotations" / f"{image}.xml").write_text(annotation_xml(*objects))
            number += 1
        (folder / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(images) + "\n")
    return folder


def write_2007(data: Path) -> Path:
    return write_voc(data / "VOCdevkit" / "VOC2007", {"trainval": 20, "test": 6}, ("dog", "cat"))


def write_bccd(data: Path) -> Path:
    return write_voc(data / "bccd" / "BCCD", {"trainval": 20, "test": 6}, ("WBC", "RBC"))


def test_voc(data: Path) -> None:
    folder = write_2007(data)
    parts = VOC.load(Request())
    assert (parts.task, parts.classes, parts.source, parts.note) == ("detection", 21, str(folder), None)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (18, 2, 6)
    for name, part in load_all(parts).items():
        boxes = []
        for batch in part:
            assert isinstance(batch.inputs, list)
            assert isinstance(batch.targets, list)
            assert len(batch.inputs) == len(batch.targets) == len(batch.indices)
            for image, target in zip(batch.inputs, batch.targets, strict=True):
                assert image.shape == (3, SIZE[1], SIZE[0])
                assert image.dtype == torch.float32
                assert image.mean().item() == pytest.approx(128 / 255, abs=0.01)
                count = len(target["labels"])
                assert target["boxes"].shape == (count, 4)
                assert target["boxes"].dtype == torch.float32
                assert target["boxes"].tolist() == [[10, 20, 30, 40]] * count
                assert target["labels"].dtype == torch.int64
                assert target["labels"].tolist() == [12, 8][:count]
                assert target["difficult"].tolist() == [False, True][:count]
                assert target["difficult"].dtype == torch.bool
                assert target["indices"].dtype == torch.int64
                boxes += target["indices"].tolist()
        examples = getattr(parts, name)
        assert isinstance(examples, BoxedImages)
        assert boxes == [*range(examples.boxes)]
    assert parts.test.boxes == 6


def test_the_number_of_a_box_does_not_depend_on_the_batch(data: Path) -> None:
    write_2007(data)
    train = VOC.load(Request()).train
    one_by_one = [train[index].targets[0]["indices"] for index in range(len(train))]
    shuffled = train.__getitems__([5, 0, 17]).targets
    assert [target["indices"].tolist() for target in shuffled] == [one_by_one[index].tolist() for index in (5, 0, 17)]


def test_voc_2007_from_its_archives(data: Path) -> None:
    folder = write_2007(data)
    for archive, part in (("VOCtrainval_06-Nov-2007.tar", "trainval"), ("VOCtest_06-Nov-2007.tar", "test")):
        with tarfile.open(data / archive, "w") as tarred:
            for path in sorted(folder.rglob(f"{part}*.*")):
                tarred.add(path, path.relative_to(data))
    folder.rename(data / "elsewhere")
    assert len(VOC.load(Request()).test) == 6
    assert folder.is_dir()
    assert [path.name for path in folder.parent.iterdir()] == ["VOC2007"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_that_were_saved_on_windows(data: Path, encoding: str, end: str) -> None:
    folder = write_2007(data)
    expected = [each.image for each in VOC.load(Request()).train.annotations]
    for path in (folder / "ImageSets" / "Main").iterdir():
        path.write_bytes(path.read_text().replace("\n", end).encode(encoding))
    assert [each.image for each in VOC.load(Request()).train.annotations] == expected


def test_voc_2012(data: Path) -> None:
    write_voc(data / "VOCdevkit" / "VOC2012", {"train": 20, "val": 6}, ("dog", "cat"))
    parts = VOC.load(Request())
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (18, 2, 6)
    assert "VOC 2012, tested with its official validation part" in str(parts.note)


def test_voc_of_neither_year(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("pooch.retrieve", no_network)
    with pytest.raises(Unavailable, match=rf"no VOCtrainval_06-Nov-2007\.tar in {data}.*no route to host"):
        VOC.load(Request())


def test_bccd(data: Path) -> None:
    write_bccd(data)
    parts = BCCD.load(Request())
    assert (parts.task, parts.classes) == ("detection", 4)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (18, 2, 6)
    assert [target["labels"].tolist() for target in batches(parts.test, 6)[0].targets] == [
        [2, 1],
        [],
        [2],
        [2, 1],
        [],
        [2],
    ]


def test_bccd_from_its_archive(data: Path) -> None:
    folder = write_bccd(data)
    with zipfile.ZipFile(data / "bccd.zip", "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(data))
    folder.parent.rename(data / "elsewhere")
    parts = BCCD.load(Request())
    assert str(data / "bccd.zip") in parts.source
    load_all(parts)
    assert len(batches(parts.train, 9, workers=1)) == 2
    assert not folder.exists()
    cut(data / "bccd.zip")
    with pytest.raises(ExperimentError, match=r"cannot read .*bccd\.zip"):
        BCCD.load(Request())


def test_bccd_unavailable(data: Path) -> None:
    with pytest.raises(Unavailable, match=rf"no BCCD in {data}.*BCCD_Dataset into {data}/bccd"):
        BCCD.load(Request())


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("ImageSets/Main/test.txt", None, "cannot read"),
        ("ImageSets/Main/test.txt", "", "names no image"),
        ("ImageSets/Main/test.txt", "test_000020\ntest_000020\n", "one of them twice"),
        ("ImageSets/Main/test.txt", "trainval_000000\n", r"it names trainval_000000, which is in trainval\.txt, too"),
        ("Annotations/test_000020.xml", None, "cannot read"),
        ("Annotations/test_000020.xml", "<annotation>", "no element found"),
        ("JPEGImages/test_000020.jpg", None, r"is missing, which Annotations/test_000020\.xml describes"),
    ],
)
def test_damage_is_named(data: Path, file: str, content: str | None, message: str) -> None:
    path = write_2007(data) / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(ExperimentError, match=message) as caught:
        VOC.load(Request())
    assert str(path) in str(caught.value)


def test_damaged_images_are_named(data: Path) -> None:
    path = write_2007(data) / "JPEGImages" / "test_000020.jpg"
    test = VOC.load(Request()).test
    cut(path, 0.8)
    with pytest.raises(ExperimentError, match=f"{path} is damaged, or no image"):
        test[0]
    write_image(path, (40, 60))
    with pytest.raises(ExperimentError, match=rf"{path} is of \(40, 60\) pixels, and its annotation says \(60, 40\)"):
        test[0]


def test_boxes_reach_the_edges_and_not_beyond() -> None:
    boxes = [(1, 1, 60, 40), (0, -3, 61, 99), (5, 5, 5, 5), (2.5, 3, 10.5, 4)]
    xml = annotation_xml(*(object_xml("dog", box) for box in boxes))
    annotation = parse_annotation(xml.encode(), Path("a.xml"), "a.jpg", ["dog"])
    assert annotation.size == SIZE
    assert annotation.boxes.tolist() == [[0, 0, 60, 40], [0, 0, 60, 40], [4, 4, 5, 5], [1.5, 2, 10.5, 4]]


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "no element found"),
        ("no xml", "syntax error"),
        ("\0", "unclosed token"),
        (annotation_xml()[:-20], "no element found"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + annotation_xml(), "document type"),
        ('<?xml version="1.0" encoding="utf-16"?><!DOCTYPE a [<!ENTITY b "c">]>' + annotation_xml(), "document type"),
        ("<annotation/>", "<annotation> lacks size/width"),
        (annotation_xml().replace("60", "wide"), "'wide'"),
        (annotation_xml("<object/>"), "<object> lacks name"),
        (annotation_xml("<object><name>dog</name></object>"), "<object> lacks bndbox/xmin"),
        (annotation_xml(object_xml("wolf")), "'wolf' is none of the classes cat, dog"),
        (annotation_xml(object_xml("dog", (30, 1, 20, 10))), "the box 30, 1, 20, 10 of 'dog' is empty"),
        (annotation_xml(object_xml("dog", (70, 1, 80, 10))), "not in the image"),
        (annotation_xml(object_xml("dog", (float("nan"), 1, 20, 10))), "is empty"),
    ],
)
def test_damaged_annotations_are_named(xml: str, message: str) -> None:
    content = xml.encode("utf-16" if "utf-16" in xml else "utf-8")
    with pytest.raises(ExperimentError, match=message) as caught:
        parse_annotation(content, Path("folder/a.xml"), "a.jpg", ["cat", "dog"])
    assert str(caught.value).startswith("folder/a.xml is damaged: ")
