"""Images cropped and mirrored at random."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional

from experiments.tests.data.image_parts import batches
from lerac_experiments.data.digits import DIGITS
from lerac_experiments.data.image_augmentation import (
    AugmentedImages,
    cut_and_mirrored,
    draws,
    shifted_and_mirrored,
)
from lerac_experiments.data.imagenet import IMAGENET
from lerac_experiments.data.images_in_memory import ImageData, Labelled, in_memory
from lerac_experiments.data.source import Request

BORDER = torch.tensor([-1.0, 2.0, 0.5]).view(1, 3, 1, 1)


def by_hand(image: Tensor, drawn: Tensor, margin: int) -> Tensor:
    """As `shifted_and_mirrored`, with torchvision and one image and channel at a time."""
    down, right, mirror = drawn.tolist()
    height, width = image.shape[-2:]
    channels = []
    for channel, border in zip(image, BORDER.flatten().tolist(), strict=True):
        padded = functional.pad(channel.unsqueeze(0), [margin], fill=border)
        cut = functional.crop(padded, int(down * (2 * margin + 1)), int(right * (2 * margin + 1)), height, width)
        channels.append(functional.hflip(cut) if mirror < 0.5 else cut)
    return torch.cat(channels)


@pytest.mark.parametrize(("side", "margin"), [(16, 2), (28, 4), (32, 4), (3, 0)])
def test_small_images_are_shifted_and_mirrored(side: int, margin: int) -> None:
    images, drawn = torch.rand(40, 3, side, side), torch.rand(40, 3)
    expected = torch.stack([by_hand(image, numbers, margin) for image, numbers in zip(images, drawn, strict=True)])
    assert torch.equal(shifted_and_mirrored(images, BORDER, drawn), expected)


def test_all_shifts_and_both_sides_are_drawn() -> None:
    image = torch.arange(1.0, 257.0).view(1, 1, 16, 16)
    changed = shifted_and_mirrored(image.expand(2000, -1, -1, -1), torch.zeros(1, 1, 1, 1), draws(0, 0, 2000))
    seen = {tuple(each.flatten().tolist()) for each in changed}
    assert len(seen) == 5 * 5 * 2
    assert tuple(image.flatten().tolist()) in seen


def test_an_example_gets_the_same_whatever_is_beside_it() -> None:
    images = AugmentedImages(torch.rand(50, 3, 8, 8), torch.zeros(50, dtype=torch.int64), BORDER, seed=3)
    images.epoch = 4
    whole = images.__getitems__(list(range(50))).inputs
    images.epoch = 5
    other = images.__getitems__(list(range(50))).inputs
    images.epoch = 4
    some = images.__getitems__([7, 3]).inputs
    assert isinstance(whole, Tensor)
    assert isinstance(other, Tensor)
    assert isinstance(some, Tensor)
    assert torch.equal(some, whole[[7, 3]])
    changed = (whole != other).flatten(1).any(1).double().mean()
    assert changed > 0.8  # of 18 ways, an image gets the same one again now and then


def inputs_of(part: object, epoch: int = 0) -> Tensor:
    part.epoch = epoch  # type: ignore[attr-defined]
    return torch.cat([batch.inputs for batch in batches(part)])  # type: ignore[arg-type, misc]


@pytest.fixture(params=["in memory", "in files"])
def data(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, Request]:
    if request.param == "in memory":
        return DIGITS, Request(train_examples=40, test_examples=9)
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path))
    for part, count in (("train", 10), ("val", 4)):
        for wnid in ("n01", "n02"):
            folder = tmp_path / "imagenet" / part / wnid
            folder.mkdir(parents=True)
            for number in range(count):
                noise(number).save(folder / f"{number}.png")
    return IMAGENET, Request(image_size=14)


def noise(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(256, size=(40, 50, 3), dtype=np.uint8))


def test_only_what_is_trained_with_is_changed_and_anew_in_each_epoch(data: tuple[object, Request]) -> None:
    kind, request = data
    plain, augmented, again, other = (
        kind.load(replaced)  # type: ignore[attr-defined]
        for replaced in (Request(**{**vars(request), "image_seed": seed}) for seed in (None, 1, 1, 2))
    )
    first = inputs_of(augmented.train)
    assert first.shape == inputs_of(plain.train).shape
    assert torch.equal(first, inputs_of(again.train))
    assert torch.equal(inputs_of(plain.train), inputs_of(plain.train, epoch=1))
    for different in (inputs_of(plain.train), inputs_of(other.train), inputs_of(again.train, epoch=1)):
        unchanged = (first == different).flatten(1).all(1).double().mean()
        assert unchanged < 0.3
    for part in ("validation", "test"):
        assert torch.equal(inputs_of(getattr(augmented, part)), inputs_of(getattr(plain, part)))


def test_black_comes_in_from_beyond_the_border() -> None:
    """As it is after the normalisation, by which these images are 1 and -1."""
    pixels = torch.tensor([100, 200], dtype=torch.uint8).repeat(50).view(100, 1, 1, 1).expand(-1, 1, 16, 16)
    images = Labelled(pixels, torch.zeros(100, dtype=torch.int64))
    augmented, plain = (
        in_memory(ImageData("the test", images, images), Request(image_seed=seed), 2) for seed in (1, None)
    )
    values = inputs_of(plain.train).unique()
    black = values[0] - (values[1] - values[0])
    torch.testing.assert_close(inputs_of(augmented.train).unique(), torch.cat([black.view(1), values]))


def test_photographs_are_cut_as_usual() -> None:
    """An image whose pixels say where they are: the parts cut out have the shares, the shapes and the sides of torch's
    RandomResizedCrop, and the generator of the process is left alone."""
    rows, columns = np.mgrid[0:200, 0:200].astype(np.uint8)
    image = Image.fromarray(np.stack([rows, columns, rows], 2))
    before = torch.get_rng_state()
    shares, ratios, mirrored = [], [], 0
    for number in range(400):
        cut = np.array(cut_and_mirrored(image, 50, (0, 0, number))).astype(float)
        height, width = np.ptp(cut[:, 25, 0]) * 50 / 49, np.ptp(cut[25, :, 1]) * 50 / 49
        shares.append(height * width / 200**2)
        ratios.append(width / height)
        mirrored += cut[25, 0, 1] > cut[25, -1, 1]
    assert torch.equal(before, torch.get_rng_state())
    assert min(shares) == pytest.approx(0.08, abs=0.02)
    assert np.mean(shares) == pytest.approx(0.48, abs=0.04)
    assert 0.7 < min(ratios) < 0.8
    assert 1.25 < max(ratios) < 1.4
    assert 160 < mirrored < 240
