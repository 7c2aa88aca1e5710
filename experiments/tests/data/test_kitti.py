"""KITTI, from a small folder like it."""

from pathlib import Path

import pytest

from experiments.tests.data.image_parts import load_all, write_image
from lerac_experiments.data.kitti import KITTI, parse_label
from lerac_experiments.data.source import Request
from lerac_experiments.errors import ExperimentError, Unavailable

REST = "1.5 1.6 3.9 1.0 1.5 20.0 -1.5"


def line(kind: str, box: str = "10 20 50 70", truncated: float = 0.0, occluded: int = 0) -> str:
    return f"{kind} {truncated} {occluded} -1.57 {box} {REST}"


LABEL = "\n".join(
    [
        line("Car", "10.5 20 50 70", 0.15, 1),
        line("Van", "60 20 90 60"),
        line("Truck"),
        line("Cyclist", "5 5 15 50"),
        line("Person_sitting", "1 2 9 30"),
        line("DontCare", "0 0 20 10", -1, -1),
    ]
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    write_kitti(tmp_path / "kitti")
    return tmp_path / "kitti"


def write_kitti(folder: Path) -> None:
    """Twelve images to train with and eight to test with."""
    for name in ("training/label_2", "ImageSets"):
        (folder / name).mkdir(parents=True)
    for number in range(20):
        write_image(folder / "training" / "image_2" / f"{number:06}.png", (120, 80))
        (folder / "training" / "label_2" / f"{number:06}.txt").write_text(LABEL if number % 3 else "")
    for name, numbers in (("train", range(12)), ("val", range(12, 20))):
        (folder / "ImageSets" / f"{name}.txt").write_text("".join(f"{number:06}\n" for number in numbers))


def test_kitti(folder: Path) -> None:
    parts = KITTI.load(Request())
    assert (parts.task, parts.classes, parts.source) == ("detection", 4, str(folder))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (11, 1, 8)
    targets = [target for part in load_all(parts).values() for batch in part for target in batch.targets]
    assert [len(target["labels"]) for target in targets].count(0) == 7
    full = next(target for target in targets if len(target["labels"]))
    assert full["boxes"].tolist() == [[10.5, 20, 50, 70], [5, 5, 15, 50]]
    assert full["labels"].tolist() == [1, 3]
    assert full["truncated"].tolist() == [0.15, 0.0], "as it is written: 0.15 is not above 0.15"
    assert full["occluded"].tolist() == [1, 0]
    assert full["ignored_boxes"].tolist() == [[60, 20, 90, 60], [1, 2, 9, 30], [0, 0, 20, 10]]
    assert full["ignored_labels"].tolist() == [1, 2, 0], "near to a car, near to a pedestrian, and a region"
    assert parts.train.boxes == sum(len(parts.train[i].targets[0]["labels"]) for i in range(len(parts.train)))


def test_without_lists_half_is_tested(folder: Path) -> None:
    for name in ("train", "val"):
        (folder / "ImageSets" / f"{name}.txt").unlink()
    parts = KITTI.load(Request())
    assert (len(parts.train) + len(parts.validation), len(parts.test)) == (10, 10)
    assert "not the split of the paper" in str(parts.note)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (line("Boat"), "line 1: 'Boat' is none of the types"),
        (line("Car", "50 20 10 70"), "is empty"),
        (line("Car", "50 nan 60 70"), "it has 15 fields|is empty"),
        ("\n" + line("Car") + " 0.9 1", "line 2: it has 17 fields, where 15 are expected"),
        ("Car 0 0", "line 1"),
    ],
)
def test_a_damaged_label_is_named(content: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        parse_label(content, Path("x.txt"), "x.png")


def test_lists_that_do_not_fit_are_named(folder: Path) -> None:
    lists = folder / "ImageSets"
    (lists / "val.txt").write_text("000001\n")
    with pytest.raises(ExperimentError, match=r"train\.txt and val\.txt name an image twice"):
        KITTI.load(Request())
    (lists / "val.txt").unlink()
    with pytest.raises(ExperimentError, match=r"val\.txt is missing: give both lists, or neither"):
        KITTI.load(Request())


def test_a_missing_image_is_named(folder: Path) -> None:
    (folder / "training" / "image_2" / "000003.png").unlink()
    with pytest.raises(ExperimentError, match=r"image_2/000003\.png is missing"):
        KITTI.load(Request())


def test_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match="training/image_2 and training/label_2"):
        KITTI.load(Request())
