"""ImageNet and 200 of its classes, from a small tree like it."""

import shutil
from pathlib import Path

import pytest
import torch

from experiments.tests.data.image_parts import load_all, write_image
from lerac_experiments.data.imagenet import IMAGENET, IMAGENET_200
from lerac_experiments.data.source import Request
from lerac_experiments.errors import ExperimentError, Unavailable

WNIDS = [f"n{number:08}" for number in range(6)]


@pytest.fixture(params=["imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"])
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    folder: Path = tmp_path / request.param
    write_imagenet(folder)
    return folder


def write_imagenet(folder: Path) -> None:
    """Five images to train with for each class, and one to test with."""
    for position, wnid in enumerate(WNIDS):
        for number in range(5):
            write_image(folder / "train" / wnid / f"{wnid}_{number}.JPEG", (50, 40), value=40 * position)
        write_image(folder / "val" / wnid / f"ILSVRC2012_val_{position:08}.JPEG", (30, 60), value=40 * position)


def test_imagenet(folder: Path) -> None:
    parts = IMAGENET.load(Request(image_size=28))
    assert (parts.task, parts.classes, parts.source) == ("classification", 6, str(folder))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (27, 3, 6)
    assert "official validation part" in str(parts.note)
    assert "30 training and 6 test examples, where 1,281,167 and 50,000" in str(parts.note)
    for part in load_all(parts).values():
        for batch in part:
            assert isinstance(batch.inputs, torch.Tensor)
            assert isinstance(batch.targets, torch.Tensor)
            assert batch.inputs.shape[1:] == (3, 28, 28)
            red = (batch.inputs[:, 0].mean((1, 2)) * 0.229 + 0.485) * 255
            torch.testing.assert_close(red, 40.0 * batch.targets, atol=2, rtol=0)


@pytest.mark.parametrize("folder", ["imagenet"], indirect=True)
@pytest.mark.usefixtures("folder")
def test_of_the_usual_size() -> None:
    inputs = IMAGENET.load(Request(train_examples=4, test_examples=1)).test[0].inputs
    assert isinstance(inputs, torch.Tensor)
    assert inputs.shape == (1, 3, 224, 224)


@pytest.mark.parametrize("folder", ["imagenet"], indirect=True)
@pytest.mark.usefixtures("folder")
def test_every_fifth_class() -> None:
    parts = IMAGENET_200.load(Request(image_size=28))
    assert parts.classes == 2
    assert "2 classes: every fifth class of ImageNet" in str(parts.note)
    assert [path.parent.name for path in map(parts.test.path, range(2))] == [WNIDS[0], WNIDS[5]]
    load_all(parts)


@pytest.mark.parametrize("folder", ["imagenet"], indirect=True)
def test_the_classes_of_tiny_imagenet(folder: Path) -> None:
    tiny = folder.parent / "tiny-imagenet-200"
    tiny.mkdir()
    (tiny / "wnids.txt").write_text(f"{WNIDS[4]}\n{WNIDS[1]}\n{WNIDS[2]}\n")
    parts = IMAGENET_200.load(Request(image_size=28))
    assert parts.classes == 3
    assert f"3 classes: the classes of Tiny ImageNet, {tiny / 'wnids.txt'}" in str(parts.note)
    assert [path.parent.name for path in map(parts.test.path, range(3))] == [WNIDS[1], WNIDS[2], WNIDS[4]]
    (tiny / "wnids.txt").write_text("n99999999\n")
    with pytest.raises(ExperimentError, match=r"cannot read .*train/n99999999"):
        IMAGENET_200.load(Request())


@pytest.mark.parametrize("folder", ["imagenet"], indirect=True)
def test_what_lies_beside_does_not_matter_and_is_noted(folder: Path) -> None:
    expected = IMAGENET.load(Request(image_size=28))
    for name in ("train/.ipynb_checkpoints/a.jpg", f"train/{WNIDS[0]}/.ipynb_checkpoints/a.jpg", "val/loose.jpg"):
        write_image(folder / name)
    write_image(folder / "val" / WNIDS[0] / "._a.jpg")
    (folder / "val" / WNIDS[0] / "list.txt").write_text("a")
    parts = IMAGENET.load(Request(image_size=28))
    for before, after in ((expected.train, parts.train), (expected.test, parts.test)):
        assert [*map(before.path, range(len(before)))] == [*map(after.path, range(len(after)))]
    left_out = "left out: hidden files or folders (3), .txt (1), files beside the folders of classes (1)"
    assert parts.note == f"{expected.note}; {left_out}"


@pytest.mark.parametrize("folder", ["imagenet"], indirect=True)
def test_images_of_other_formats_and_in_folders_are_read(folder: Path) -> None:
    for position, name in enumerate(("a.webp", "b.bmp", "c.tif", "d.gif", "e.PNG", "deep/f.jpeg")):
        write_image(folder / "val" / WNIDS[0] / name, (30, 60), value=40 * position)
    parts = IMAGENET.load(Request(image_size=28))
    assert len(parts.test) == 12
    assert parts.test.labels is not None
    assert parts.test.labels.tolist() == [0] * 7 + [1, 2, 3, 4, 5]
    load_all(parts)


@pytest.mark.parametrize("folder", ["imagenet"], indirect=True)
def test_damage_is_named(folder: Path) -> None:
    shutil.rmtree(folder / "val" / WNIDS[2])
    with pytest.raises(ExperimentError, match=f"of different classes: only one has {WNIDS[2]}"):
        IMAGENET.load(Request())
    (folder / "val" / WNIDS[2]).mkdir()
    with pytest.raises(ExperimentError, match=f"no images in {folder / 'val' / WNIDS[2]}"):
        IMAGENET.load(Request())
    shutil.rmtree(folder / "val")
    write_image(folder / "val" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(ExperimentError, match=f"no folders in {folder / 'val'}, where one for each class is expected"):
        IMAGENET.load(Request())


def test_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    for data_set in (IMAGENET, IMAGENET_200):
        with pytest.raises(Unavailable, match=rf"{tmp_path}/imagenet as train/<WordNet id>/\*\.JPEG and val/"):
            data_set.load(Request())
