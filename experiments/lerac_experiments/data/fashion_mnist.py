"""Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 70,000 grey images of 28x28, in ten classes."""

from pathlib import Path

from lerac_experiments.data.download import download
from lerac_experiments.data.idx import read_idx
from lerac_experiments.data.images_in_memory import ImageData, Labelled, in_memory
from lerac_experiments.data.source import DataSet, Parts, Request, cache_folder, data_folder
from lerac_experiments.errors import ExperimentError, Unavailable

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_NAMES = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
_FOLDER = "FashionMNIST/raw"


def load_fashion_mnist() -> ImageData:
    """Reads Debian's package dataset-fashion-mnist, or else what was downloaded, in torchvision's layout.

    The download goes to `cache_folder()` and happens once.

    Raises:
        Unavailable: there is no package and the download failed.
        ExperimentError: a file is damaged.
    """
    if DEBIAN_FOLDER.is_dir():
        return _read(DEBIAN_FOLDER, f"Debian's dataset-fashion-mnist, {DEBIAN_FOLDER}")
    from torchvision.datasets import FashionMNIST  # takes long to import

    folder = data_folder() / _FOLDER
    if not all((folder / name).exists() for name, _ in FashionMNIST.resources):
        folder = _download(FashionMNIST.mirrors[0], FashionMNIST.resources)
    return _read(folder, f"torchvision's download, {folder}")


def _download(mirror: str, files: list[tuple[str, str]]) -> Path:
    """Downloads those of the four files that are not there yet, with checksums."""
    folder = cache_folder() / _FOLDER
    try:
        for name, checksum in files:
            download(f"{mirror}{name}", f"md5:{checksum}", folder)
    except Unavailable as error:
        advice = "`apt-get install dataset-fashion-mnist` installs it on Debian"
        raise Unavailable(f"{DEBIAN_FOLDER} does not exist, and {error}. {advice}") from error
    return folder


def _read(folder: Path, source: str) -> ImageData:
    return ImageData(source, _read_part(folder, "train"), _read_part(folder, "t10k"), class_names=_NAMES)


def _read_part(folder: Path, part: str) -> Labelled:
    images_file, labels_file = folder / f"{part}-images-idx3-ubyte.gz", folder / f"{part}-labels-idx1-ubyte.gz"
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ExperimentError(
            f"{images_file} and {labels_file} do not fit together: "
            f"they hold {tuple(images.shape)} and {tuple(labels.shape)} bytes"
        )
    return Labelled(images.unsqueeze(1), labels.long())


def _load(request: Request) -> Parts:
    return in_memory(load_fashion_mnist(), request, classes=10)


FASHION_MNIST = DataSet("fashion-mnist", "Fashion-MNIST", "image", _load)
