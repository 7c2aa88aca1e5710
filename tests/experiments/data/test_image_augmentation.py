"""Images cropped and mirrored at random."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional

from lerac_fast.experiments.data.image_augmentation import (
    CROP_COLUMNS,
    AugmentedImages,
    Crop,
    Draws,
    shifted_and_mirrored,
)
from lerac_fast.experiments.data.image_folders import Framing, ImageFiles
from lerac_fast.experiments.data.images_in_memory import DIGITS
from lerac_fast.experiments.data.source import Request
from tests.experiments.data.image_parts import write_image


def by_hand(image: Tensor, drawn: Tensor, margin: int) -> Tensor:
    """As `shifted_and_mirrored`, with torchvision and one image at a time."""
    down, right, mirror = drawn.tolist()
    padded = functional.pad(image, [margin])
    height, width = image.shape[-2:]
    cut = functional.crop(padded, int(down * (2 * margin + 1)), int(right * (2 * margin + 1)), height, width)
    return functional.hflip(cut) if mirror < 0.5 else cut


def test_small_images_are_shifted_and_mirrored() -> None:
    images, drawn = torch.rand(40, 3, 16, 16), torch.rand(40, 3)
    expected = torch.stack([by_hand(image, numbers, 2) for image, numbers in zip(images, drawn, strict=True)])
    assert torch.equal(shifted_and_mirrored(images, drawn), expected)


def test_all_shifts_and_both_sides_are_drawn() -> None:
    image = torch.arange(1.0, 257.0).view(1, 1, 16, 16)
    seen = {
        tuple(changed.flatten().tolist())
        for changed in shifted_and_mirrored(image.expand(2000, -1, -1, -1), Draws(0, 2000, 3).of(0, list(range(2000))))
    }
    assert len(seen) == 5 * 5 * 2
    assert tuple(image.flatten().tolist()) in seen


def test_an_example_gets_the_same_whatever_is_beside_it() -> None:
    images = AugmentedImages(torch.rand(50, 1, 8, 8), torch.zeros(50, dtype=torch.int64), seed=3)
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


def test_only_what_is_trained_with_is_changed() -> None:
    plain, augmented, again, other = (
        DIGITS.load(Request(train_examples=200, image_seed=seed)) for seed in (None, 1, 1, 2)
    )
    numbers = list(range(180))
    inputs = [parts.train.__getitems__(numbers).inputs for parts in (plain, augmented, again, other)]
    assert all(isinstance(part, Tensor) for part in inputs)
    assert torch.equal(inputs[1], inputs[2])  # type: ignore[arg-type]
    assert not torch.equal(inputs[0], inputs[1])  # type: ignore[arg-type]
    assert not torch.equal(inputs[1], inputs[3])  # type: ignore[arg-type]
    for part in ("validation", "test"):
        assert torch.equal(getattr(augmented, part).inputs, getattr(plain, part).inputs)


number = st.floats(0.0, 1.0, exclude_max=True, width=32)


@given(st.integers(1, 500), st.integers(1, 500), st.lists(number, min_size=CROP_COLUMNS, max_size=CROP_COLUMNS))
def test_a_crop_lies_within_the_photograph(height: int, width: int, numbers: list[float]) -> None:
    crop = Crop.drawn(height, width, numbers)
    assert 0 <= crop.top <= crop.top + crop.height <= height
    assert 0 <= crop.left <= crop.left + crop.width <= width
    assert min(crop.height, crop.width) >= 1
    if min(height, width) > 50 and 0.6 < height / width < 1.6 and numbers[0] < 0.4:  # all of them fit
        assert crop.height * crop.width / (height * width) == pytest.approx(0.08 + 0.92 * numbers[0], rel=0.1)
        assert 0.7 < crop.width / crop.height < 1.4


def test_a_photograph_is_cut_as_torchvision_does(tmp_path: Path) -> None:
    write_noise(tmp_path / "image.png")
    images = ImageFiles(tmp_path, ["image.png"] * 20, torch.zeros(20, dtype=torch.int64), Framing.usual(14), 5)
    plain = ImageFiles(tmp_path, ["image.png"], torch.zeros(1, dtype=torch.int64), Framing.whole(40))
    whole = plain[0].inputs
    assert isinstance(whole, Tensor)
    assert images._draws is not None
    sides = set()
    for index in range(20):
        crop = Crop.drawn(40, 40, images._draws.of(0, [index])[0].tolist())
        sides.add(crop.mirrored)
        cut = functional.crop(whole, crop.top, crop.left, crop.height, crop.width)
        expected = functional.resize(cut, [14, 14], antialias=True)
        expected = functional.hflip(expected) if crop.mirrored else expected
        got = images[index].inputs
        assert isinstance(got, Tensor)
        torch.testing.assert_close(got, expected, atol=0.05, rtol=0)  # Pillow rounds to whole numbers
    assert sides == {True, False}


def write_noise(path: Path) -> None:
    pixels = torch.randint(256, (3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    functional.to_pil_image(pixels).save(path)


def test_taking_some_keeps_no_draws_of_others(tmp_path: Path) -> None:
    """Validation images are taken from the same list, and are not augmented."""
    write_image(tmp_path / "image.png", (60, 40))
    images = ImageFiles(tmp_path, ["image.png"] * 3, torch.zeros(3, dtype=torch.int64), Framing.usual(14))
    assert images.take(torch.tensor([0, 1]), 7)._draws is not None
    assert images.take(torch.tensor([2]))._draws is None
