"""UTKFace, from a small folder like it."""

from pathlib import Path

import pytest
import torch

from experiments.tests.data.image_parts import load_all, write_image
from lerac_experiments.data.source import Request
from lerac_experiments.data.utkface import UTKFACE
from lerac_experiments.errors import ExperimentError, Unavailable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    folder = tmp_path / "UTKFace"
    write_utkface(folder)
    return folder


def write_utkface(folder: Path) -> None:
    """Fifty faces, whose shade is twice their age."""
    for number in range(50):
        age = 1 + 2 * number
        race = "" if number == 7 else "3_"  # which some of the originals lack
        write_image(folder / f"{age}_{number % 2}_{race}2017010{number:010}.jpg.chip.jpg", (200, 200), value=2 * age)
    (folder / ".DS_Store").write_text("no image")


def test_utkface(folder: Path) -> None:
    parts = UTKFACE.load(Request())
    assert (parts.task, parts.classes, parts.source) == ("regression", 1, str(folder))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (36, 4, 10)
    assert "no official split" in str(parts.note)
    assert parts.train.labels is None
    ages = []
    for part in load_all(parts).values():
        for batch in part:
            assert isinstance(batch.inputs, torch.Tensor)
            assert isinstance(batch.targets, torch.Tensor)
            assert batch.inputs.shape[1:] == (3, 64, 64)
            assert batch.targets.dtype == torch.float32
            red = (batch.inputs[:, 0].mean((1, 2)) * 0.229 + 0.485) * 255
            torch.testing.assert_close(red, 2 * batch.targets, atol=2, rtol=0)
            ages += batch.targets.tolist()
    assert sorted(ages) == [float(1 + 2 * number) for number in range(50)]


@pytest.mark.usefixtures("folder")
def test_the_test_part_does_not_depend_on_the_seed() -> None:
    first, other = (UTKFACE.load(Request(split_seed=seed, image_size=16)) for seed in (0, 1))
    assert torch.equal(first.test.values, other.test.values)
    assert not torch.equal(first.train.values, other.train.values)
    assert first.train[0].inputs.shape == (1, 3, 16, 16)


def test_a_strange_name_is_named(folder: Path) -> None:
    write_image(folder / "holiday.jpg")
    with pytest.raises(ExperimentError, match=rf"{folder}/holiday\.jpg is not named as the faces of UTKFace"):
        UTKFACE.load(Request())


def test_what_is_left_out_is_noted(folder: Path) -> None:
    assert "left out: hidden files or folders (1)" in str(UTKFACE.load(Request()).note)
    write_image(folder / "._1_0_3_20170100000000000.jpg.chip.jpg")
    write_image(folder / "part2" / "7_0_3_20170100000000099.jpg.chip.JPG")
    (folder / "landmarks.txt").write_text("1 2")
    parts = UTKFACE.load(Request())
    assert len(parts.train) + len(parts.validation) + len(parts.test) == 51
    assert str(parts.note).endswith("; left out: hidden files or folders (2), .txt (1)")


def test_a_face_twice_is_named(folder: Path) -> None:
    name = "1_0_3_20170100000000000.jpg.chip.jpg"
    write_image(folder / "crop" / name)
    with pytest.raises(ExperimentError, match=rf"{folder} holds a face twice, as {name} and as crop/{name}"):
        UTKFACE.load(Request())


def test_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match=rf"{tmp_path}/UTKFace, named as there: age_gender_race_date\.jpg"):
        UTKFACE.load(Request())
