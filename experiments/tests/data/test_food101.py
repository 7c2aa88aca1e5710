"""Food-101, from a small tree like it."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.tests.data.image_parts import load_all, write_image
from lerac_experiments.data.food101 import FOOD_101
from lerac_experiments.data.source import Request
from lerac_experiments.errors import ExperimentError, Unavailable

CLASSES = ("apple_pie", "baby_back_ribs")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    folder = tmp_path / "food-101"
    write_food101(folder)
    return folder


def write_food101(folder: Path) -> None:
    """For each class, ten images to train with and two to test with."""
    for position, name in enumerate(CLASSES):
        for number in range(12):
            write_image(folder / "images" / name / f"{number}.jpg", (50, 40), value=100 + 100 * position)
    (folder / "meta").mkdir()
    for part, numbers in (("train", range(10)), ("test", range(10, 12))):
        listed = {name: [f"{name}/{number}" for number in numbers] for name in CLASSES}
        (folder / "meta" / f"{part}.json").write_text(json.dumps(listed))


def test_food101(folder: Path) -> None:
    parts = FOOD_101.load(Request(image_size=28))
    assert (parts.task, parts.classes, parts.source) == ("classification", 2, str(folder))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (18, 2, 4)
    assert parts.note == "20 training and 4 test examples, where 75,750 and 25,250 were published"
    for part in load_all(parts).values():
        for batch in part:
            assert isinstance(batch.inputs, torch.Tensor)
            assert isinstance(batch.targets, torch.Tensor)
            assert batch.inputs.shape[1:] == (3, 28, 28)
            red = (batch.inputs[:, 0].mean((1, 2)) * 0.229 + 0.485) * 255
            torch.testing.assert_close(red, 100.0 + 100 * batch.targets, atol=2, rtol=0)


def test_unpacked_from_its_archive(folder: Path) -> None:
    with tarfile.open(folder.parent / "food-101.tar.gz", "w:gz") as archive:
        archive.add(folder, "food-101")
    folder.rename(folder.parent / "elsewhere")
    inputs = FOOD_101.load(Request()).test[0].inputs
    assert isinstance(inputs, torch.Tensor)
    assert inputs.shape == (1, 3, 224, 224)


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    monkeypatch.setattr("pooch.retrieve", no_network)
    with pytest.raises(Unavailable, match=r"no food-101\.tar\.gz in .*no route to host"):
        FOOD_101.load(Request())


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("{", r"meta/train\.json is damaged"),
        ([1], r"meta/train\.json is damaged"),
        ({"apple_pie": 1}, r"meta/train\.json is damaged"),
        ({"apple_pie": ["apple_pie/1"]}, r"train\.json and test\.json are not of the same classes"),
        ({"apple_pie": ["apple_pie/99"], "baby_back_ribs": []}, r"apple_pie/99\.jpg is missing, which meta/train"),
        (
            {"apple_pie": ["apple_pie/1"] * 2, "baby_back_ribs": []},
            r"train\.json and test\.json name apple_pie/1 twice",
        ),
        ({"apple_pie": ["apple_pie/11"], "baby_back_ribs": []}, r"train\.json and test\.json name apple_pie/11 twice"),
        ("[" * 200_000, r"meta/train\.json is damaged"),
    ],
    ids=["no JSON", "list", "number", "classes", "missing image", "twice", "in both parts", "brackets"],
)
def test_damage_is_named(folder: Path, listed: Any, message: str) -> None:
    (folder / "meta" / "train.json").write_text(listed if isinstance(listed, str) else json.dumps(listed))
    with pytest.raises(ExperimentError, match=message) as caught:
        FOOD_101.load(Request())
    assert str(folder) in str(caught.value)
