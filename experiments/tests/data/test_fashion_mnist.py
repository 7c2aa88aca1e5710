"""Images that come with Debian or scikit-learn: reading them, and downloading those that are not there."""

import gzip
from pathlib import Path

import pytest
import torch

from lerac_experiments.data import fashion_mnist
from lerac_experiments.data.digits import load_digits
from lerac_experiments.data.fashion_mnist import load_fashion_mnist
from lerac_experiments.data.idx import read_idx
from lerac_experiments.errors import ExperimentError, Unavailable


def idx_bytes(values: torch.Tensor) -> bytes:
    """`values` as an idx file of unsigned bytes, not compressed."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.to(torch.uint8).numpy().tobytes()


def write_fashion_mnist(folder: Path, *, train: int = 40, test: int = 20) -> None:
    """Files named as in Debian's package, with images of random pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        images = torch.randint(256, (count, 28, 28))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        labels = torch.arange(count) % 10
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx_bytes(labels)))


@pytest.fixture
def debian_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of Debian's; it does not exist yet."""
    folder = tmp_path / "fashion-mnist"
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", folder)
    return folder


def no_network(*_: object) -> None:
    raise Unavailable("the download failed (no route to host)")


def test_read_idx(tmp_path: Path) -> None:
    values = torch.arange(2 * 3 * 4).view(2, 3, 4)
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(idx_bytes(values)))
    read = read_idx(path)
    assert read.dtype == torch.uint8
    assert read.tolist() == values.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(idx_bytes(torch.zeros(2, 3))[:-1]), "announces 2 x 3 bytes, and 5 follow"),
        (gzip.compress(idx_bytes(torch.zeros(2, 3)) + b"\0"), "announces 2 x 3 bytes, and 7 follow"),
        (gzip.compress(idx_bytes(torch.zeros(2, 3))[:7]), "damaged"),
        (gzip.compress(b"\0\0\x0d\1\0\0\0\0"), "no idx file of unsigned bytes: it starts with '00 00 0d 01'"),
        (gzip.compress(b""), "no idx file"),
        (gzip.compress(idx_bytes(torch.zeros(2, 3)))[:-9], "cannot read"),
        (b"no gzip", "cannot read"),
        (None, "No such file"),
    ],
    ids=["short", "long", "header cut", "floats", "empty", "gzip cut", "no gzip", "missing"],
)
def test_damaged_idx_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "values.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ExperimentError, match=message) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)


def test_debians_package_comes_first(debian_folder: Path) -> None:
    write_fashion_mnist(debian_folder)
    images = load_fashion_mnist()
    assert str(debian_folder) in images.source
    assert images.note is None
    assert images.train.images.shape == (40, 1, 28, 28)
    assert images.test.labels.tolist() == [*range(10), *range(10)]
    assert images.train.labels.unique().tolist() == [*range(10)]


def test_a_damaged_package_is_not_passed_over(debian_folder: Path) -> None:
    write_fashion_mnist(debian_folder)
    path = debian_folder / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ExperimentError, match="t10k-labels"):
        load_fashion_mnist()


def test_images_and_labels_must_fit(debian_folder: Path) -> None:
    write_fashion_mnist(debian_folder)
    path = debian_folder / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx_bytes(torch.zeros(39))))
    with pytest.raises(ExperimentError, match=r"do not fit together.*\(40, 28, 28\) and \(39,\)"):
        load_fashion_mnist()


@pytest.mark.usefixtures("debian_folder")
def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = tmp_path / "mirror"
    write_fashion_mnist(mirror)
    monkeypatch.setenv("LERAC_FAST_DATA", str(tmp_path / "cache"))

    def copy_from_mirror(url: str, checksum: str, folder: Path) -> None:
        assert url.startswith("http")
        assert len(checksum.removeprefix("md5:")) == 32
        folder.mkdir(parents=True, exist_ok=True)
        name = url.rpartition("/")[2]
        (folder / name).write_bytes((mirror / name).read_bytes())

    monkeypatch.setattr(fashion_mnist, "download", copy_from_mirror)
    images = load_fashion_mnist()
    assert str(tmp_path / "cache" / "FashionMNIST" / "raw") in images.source


@pytest.mark.usefixtures("debian_folder")
def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion_mnist, "download", no_network)
    with pytest.raises(ExperimentError, match=r"no route to host.*apt-get install dataset-fashion-mnist"):
        load_fashion_mnist()


def test_digits() -> None:
    images = load_digits()
    assert images.train.images.shape == (1437, 1, 8, 8)
    assert images.test.images.shape == (360, 1, 8, 8)
    assert images.train.images.dtype == torch.uint8
    assert images.train.images.max() == 16
    assert images.train.labels.unique().tolist() == [*range(10)]
