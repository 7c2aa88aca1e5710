"""WebVision 2017 (Li et al.): 2.4 million images that two search engines found for the 1000 classes of ImageNet.

Many of their labels are wrong; those to test with were checked by people."""

from pathlib import Path

import torch

from lerac_experiments.data.download import find
from lerac_experiments.data.image_folders import Framing, ImageFiles, image_parts
from lerac_experiments.data.media import IMAGES, list_media
from lerac_experiments.data.source import DataSet, Parts, Request, data_folder
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError, Unavailable

_FOLDERS = ("webvision", "WebVision")
_ENGINES = ("google", "flickr")
_TEST_FOLDERS = ("val_images_256", "val_images")
_PUBLISHED = (2_439_574, 50_000)
_SIDE = 224
_NOTE = "training labels are those of the searches, some of them wrong"


def _load(request: Request) -> Parts:
    folder = next((found for name in _FOLDERS if (found := find(name)) is not None), None)
    if folder is None:
        raise Unavailable(
            f"there is no WebVision in {data_folder()}. From data.vision.ee.ethz.ch/cvl/webvision, version 1, put into "
            f"{data_folder() / _FOLDERS[0]} the folders info, google, flickr and {_TEST_FOLDERS[0]}"
        )
    files = Stored(folder)
    synsets = files.lines("info/synsets.txt")
    tested = next((name for name in _TEST_FOLDERS if (folder / name).is_dir()), _TEST_FOLDERS[0])
    listed = [_listed(files, f"info/train_filelist_{engine}.txt", "", len(synsets)) for engine in _ENGINES]
    framing = Framing.usual(request.image_size or _SIDE)
    train = _images(folder, [pair for part in listed for pair in part], _ENGINES, framing)
    test = _images(folder, _listed(files, "info/val_filelist.txt", f"{tested}/", len(synsets)), (tested,), framing)
    # A line is a WordNet id and names, the most usual first.
    names = tuple(line.partition(" ")[2].split(",")[0].strip() or line for line in synsets)
    return image_parts(
        *(train, test, len(synsets), request, str(folder), _NOTE), published=_PUBLISHED, class_names=names
    )


def _listed(files: Stored, file: str, prefix: str, classes: int) -> list[tuple[str, int]]:
    """The images of a list, and their classes."""
    listed = []
    for number, line in enumerate(files.lines(file), 1):
        name, _, label = line.strip().rpartition(" ")
        if not name or not label.isdecimal() or int(label) >= classes:
            raise ExperimentError(
                f"{files.place / file} is damaged: line {number} is {line[:60]!r}, and not an image and a class below "
                f"{classes}"
            )
        listed.append((prefix + name.strip(), int(label)))
    if not listed:
        raise ExperimentError(f"{files.place / file} is empty, where a line for each image is expected")
    return listed


def _images(folder: Path, listed: list[tuple[str, int]], within: tuple[str, ...], framing: Framing) -> ImageFiles:
    """The images of a list, which must lie in these folders, each once."""
    there = {f"{name}/{file}" for name in within for file in list_media(folder / name, IMAGES).names}
    names = [name for name, _ in listed]
    if missing := next((name for name in names if name not in there), None):
        raise ExperimentError(f"{folder / missing} is missing, or no image, and a list in {folder / 'info'} names it")
    if len(set(names)) < len(names):
        raise ExperimentError(f"{folder / 'info'}: the lists of {' and '.join(within)} name an image twice")
    return ImageFiles(folder, names, torch.tensor([label for _, label in listed], dtype=torch.int64), framing)


WEBVISION = DataSet("webvision", "WebVision", "image", _load)
