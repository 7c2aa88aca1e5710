"""Tiny ImageNet (Stanford's CS231n, 2015): 110,000 labelled colour images of 64x64, in 200 classes of ImageNet."""

from pathlib import Path

import torch

from lerac_experiments.data.archives import unpack
from lerac_experiments.data.download import find, find_or_download
from lerac_experiments.data.image_folders import Framing, ImageFiles, image_parts, list_images
from lerac_experiments.data.media import IMAGES, left_out_note, list_media
from lerac_experiments.data.source import DataSet, Parts, Request, cache_folder
from lerac_experiments.data.stored import Stored
from lerac_experiments.errors import ExperimentError

FOLDER = "tiny-imagenet-200"
_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
# Stanford publishes no checksum. Many public projects check for this one; of the file of 248,100,043 bytes.
_MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
_ARCHIVE_LIMIT = 2_000_000_000  # bytes
_PUBLISHED = (100_000, 10_000)
_SIDE = 64
_SPLIT_NOTE = "tested with the official validation part, for the labels of the test part are not published"


def tiny_wnids(folder: Path) -> list[str]:
    """The WordNet ids of the classes, sorted. Raises ExperimentError naming their file if it is missing or damaged."""
    wnids = sorted(line.strip() for line in Stored(folder).lines("wnids.txt"))
    if len(set(wnids)) != len(wnids) or not wnids:
        raise ExperimentError(f"{folder / 'wnids.txt'} is damaged: it names no class, or one of them twice")
    return wnids


def _load(request: Request) -> Parts:
    """Reads the folder, which is unpacked from the archive if there is none."""
    folder = find(FOLDER) or unpack([find_or_download(_URL, _MD5)], FOLDER, cache_folder(), _ARCHIVE_LIMIT)
    wnids = tiny_wnids(folder)
    images, labels = list_images(folder / "train", wnids, within="images")
    train = ImageFiles(folder / "train", images.names, labels, Framing.whole(_SIDE))
    test = _test_images(folder, wnids)
    notes = _SPLIT_NOTE, left_out_note(images)
    return image_parts(train, test, len(wnids), request, str(folder), *notes, published=_PUBLISHED)


def _test_images(folder: Path, wnids: list[str]) -> ImageFiles:
    """The official validation part, whose classes stand in a file."""
    annotations, images = "val/val_annotations.txt", folder / "val" / "images"
    classes = {wnid: number for number, wnid in enumerate(wnids)}
    there = set(list_media(images, IMAGES).names)
    names, labels = [], []
    for line in Stored(folder).lines(annotations):
        name, wnid, *_ = [*line.split("\t"), ""]
        if name not in there or wnid not in classes:
            raise ExperimentError(
                f"{folder / annotations} is damaged, or files are missing: {name!r} is not in {images}, or its class "
                f"{wnid!r} not in wnids.txt"
            )
        names.append(name)
        labels.append(classes[wnid])
    if len(set(names)) < len(names):
        raise ExperimentError(f"{folder / annotations} is damaged: it names an image twice")
    return ImageFiles(images, names, torch.tensor(labels, dtype=torch.int64), Framing.whole(_SIDE))


TINY_IMAGENET = DataSet("tiny-imagenet", "Tiny ImageNet", "image", _load)
