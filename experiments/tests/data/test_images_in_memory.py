"""Small images, held as tensors."""

from pathlib import Path

import pytest
import torch

from experiments.tests.data.image_parts import batches, load_all
from experiments.tests.data.test_fashion_mnist import write_fashion_mnist
from lerac_experiments.data import fashion_mnist
from lerac_experiments.data.digits import DIGITS
from lerac_experiments.data.examples import TensorExamples
from lerac_experiments.data.fashion_mnist import FASHION_MNIST
from lerac_experiments.data.images_in_memory import ImageData, Labelled, in_memory
from lerac_experiments.data.source import Request
from lerac_experiments.errors import ExperimentError, Unavailable


def test_normalised_by_channel_of_the_images_to_train_with() -> None:
    numbers = torch.arange(100)
    # Every pixel of an image is its number, or thrice that in the second channel; the third is the same everywhere.
    pixels = torch.stack([numbers, 2 * numbers, torch.full_like(numbers, 7)], 1).to(torch.uint8)
    images = Labelled(pixels.view(100, 3, 1, 1).expand(-1, -1, 2, 2), numbers)
    parts = in_memory(ImageData("the test", images, images), Request(), classes=100)
    assert isinstance(parts.train, TensorExamples)
    assert isinstance(parts.train.inputs, torch.Tensor)
    assert parts.train.inputs.dtype == torch.float32
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (90, 10, 100)
    mean, deviation = parts.train.inputs.mean((0, 2, 3)), parts.train.inputs.std((0, 2, 3))
    torch.testing.assert_close(mean, torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(deviation, torch.tensor([1.0, 1.0, 0.0]))
    # The others go by the mean and deviation of the same images, not by their own.
    assert parts.train.labels is not None
    trained = parts.train.labels.float().repeat_interleave(4)
    test = batches(parts.test, 100)[0]
    assert isinstance(test.inputs, torch.Tensor)
    for channel in (0, 1):
        torch.testing.assert_close(test.inputs[:, channel, 0, 0], (numbers - trained.mean()) / trained.std())


def test_digits() -> None:
    parts = DIGITS.load(Request())
    assert (parts.task, parts.classes) == ("classification", 10)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (1293, 144, 360)
    assert "last 360 images" in str(parts.note)
    first = load_all(parts)["train"][0]
    assert isinstance(first.inputs, torch.Tensor)
    assert first.inputs.shape == (4, 1, 8, 8)
    assert parts.train.labels is not None
    assert torch.equal(first.targets, parts.train.labels[:4])


def test_digits_drawn_by_the_seed() -> None:
    drawn, again, other = (
        DIGITS.load(Request(split_seed=seed, train_examples=100, test_examples=30)) for seed in (1, 1, 2)
    )
    assert (len(drawn.train), len(drawn.validation), len(drawn.test)) == (90, 10, 30)
    for part in ("train", "validation", "test"):
        assert torch.equal(getattr(drawn, part).inputs, getattr(again, part).inputs)
        assert not torch.equal(getattr(drawn, part).inputs, getattr(other, part).inputs)


def test_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian's if it is installed, or else files like those."""
    if fashion_mnist.DEBIAN_FOLDER.is_dir():
        train, test = 60_000, 10_000
    else:
        train, test = 40, 20
        write_fashion_mnist(tmp_path, train=train, test=test)
        monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path)
    parts = FASHION_MNIST.load(Request())
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (train * 9 // 10, train // 10, test)
    assert (parts.classes, parts.note) == (10, None)
    batch = parts.test.__getitems__([3, 0])
    assert isinstance(batch.inputs, torch.Tensor)
    assert batch.inputs.shape == (2, 1, 28, 28)
    assert batch.indices.tolist() == [3, 0]


def test_fashion_mnist_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise Unavailable("no route to host")

    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "missing")
    monkeypatch.setattr(fashion_mnist, "download", no_network)
    with pytest.raises(Unavailable, match=r"no route to host.*apt-get install dataset-fashion-mnist"):
        FASHION_MNIST.load(Request())


def test_too_few_images_to_split() -> None:
    with pytest.raises(ExperimentError, match="1437 training examples, of which 1 are drawn"):
        DIGITS.load(Request(train_examples=1))
