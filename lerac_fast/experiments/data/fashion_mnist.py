"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 grey images of 28x28, in ten classes."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import download_url

from lerac_fast.experiments.data.idx import read_idx
from lerac_fast.experiments.data.images import ImageData, Labelled
from lerac_fast.experiments.errors import ExperimentError

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_DOWNLOAD_TIMEOUT = 20.0  # seconds without an answer


class Unavailable(Exception):
    """The data set is neither installed nor could it be downloaded."""


def load_fashion_mnist() -> ImageData:
    """Reads Debian's package dataset-fashion-mnist, or else what torchvision downloads.

    The download goes to the folder named by the environment variable LERAC_FAST_DATA (~/.cache/lerac_fast
    by default), in torchvision's layout, and happens once.

    Raises:
        Unavailable: there is no package and the download failed.
        ExperimentError: a file is damaged.
    """
    if DEBIAN_FOLDER.is_dir():
        return _read(DEBIAN_FOLDER, f"Debian's dataset-fashion-mnist, {DEBIAN_FOLDER}")
    folder = _download_folder()
    _download(folder)
    return _read(folder, f"torchvision's download, {folder}")


def _download_folder() -> Path:
    root = Path(os.environ.get("LERAC_FAST_DATA") or "~/.cache/lerac_fast").expanduser()
    return root / "FashionMNIST" / "raw"


def _download(folder: Path) -> None:
    """Downloads the files that are not there yet with the checksums that torchvision knows."""
    mirror = FashionMNIST.mirrors[0]
    try:
        with _socket_timeout(_DOWNLOAD_TIMEOUT):
            for name, checksum in FashionMNIST.resources:
                download_url(f"{mirror}{name}", folder, name, checksum)
    except (URLError, OSError, RuntimeError) as error:
        raise Unavailable(f"{DEBIAN_FOLDER} does not exist, and the download from {mirror} failed ({error})") from error


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    # torchvision sets none, and a firewall that drops packets would hold the demo up for minutes.
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _read(folder: Path, source: str) -> ImageData:
    return ImageData("Fashion-MNIST", source, train=_read_part(folder, "train"), test=_read_part(folder, "t10k"))


def _read_part(folder: Path, part: str) -> Labelled:
    images_file, labels_file = (
        folder / f"{part}-images-idx3-ubyte.gz",
        folder / f"{part}-labels-idx1-ubyte.gz",
    )
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ExperimentError(
            f"{images_file} and {labels_file} do not fit together: "
            f"they hold {tuple(images.shape)} and {tuple(labels.shape)} bytes"
        )
    return Labelled(images.unsqueeze(1), labels.long())
