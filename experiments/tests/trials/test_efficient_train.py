"""EfficientTrain: the crop of spectra against sums of waves, RandAugment, and trials from start to record."""

import cmath
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.tests.trials.helpers import Killed, die, digits_trial, on_call, outcome, planned, record_of, run
from lerac_experiments.cli import main
from lerac_experiments.models import MODELS
from lerac_experiments.training.phases import BANDWIDTHS
from lerac_experiments.training.rand_augment import OPERATIONS, rand_augment
from lerac_experiments.training.regimes.efficient_train import kept_of, low_frequencies, low_pass
from lerac_experiments.training.runner import Runner


def cropped_by_sums(image: Tensor, height: int, width: int) -> Tensor:
    """The reference, of one channel [H, W] in float64: the waves of the lowest frequencies, summed at the points of a
    coarser grid, each with the strength that it has in the image."""
    rows, columns = image.shape
    strengths = {
        (u, v): sum(
            image[y, x].item() * cmath.exp(-2j * math.pi * (u * y / rows + v * x / columns))
            for y in range(rows)
            for x in range(columns)
        )
        / (rows * columns)
        for u in range(-height // 2, height // 2)
        for v in range(-width // 2, width // 2)
    }
    return torch.tensor(
        [
            [
                sum(
                    (strength * cmath.exp(2j * math.pi * (u * y / height + v * x / width))).real
                    for (u, v), strength in strengths.items()
                )
                for x in range(width)
            ]
            for y in range(height)
        ],
        dtype=torch.float64,
    )


@pytest.mark.parametrize(("size", "share"), [((8, 8), 0.5), ((7, 10), 0.6), ((12, 9), 160 / 224)])
def test_the_crop_is_of_the_lowest_frequencies(size: tuple[int, int], share: float) -> None:
    images = torch.rand(2, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    cropped = low_frequencies(images, share)
    height, width = (kept_of(side, share) for side in size)
    assert cropped.shape == (2, 2, height, width)
    for i in range(2):
        for j in range(2):
            torch.testing.assert_close(cropped[i, j], cropped_by_sums(images[i, j], height, width))
    torch.testing.assert_close(cropped.mean((2, 3)), images.mean((2, 3)), msg="brightness stays")


def test_the_filter_keeps_the_same_frequencies() -> None:
    """At the points of the coarser grid, where that is part of the finer one, all but the wave of the edge."""
    images = torch.rand(1, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    smooth = low_pass(images, 0.25)  # without the waves of the edge, of which crop and filter make different ones
    torch.testing.assert_close(low_frequencies(smooth, 0.5), low_pass(smooth, 0.5)[..., ::2, ::2])
    assert low_pass(images, 0.5).shape == images.shape


@pytest.mark.parametrize(("side", "kept"), [(224, (160, 192, 224)), (32, (22, 28, 32)), (64, (46, 54, 64))])
def test_the_papers_sizes(side: int, kept: tuple[int, ...]) -> None:
    assert tuple(kept_of(side, share) for _, share in BANDWIDTHS) == kept


def test_without_strength_most_operations_change_nothing() -> None:
    images = torch.randint(40, 200, (3, 3, 32, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    same = [torch.equal(operation(images, 0.0, 1.0), images) for operation in OPERATIONS]
    assert same == [False] * 4 + [True] * (len(OPERATIONS) - 4), "of the first four all but one have no strength"
    for operation in OPERATIONS:
        for level, sign in ((0.9, 1.0), (0.9, -1.0), (1.0, 1.0)):
            changed = operation(images, level, sign)
            assert changed.shape == images.shape
            assert changed.dtype == torch.uint8
            assert not torch.equal(changed, images)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_are_augmented_one_by_one(channels: int) -> None:
    images = torch.randint(256, (64, channels, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    torch.manual_seed(0)
    augmented = rand_augment(images, 9.0)
    assert torch.equal(images, before)
    untouched = (augmented == images).flatten(1).all(1).double().mean()
    assert 0.1 < untouched < 0.45, "of two operations each is left out one time in two; on grey images one is empty"
    torch.manual_seed(0)
    assert torch.equal(rand_augment(images, 9.0), augmented)


def test_translation_and_brightness_by_hand() -> None:
    images = torch.full((1, 1, 10, 10), 100, dtype=torch.uint8)
    images[..., 0] = 50
    names = {operation.__name__: operation for operation in OPERATIONS}
    moved = names["_translate_x"](images, 1.0, 1.0)
    assert moved[0, 0, 0].tolist() == [128] * 4 + [50] + [100] * 5, "0.45 of 10, rounded to the even one"
    assert names["_brightness"](images, 1.0, -1.0)[0, 0, 0].tolist() == [5] + [10] * 9
    assert names["_posterize"](images, 0.9, 1.0)[0, 0, 0].tolist() == [0] * 10, "the first bit is left"
    assert names["_solarize_add"](images, 1.0, 1.0)[0, 0, 0].tolist() == [160] + [210] * 9
    assert names["_solarize"](images, 0.75, 1.0)[0, 0, 0].tolist() == [50] + [155] * 9


@pytest.mark.parametrize("regime", ["efficient-train", "label-similarity"])
def test_it_goes_on_where_it_was(tmp_path: Path, regime: str) -> None:
    trial = digits_trial(regime, class_similarity=_similarity(tmp_path))
    assert run(planned(tmp_path / "whole", trial)) == 0
    folder = planned(tmp_path / "killed", trial)
    with pytest.MonkeyPatch.context() as patch:
        on_call(patch, Runner, "_step", 9, die)
        with pytest.raises(Killed):
            run(folder)
    assert run(folder) == 0
    record = record_of(folder, trial)
    assert record["resumed"] == 1
    assert outcome(record) == outcome(record_of(tmp_path / "whole", trial))


def _similarity(folder: Path) -> str:
    path = folder / "similarity.csv"
    path.write_text("\n".join(",".join(str(1 + (i + j) % 3) for j in range(10)) for i in range(10)))
    return str(path)


def test_images_grow_and_magnitudes_rise(tmp_path: Path) -> None:
    """A residual network pools whatever comes; LeNet's layers fit one size alone, and get it."""
    grows = digits_trial("efficient-train", epochs=5)
    fixed = replace(grows, model="lenet", settings=replace(MODELS["lenet"].settings, epochs=5, batch_size=16))
    as_strong = digits_trial("rand-augment", epochs=5)
    assert run(planned(tmp_path, grows, fixed, as_strong)) == 0
    assert [epoch["magnitude"] for epoch in record_of(tmp_path, as_strong)["epochs"]] == [9.0] * 5
    for trial, sides in ((grows, [6, 6, 6, 8, 8]), (fixed, [8] * 5)):
        epochs = record_of(tmp_path, trial)["epochs"]
        assert [epoch["bandwidth"] for epoch in epochs] == [6, 6, 6, 8, 8], "of the step after each epoch"
        assert [epoch["side"] for epoch in epochs] == sides
        assert [epoch["magnitude"] for epoch in epochs] == pytest.approx([1.8, 3.6, 5.4, 7.2, 9.0])


def test_it_is_for_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["plan", str(tmp_path), "--models", "lstm-small", "--data", "rte", "--regimes", "efficient-train"]
    assert main(args) == 1
    assert "efficient-train is for images, and rte is text" in capsys.readouterr().err
