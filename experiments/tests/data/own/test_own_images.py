"""`images:`: folders of images as people have them."""

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.tests.data.image_parts import load_all
from experiments.tests.data.loading import write_zip
from experiments.tests.data.own.helpers import REQUEST, counts, faulty, image, load, refused, write
from lerac_experiments.data.media import READ_ALREADY
from lerac_experiments.data.registry import find_data
from lerac_experiments.data.source import Request

CLASSES = ("cat", "dog")


def folder_of(folder: Path, each: int = 6, within: str = "") -> Path:
    """So many images of each class, of different shades."""
    shades = {name: 10 * at + len(within) for at, name in enumerate(CLASSES)}
    files = {f"{within}{name}/{i}.png": image(20 * i + shades[name]) for name in CLASSES for i in range(each)}
    return write(folder, {**files})


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    parts = load(f"images:{folder_of(tmp_path / 'photos', 10)}")
    assert (parts.task, parts.classes, parts.class_names) == ("classification", 2, CLASSES)
    assert counts(parts) == (14, 2, 4)
    assert "20% of the examples" in (parts.note or "")
    for batches in load_all(parts).values():
        assert all(batch.inputs.shape[1:] == (3, 8, 8) for batch in batches)  # type: ignore[union-attr]


def test_folders_of_parts(tmp_path: Path) -> None:
    for part, each in (("Train", 5), ("val", 2), ("testing", 3)):
        folder_of(tmp_path, each, f"{part}/")
    parts = load(f"images:{tmp_path}")
    assert counts(parts) == (10, 4, 6)
    assert parts.note is None
    assert {parts.test.path(at).parts[-3] for at in range(6)} == {"testing"}  # type: ignore[attr-defined]


def test_every_kind_of_image(tmp_path: Path) -> None:
    deep = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    sixteen = io.BytesIO()
    Image.fromarray(deep).save(sixteen, "PNG")
    kinds = {
        "a.jpg": image(form="JPEG"),
        "grey.jpeg": image(form="JPEG", mode="L"),
        "cmyk.JPG": image(form="JPEG", mode="CMYK"),
        "palette.png": image(mode="P"),
        "alpha.png": image(mode="RGBA"),
        "one bit.png": image(mode="1"),
        "sixteen.png": sixteen.getvalue(),
        "b.webp": image(form="WEBP"),
        "c.bmp": image(form="BMP"),
        "d.tiff": image(form="TIFF"),
        "e.gif": image(form="GIF", mode="P"),
        "long.png": image(size=(300, 8)),
    }
    write(tmp_path, {f"{name}/{file}": content for name in CLASSES for file, content in kinds.items()})
    parts = load(f"images:{tmp_path},size=16")
    assert sum(counts(parts)) == 2 * len(kinds)
    for batches in load_all(parts).values():
        for batch in batches:
            assert batch.inputs.shape[1:] == (3, 16, 16)  # type: ignore[union-attr]
            assert batch.inputs.isfinite().all()  # type: ignore[union-attr]


def test_images_are_turned_as_viewers_show_them(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[0] = 255  # the first row, which is to be the last column
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", exif=exif)
    write(tmp_path, {f"{name}/{i}.png": file.getvalue() for name in CLASSES for i in range(5)})
    inputs = load(f"images:{tmp_path}").train.__getitems__([0]).inputs[0, 0]  # type: ignore[index, call-overload]
    assert (inputs[:, 7] > 2).all()
    assert (inputs[:, :7] < -2).all()


def test_the_squares_kept_in_memory_are_those_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    for name in CLASSES:
        for i in range(5):
            write(tmp_path, {f"{name}/{i}.png": b""})
            Image.fromarray(generator.integers(0, 256, (20, 33, 3), np.uint8)).save(tmp_path / name / f"{i}.png")
    kept = load(f"images:{tmp_path},size=12")
    monkeypatch.setattr("lerac_experiments.data.own.images.KEPT_BYTES", 0)
    read = load(f"images:{tmp_path},size=12,skip-damaged")
    for one, other in zip(load_all(kept).values(), load_all(read).values(), strict=True):
        assert all(torch.equal(a.inputs, b.inputs) for a, b in zip(one, other, strict=True))  # type: ignore[arg-type]
    augmented = load(f"images:{tmp_path},size=12", Request(image_seed=1)).train
    assert not torch.equal(augmented.__getitems__([0]).inputs, kept.train.__getitems__([0]).inputs)  # type: ignore[arg-type]


def test_damaged_images_are_named_and_counted(tmp_path: Path) -> None:
    folder_of(tmp_path)
    write(tmp_path, {"cat/cut.png": image(size=(64, 64))[:60], "dog/empty.jpg": b"", "dog/text.png": "no image"})
    parts = faulty(f"images:{tmp_path}", "damaged images")
    assert sum(counts(parts)) == 12
    assert "left out by skip-damaged: damaged images (3)" in (parts.note or "")
    assert all(any(name in message for message in parts.left_out) for name in ("cut.png", "empty.jpg", "text.png"))


def test_a_class_without_images_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path)
    (tmp_path / "horse").mkdir()
    write(tmp_path, {"notes/a.txt": "not an image"})
    parts = faulty(f"images:{tmp_path}", "classes without images")
    assert parts.class_names == CLASSES


def test_what_is_no_example_is_counted(tmp_path: Path) -> None:
    folder_of(tmp_path / "set")
    write(tmp_path, {"other/x.png": image(), "set/.DS_Store": "", "set/cat/._1.png": "", "set/cat/Thumbs.db": ""})
    write(tmp_path, {"set/loose.png": image(), "set/.git/cat/a.png": image()})
    (tmp_path / "set/cat/out.png").symlink_to(tmp_path / "other/x.png")
    (tmp_path / "set/dog/in.png").symlink_to(tmp_path / "set/cat/1.png")
    (tmp_path / "set/dog/broken.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "set/dog/itself.png").symlink_to("itself.png")
    (tmp_path / "set/linked").symlink_to(tmp_path / "other")
    (tmp_path / "set/dog/round").symlink_to(tmp_path / "set")
    parts = load(f"images:{tmp_path}/set")
    assert sum(counts(parts)) == 13
    assert dict(parts.left_out) == {
        ".DS_Store": "hidden files or folders",
        ".git": "hidden files or folders",
        "cat/._1.png": "hidden files or folders",
        "cat/Thumbs.db": ".db",
        "cat/out.png": "links out of the folder",
        "dog/broken.png": "broken links or no files",
        "dog/itself.png": "broken links or no files",
        "dog/round": READ_ALREADY,
        "linked": "links out of the folder",
        "loose.png": "files in no folder of a class",
    }
    assert "links out of the folder (2)" in (parts.note or "")
    followed = load(f"images:{tmp_path}/set,follow-links")
    assert followed.class_names == ("cat", "dog", "linked")


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    """Also those of two folders into each other, and into folders above."""
    folder_of(tmp_path / "set")
    folder_of(tmp_path / "other")
    links = {
        "set/cat/to dog": "set/dog",
        "set/dog/to cat": "set/cat",
        "set/horse": "other/cat",
        "other/cat/up": "other",
    }
    for link, target in links.items():
        (tmp_path / link).symlink_to(tmp_path / target)
    assert sum(counts(load(f"images:{tmp_path}/set"))) == 12
    parts = load(f"images:{tmp_path}/set,follow-links")
    assert parts.class_names == ("cat", "dog", "horse")
    assert sum(counts(parts)) == 12 + 12, "each once"
    assert {name for name, reason in parts.left_out.items() if reason == READ_ALREADY} >= {"cat/to dog", "dog/to cat"}


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_an_archive_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path / "cache"))
    folder = folder_of(tmp_path / "photos", 5)
    archive = tmp_path / f"photos.{form}"
    if form == "zip":
        write_zip(
            archive, {f"all/photos/{file.relative_to(folder)}": file.read_bytes() for file in folder.rglob("*.png")}
        )
    else:
        with tarfile.open(archive, "w:gz" if form == "tar.gz" else "w") as tar:
            tar.add(folder, "photos")
    for _ in range(2):
        parts = load(f"images:{archive}")
        assert (sum(counts(parts)), parts.class_names) == (10, CLASSES)
    assert len([*(tmp_path / "cache/unpacked").iterdir()]) == 1


@pytest.mark.parametrize("name", ["../out.png", "/tmp/out.png", "cat/../../out.png"])
def test_archives_that_climb_out_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path / "cache"))
    write_zip(tmp_path / "a.zip", {"cat/1.png": image(), name: image()})
    refused(f"images:{tmp_path}/a.zip", "would lie outside the folder")
    assert not [*(tmp_path / "cache").rglob("*.png")]


def test_damaged_and_empty_places_are_refused(tmp_path: Path) -> None:
    refused(f"images:{tmp_path}/nowhere", f"there is no {tmp_path}/nowhere")
    (tmp_path / "empty").mkdir()
    refused(f"images:{tmp_path}/empty", "there are no images in")
    write(tmp_path, {"loose/1.png": image(), "file.png": image(), "cut.zip": "PK\3\4"})
    refused(f"images:{tmp_path}/loose", "there are no images in")
    refused(f"images:{tmp_path}/file.png", "neither a folder nor an archive")
    refused(f"images:{tmp_path}/cut.zip", "cannot read")
    write(tmp_path, {f"one/cat/{i}.png": image() for i in range(9)})
    refused(f"images:{tmp_path}/one", "all examples are of one class, 'cat'")
    folder_of(tmp_path / "mixed", 5, "train/")
    folder_of(tmp_path / "mixed", 5)
    refused(f"images:{tmp_path}/mixed", "folders of parts, and beside them cat, dog")
    write(tmp_path, {f"bad/{name}/1.png": "" for name in CLASSES})
    refused(f"images:{tmp_path}/bad,skip-damaged", "none of 2 images can be read")
    folder_of(tmp_path / "new", 5, "train/")
    write(tmp_path, {"new/test/horse/1.png": image(), "new/test/cat/1.png": image()})
    refused(f"images:{tmp_path}/new", "of the class 'horse' there are examples to validate or to test with")


def test_a_folder_above_the_one_that_is_meant_is_told(tmp_path: Path) -> None:
    folder_of(tmp_path / "above/photos")
    message = "has one folder, photos, with cat, dog in it: if these are the classes, or the parts, give "
    refused(f"images:{tmp_path}/above", f"{message}{tmp_path}/above/photos")


def test_examples_that_are_tested_and_trained_with_are_counted(tmp_path: Path) -> None:
    folder_of(tmp_path, 5, "train/")
    write(tmp_path, {"test/cat/new.png": image(255), "test/dog/old.png": (tmp_path / "train/dog/1.png").read_bytes()})
    # Validation is of the training part, so that the old one may not be trained with.
    found = [load(f"images:{tmp_path}").note, load(f"images:{tmp_path}", Request(split_seed=1)).note]
    assert "1 of 2 test examples are the same as some that are trained with" in found


def test_what_is_mended_is_read_again(tmp_path: Path) -> None:
    """In one process, as in a notebook."""
    folder_of(tmp_path)
    (tmp_path / "horse").mkdir()
    refused(f"images:{tmp_path}", "classes without images (1)")
    (tmp_path / "horse").rmdir()
    assert load(f"images:{tmp_path}").class_names == CLASSES
    (tmp_path / "cat/1.png").write_bytes(b"damaged")
    refused(f"images:{tmp_path}", "damaged images (1)")


def test_a_list_of_images(tmp_path: Path) -> None:
    folder_of(tmp_path, 5)
    rows = "".join(f"{name}/{i}.png,{name},{'test' if i == 0 else 'train'}\n" for name in CLASSES for i in range(5))
    write(tmp_path, {"list.csv": "file,label,split\n" + rows})
    assert counts(load(f"images:{tmp_path}/list.csv")) == (7, 1, 2)
    good = rows.replace(",train", "").replace(",test", "")
    write(tmp_path, {"bad.csv": f"file,label\n{good}cat/1.png,dog\nx.png,cat\ncat/2.png,\n"})
    faulty(
        f"images:{tmp_path}/bad.csv",
        "files that are listed twice",
        "files that are missing",
        "lines without a file or a label",
    )


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    folder_of(tmp_path / "a")
    folder_of(tmp_path / "b")

    def of(name: str) -> str:
        fingerprint = find_data(f"images:{tmp_path}/{name}").fingerprint
        assert fingerprint is not None
        return fingerprint()

    before = of("a")
    assert before == of("b"), "it does not depend on where the folder is"
    write(tmp_path, {"a/.DS_Store": "x", "a/notes.txt": "x"})
    assert of("a") == before, "nor on what is not read"
    first = tmp_path / "a/cat/1.png"
    content, times = first.read_bytes(), first.stat()
    first.write_bytes(content[:-1] + b"x")
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns + 1_000_000))
    changed = of("a")
    assert changed != before
    first.rename(first.with_name("other.png"))
    assert of("a") not in (before, changed)


def test_relative_places_are_looked_for_here_and_among_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder_of(tmp_path / "data/photos")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path / "data"))
    parts = load("images:photos", REQUEST)
    assert parts.source == "photos", "the same on every machine"
    folder_of(tmp_path / "here/photos", 7)
    assert sum(counts(load("images:photos", REQUEST))) == 14
