"""Tiny ImageNet, from a small tree like it."""

import zipfile
from pathlib import Path

import pytest
import torch

from experiments.tests.data.image_parts import cut, load_all, write_image
from lerac_experiments.data import tiny_imagenet
from lerac_experiments.data.source import Request
from lerac_experiments.data.tiny_imagenet import TINY_IMAGENET
from lerac_experiments.errors import ExperimentError

WNIDS = ["n03444034", "n01443537", "n04067472"]  # not sorted, as in the original


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten images to train with and two to validate with for each class."""
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    folder = tmp_path / "tiny-imagenet-200"
    write_tiny_imagenet(folder)
    return folder


def write_tiny_imagenet(folder: Path) -> None:
    lines = []
    for position, wnid in enumerate(WNIDS):
        for number in range(10):
            write_image(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", value=80 * position)
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t62\n")
        for number in (position, position + 3):
            mode = "L" if number == 4 else "RGB"  # some of the originals are grey
            write_image(folder / "val" / "images" / f"val_{number}.JPEG", value=80 * position, mode=mode)
            lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(WNIDS))


def test_tiny_imagenet(folder: Path) -> None:
    parts = TINY_IMAGENET.load(Request())
    assert (parts.task, parts.classes, parts.source) == ("classification", 3, str(folder))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (27, 3, 6)
    assert "official validation part" in str(parts.note)
    assert "30 training and 6 test examples, where 100,000 and 10,000" in str(parts.note)
    # The shade of an image tells its class. Classes are numbered in the order of their ids.
    shades = {0: 80, 1: 0, 2: 160}
    for part in load_all(parts).values():
        for batch in part:
            assert isinstance(batch.inputs, torch.Tensor)
            assert isinstance(batch.targets, torch.Tensor)
            assert batch.inputs.shape[1:] == (3, 64, 64)
            red = (batch.inputs[:, 0].mean((1, 2)) * 0.229 + 0.485) * 255
            expected = torch.tensor([float(shades[label]) for label in batch.targets.tolist()])
            torch.testing.assert_close(red, expected, atol=2, rtol=0)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_that_were_saved_on_windows(folder: Path, encoding: str, end: str) -> None:
    expected = TINY_IMAGENET.load(Request())
    for name in ("wnids.txt", "val/val_annotations.txt"):
        (folder / name).write_bytes((folder / name).read_text().replace("\n", end).encode(encoding))
    parts = TINY_IMAGENET.load(Request())
    for before, after in ((expected.train, parts.train), (expected.test, parts.test)):
        assert [*map(before.path, range(len(before)))] == [*map(after.path, range(len(after)))]
        assert torch.equal(before.labels, after.labels)


def test_unpacked_from_its_archive(folder: Path) -> None:
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder.parent))
    folder.rename(folder.parent / "elsewhere")
    assert len(TINY_IMAGENET.load(Request()).train) == 27
    assert sorted(path.name for path in folder.parent.iterdir()) == [
        "elsewhere",
        "tiny-imagenet-200",
        "tiny-imagenet-200.zip",
    ]


def test_an_archive_cut_off_leaves_nothing(folder: Path) -> None:
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as file:
        file.write(folder / "wnids.txt", "tiny-imagenet-200/wnids.txt")
    cut(archive)
    folder.rename(folder.parent / "elsewhere")
    with pytest.raises(ExperimentError, match=f"cannot read {archive}"):
        TINY_IMAGENET.load(Request())
    assert sorted(path.name for path in folder.parent.iterdir()) == ["elsewhere", "tiny-imagenet-200.zip"]


def test_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))

    def retrieve(url: str, checksum: str, fname: str, path: Path, **_: object) -> str:
        assert url == "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
        assert checksum == f"md5:{tiny_imagenet._MD5}"
        write_tiny_imagenet(tmp_path / "server")
        with zipfile.ZipFile(path / fname, "w") as archive:
            for file in (tmp_path / "server").rglob("*"):
                archive.write(file, Path("tiny-imagenet-200") / file.relative_to(tmp_path / "server"))
        return str(path / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert len(TINY_IMAGENET.load(Request()).test) == 6


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("wnids.txt", None, "cannot read"),
        ("val/val_annotations.txt", "val_0.JPEG\tn01443537\n" * 2, "names an image twice"),
        ("wnids.txt", "", "names no class"),
        ("wnids.txt", "n01443537\nn01443537\n", "one of them twice"),
        ("wnids.txt", "n01443537\nn99999999\n", r"cannot read .*train/n99999999/images"),
        ("wnids.txt", "n01443537\n", r"val_annotations\.txt is damaged.*'n03444034' not in wnids"),
        ("val/val_annotations.txt", None, "cannot read"),
        ("val/val_annotations.txt", "val_0.JPEG\n", r"is damaged.*class '' not in wnids\.txt"),
        ("val/val_annotations.txt", "val_9.JPEG\tn01443537\n", r"'val_9\.JPEG' is not in .*val/images"),
        ("val/images/val_0.JPEG", None, r"'val_0\.JPEG' is not in .*val/images"),
    ],
)
def test_damage_is_named(folder: Path, file: str, content: str | None, message: str) -> None:
    (folder / file).unlink() if content is None else (folder / file).write_text(content)
    with pytest.raises(ExperimentError, match=message) as caught:
        TINY_IMAGENET.load(Request())
    assert str(folder) in str(caught.value)
