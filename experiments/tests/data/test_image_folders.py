"""Images in files."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.tests.data.image_parts import batches, cut, write_image
from lerac_experiments.data.image_folders import Framing, ImageFiles, list_classes, list_images
from lerac_experiments.data.media import IMAGES, decode_image, image_tensor, list_media
from lerac_experiments.errors import ExperimentError

MEAN = torch.tensor([0.485, 0.456, 0.406])
DEVIATION = torch.tensor([0.229, 0.224, 0.225])


def test_lists(tmp_path: Path) -> None:
    for name in ("b/in/2.JPEG", "b/in/1.jpg", "a/in/3.png"):
        write_image(tmp_path / name)
    (tmp_path / "b" / "in" / "boxes.txt").write_text("no image")
    assert list_classes(tmp_path).names == ["a", "b"]
    images, labels = list_images(tmp_path, ["b", "a"], within="in")
    assert images.names == ["b/in/1.jpg", "b/in/2.JPEG", "a/in/3.png"]
    assert images.left_out == {"b/in/boxes.txt": ".txt"}
    assert labels.tolist() == [0, 0, 1]
    (tmp_path / "c").mkdir()
    with pytest.raises(ExperimentError, match=rf"no images in {tmp_path}/c"):
        list_images(tmp_path, ["a", "c"])
    with pytest.raises(ExperimentError, match=r"no folders in .*in, where"):
        list_classes(tmp_path / "a" / "in")
    with pytest.raises(ExperimentError, match=r"cannot read .*missing"):
        list_media(tmp_path / "missing", IMAGES)
    with pytest.raises(ExperimentError, match=r"cannot read .*missing"):
        list_classes(tmp_path / "missing")


def test_classes_are_no_hidden_folders(tmp_path: Path) -> None:
    for name in ("b/1.jpg", "a/2.webp", ".ipynb_checkpoints/1.jpg", "loose.jpg"):
        write_image(tmp_path / name)
    classes = list_classes(tmp_path)
    assert classes.names == ["a", "b"]
    assert classes.left_out == {
        ".ipynb_checkpoints": "hidden files or folders",
        "loose.jpg": "files beside the folders of classes",
    }


def test_several_damaged_images_are_counted(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(5)]
    for name in names:
        write_image(tmp_path / name)
    images = ImageFiles(tmp_path, names, torch.arange(5), Framing.whole(8))
    cut(tmp_path / "1.jpg")
    (tmp_path / "3.jpg").unlink()
    with pytest.raises(ExperimentError, match=rf"^{tmp_path}/1\.jpg is damaged.*; of 5 files 2 cannot be read$"):
        images.__getitems__([*range(5)])


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA"])
def test_every_kind_of_image_becomes_a_square_in_rgb(tmp_path: Path, mode: str) -> None:
    name = "image.png" if mode in ("P", "RGBA") else "image.jpg"
    write_image(tmp_path / name, (50, 30), value=51, mode=mode)
    images = ImageFiles(tmp_path, [name], torch.tensor([3]), Framing.usual(14))
    batch = images[0]
    assert isinstance(batch.inputs, torch.Tensor)
    assert batch.inputs.shape == (1, 3, 14, 14)
    expected = ((0.2 - MEAN) / DEVIATION).view(1, 3, 1, 1).expand(1, 3, 14, 14)
    torch.testing.assert_close(batch.inputs, expected, atol=0.02, rtol=0)
    assert (batch.targets.tolist(), batch.indices.tolist()) == ([3], [0])


def test_the_centre_is_what_is_kept(tmp_path: Path) -> None:
    pixels = np.zeros((20, 60, 3), np.uint8)
    pixels[:, 20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "image.png")
    images = ImageFiles(tmp_path, ["image.png"], torch.tensor([0]), Framing.whole(20))
    inputs = images[0].inputs
    assert isinstance(inputs, torch.Tensor)
    torch.testing.assert_close(inputs, ((1 - MEAN) / DEVIATION).view(1, 3, 1, 1).expand(1, 3, 20, 20))


def test_framing() -> None:
    assert Framing.usual(224) == Framing(224, 256)
    assert Framing.usual(112) == Framing(112, 128)
    assert Framing.whole(64) == Framing(64, 64)


def test_values_and_chosen_images(tmp_path: Path) -> None:
    for number in range(4):
        write_image(tmp_path / f"{number}.jpg")
    ages = ImageFiles(tmp_path, [f"{number}.jpg" for number in range(4)], torch.arange(4) / 2, Framing.whole(8))
    chosen = ages.take(torch.tensor([3, 1]))
    assert chosen.labels is None
    assert [chosen.path(index).name for index in range(2)] == ["3.jpg", "1.jpg"]
    assert chosen[0].targets.tolist() == [1.5]


def test_other_labels_can_be_put_in_place(tmp_path: Path) -> None:
    write_image(tmp_path / "image.jpg")
    images = ImageFiles(tmp_path, ["image.jpg"] * 2, torch.tensor([0, 1]), Framing.whole(8))
    images.labels = torch.tensor([5, 6])
    assert images.__getitems__([1, 0]).targets.tolist() == [6, 5]


def test_worker_processes(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xc3\xa9\xff.jpg")  # names are bytes, and need be no text
    write_image(tmp_path / name)
    images = ImageFiles(tmp_path, [name] * 3, torch.arange(3), Framing.whole(8))
    loaded = batches(images, size=2, workers=1)
    assert [batch.indices.tolist() for batch in loaded] == [[0, 1], [2]]


def test_damaged_images_are_named(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    images = ImageFiles(tmp_path, ["image.jpg"], torch.tensor([0]), Framing.whole(8))
    with pytest.raises(ExperimentError, match=f"cannot read {path}"):
        images[0]
    write_image(path)
    cut(path, 0.8)
    with pytest.raises(ExperimentError, match=f"{path} is damaged, or no image"):
        images[0]
    path.write_text("no image")
    with pytest.raises(ExperimentError, match=f"{path} is damaged, or no image"):
        images[0]


def test_a_damaged_png_is_named(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(path)
    content = path.read_bytes()
    for damaged in (content[:2000], content[:60] + b"xxxx" + content[64:], content[:20] + b"\xff\xff" + content[22:]):
        with pytest.raises(ExperimentError, match="is damaged, or no image"):
            decode_image(damaged, path)


def test_image_tensor() -> None:
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    image = image_tensor(Image.fromarray(pixels))
    assert image.shape == (3, 2, 4)
    torch.testing.assert_close(image[1] * 255, torch.from_numpy(pixels[:, :, 1]).float())
