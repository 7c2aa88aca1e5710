"""WebVision, from a small folder like it."""

from pathlib import Path

import pytest

from experiments.tests.data.image_parts import load_all, write_image
from lerac_experiments.data.source import Request
from lerac_experiments.data.webvision import WEBVISION
from lerac_experiments.errors import ExperimentError, Unavailable


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    write_webvision(tmp_path / "webvision")
    return tmp_path / "webvision"


def write_webvision(folder: Path) -> None:
    """Ten images of each search engine for three classes, and six to test with."""
    (folder / "info").mkdir(parents=True)
    (folder / "info" / "synsets.txt").write_text(
        "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 great white shark\n"
    )
    for engine in ("google", "flickr"):
        lines = []
        for number in range(10):
            label = number % 3
            name = f"{engine}/q{label:04}/{engine[0]} {number}.jpg"
            write_image(folder / name, (40, 30), value=80 * label)
            lines.append(f"{name} {label}")
        (folder / "info" / f"train_filelist_{engine}.txt").write_text("\n".join(lines) + "\n")
    lines = [f"val{number:06}.jpg {number % 3}" for number in range(6)]
    (folder / "info" / "val_filelist.txt").write_text("\r\n".join(lines))
    for number in range(6):
        write_image(folder / "val_images_256" / f"val{number:06}.jpg", value=80 * (number % 3))


def test_webvision(folder: Path) -> None:
    parts = WEBVISION.load(Request(image_size=16))
    assert (parts.task, parts.classes, parts.source) == ("classification", 3, str(folder))
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (18, 2, 6)
    assert parts.class_names == ("tench", "goldfish", "great white shark")
    assert "20 training and 6 test examples, where 2,439,574 and 50,000 were published" in str(parts.note)
    for part in load_all(parts).values():
        for batch in part:
            shades = (batch.inputs[:, 0].mean((1, 2)) * 0.229 + 0.485) * 255
            assert (shades / 80).round().long().tolist() == batch.targets.tolist()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("train_filelist_google.txt", "google/q0000/none.jpg 0", r"google/q0000/none\.jpg is missing"),
        ("train_filelist_google.txt", "google/q0000/g 0.jpg 3", "line 1 is 'google/q0000/g 0.jpg 3'"),
        ("train_filelist_google.txt", "google/q0000/g 0.jpg", "line 1 is 'google/q0000/g 0.jpg'"),
        ("train_filelist_google.txt", "google/q0000/g 0.jpg 0\ngoogle/q0000/g 0.jpg 1", "name an image twice"),
        ("train_filelist_flickr.txt", "", r"train_filelist_flickr\.txt is empty"),
        ("val_filelist.txt", "val000009.jpg 0", r"val_images_256/val000009\.jpg is missing"),
    ],
)
def test_damaged_lists_are_named(folder: Path, file: str, content: str, message: str) -> None:
    (folder / "info" / file).write_text(content)
    with pytest.raises(ExperimentError, match=message):
        WEBVISION.load(Request())


def test_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    with pytest.raises(Unavailable, match="the folders info, google, flickr and val_images_256"):
        WEBVISION.load(Request())
