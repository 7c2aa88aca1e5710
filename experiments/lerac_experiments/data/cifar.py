"""CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): 60,000 colour images of 32x32, in 10 or 100 classes."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lerac_experiments.data.archives import read_archive
from lerac_experiments.data.download import find, find_or_download
from lerac_experiments.data.images_in_memory import ImageData, Labelled, in_memory
from lerac_experiments.data.npz import read_npz
from lerac_experiments.data.pickled import read_pickle
from lerac_experiments.data.source import DataSet, Parts, Request, data_folder, size_note
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError, Unavailable

_LIMIT = 1_000_000_000  # bytes; an archive, or the subset, holds 180 million
_PUBLISHED = (50_000, 10_000)
_SUBSET_FILE = "cifar10-subset.npz"
_SUBSET_NOTE = (
    "a part of CIFAR-10, whose images were compressed as JPEG in between: not comparable with published figures"
)


@dataclass(frozen=True)
class _Variant:
    name: str
    torchvision: str
    """The class there, which knows its files."""
    labels_key: bytes
    classes: int
    names: tuple[str, ...]
    """Of the classes; none, they stand in the file `meta`, if that is there."""


_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_10 = _Variant("CIFAR-10", "CIFAR10", b"labels", 10, _NAMES)
_CIFAR_100 = _Variant("CIFAR-100", "CIFAR100", b"fine_labels", 100, ())


def _load(variant: _Variant, request: Request) -> Parts:
    """Reads the folder of batches or the archive with it, which is downloaded if there is neither."""
    import torchvision.datasets  # takes long to import

    known: type[torchvision.datasets.CIFAR10] = getattr(torchvision.datasets, variant.torchvision)
    folder = find(known.base_folder)
    if folder is not None:
        files = Stored(folder)
    else:
        files = read_archive(find_or_download(known.url, known.tgz_md5), known.base_folder, _LIMIT)
    train, test = (_read(files, [name for name, _ in part], variant) for part in (known.train_list, known.test_list))
    note = size_note(_PUBLISHED, len(train.labels), len(test.labels))
    names = variant.names or _names(files, variant)
    return in_memory(ImageData(str(files.place), train, test, note, class_names=names), request, variant.classes)


def _names(files: Stored, variant: _Variant) -> tuple[str, ...]:
    if not files.has("meta"):
        return ()
    meta = read_pickle(files.read("meta"), files.place / "meta")
    names = meta.get(b"fine_label_names") if isinstance(meta, dict) else None
    if not isinstance(names, list) or len(names) != variant.classes or not all(isinstance(n, bytes) for n in names):
        raise ExperimentError(f"{files.place / 'meta'} is damaged: it does not name {variant.classes} classes")
    return tuple(name.decode("utf-8", "replace") for name in names)


def _read(files: Stored, names: list[str], variant: _Variant) -> Labelled:
    return Labelled(*map(torch.cat, zip(*(_read_batch(files, name, variant) for name in names), strict=True)))


def _read_batch(files: Stored, name: str, variant: _Variant) -> Labelled:
    path = files.place / name
    batch = read_pickle(files.read(name), path)
    if not isinstance(batch, dict) or not {b"data", variant.labels_key} <= batch.keys():
        raise ExperimentError(
            f"{path} is no batch of {variant.name}: it lacks 'data' or {variant.labels_key.decode()!r}"
        )
    pixels, labels = batch[b"data"], batch[variant.labels_key]
    if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (3 * 32 * 32,):
        raise ExperimentError(f"{path} is damaged: its data are not images of 3 x 32 x 32 bytes")
    images = pixels.reshape(-1, 3, 32, 32)
    plain = isinstance(labels, list) and all(type(label) is int for label in labels)
    return _labelled(images, labels if plain else None, variant.classes, path)


def _labelled(images: NDArray[np.uint8], labels: list[int] | None, classes: int, path: Path) -> Labelled:
    """Images [N, 3, 32, 32] with labels, which are checked, [N]; None, they are no whole numbers."""
    if labels is None or len(labels) != len(images):
        raise ExperimentError(f"{path} is damaged: it does not hold one label for each of its {len(images)} images")
    if labels and not 0 <= min(labels) <= max(labels) < classes:
        raise ExperimentError(f"{path} is damaged: its labels are not all between 0 and {classes - 1}")
    return Labelled(torch.from_numpy(images.copy()), torch.tensor(labels, dtype=torch.int64))


def _load_subset(request: Request) -> Parts:
    path = find(_SUBSET_FILE)
    if path is None:
        raise Unavailable(
            f"there is no {_SUBSET_FILE} in {data_folder()}: a file of NumPy with train_images, uint8 [N, 32, 32, 3], "
            "train_labels [N], and test_images and test_labels alike"
        )
    arrays = read_npz(path, (f"{part}_{what}" for part in ("train", "test") for what in ("images", "labels")), _LIMIT)
    train, test = (_subset_part(arrays, part, path) for part in ("train", "test"))
    return in_memory(ImageData(str(path), train, test, _SUBSET_NOTE, class_names=_NAMES), request, 10)


def _subset_part(arrays: dict[str, NDArray[Any]], part: str, path: Path) -> Labelled:
    images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
    if images.dtype != np.uint8 or images.shape[1:] != (32, 32, 3):
        raise ExperimentError(f"{path} is damaged: {part}_images is {images.dtype} {images.shape}")
    plain = labels.dtype.kind in "iu" and labels.ndim == 1
    return _labelled(images.transpose(0, 3, 1, 2), labels.tolist() if plain else None, 10, path)


CIFAR10 = DataSet("cifar10", "CIFAR-10", "image", partial(_load, _CIFAR_10))
CIFAR100 = DataSet("cifar100", "CIFAR-100", "image", partial(_load, _CIFAR_100))
CIFAR10_SUBSET = DataSet("cifar10-subset", "CIFAR-10 (subset)", "image", _load_subset)
