"""Food-101 (Bossard, Guillaumin and Van Gool, 2014): 101,000 photographs of 101 dishes."""

import json
from collections import Counter
from pathlib import Path

import torch

from lerac_experiments.data.archives import unpack
from lerac_experiments.data.download import find, find_or_download
from lerac_experiments.data.image_folders import Framing, ImageFiles, image_parts
from lerac_experiments.data.media import IMAGES, list_media
from lerac_experiments.data.reading import read_file
from lerac_experiments.data.source import DataSet, Parts, Request, cache_folder
from lerac_experiments.errors import ExperimentError

_FOLDER = "food-101"
_ARCHIVE_LIMIT = 20_000_000_000  # bytes
_PUBLISHED = (75_750, 25_250)
_SIDE = 224


def _load(request: Request) -> Parts:
    """Reads the folder, which is unpacked from the archive if there is none."""
    from torchvision.datasets import Food101  # takes long to import

    archive = (Food101._URL, Food101._MD5)
    folder = find(_FOLDER) or unpack([find_or_download(*archive)], _FOLDER, cache_folder(), _ARCHIVE_LIMIT)
    listed = {part: _listed(folder, f"meta/{part}.json") for part in ("train", "test")}
    classes = sorted(listed["train"])
    if classes != sorted(listed["test"]):
        raise ExperimentError(f"{folder / 'meta' / 'train.json'} and test.json are not of the same classes")
    there = {name: set(list_media(folder / "images" / name, IMAGES).names) for name in classes}
    framing = Framing.usual(request.image_size or _SIDE)

    def images(part: str) -> ImageFiles:
        names = [f"{name}.jpg" for kind in classes for name in listed[part][kind]]
        for name in names:
            kind, _, file = name.rpartition("/")
            if file not in there.get(kind, ()):
                raise ExperimentError(f"{folder / 'images' / name} is missing, which meta/{part}.json names")
        counts = torch.tensor([len(listed[part][name]) for name in classes])
        return ImageFiles(folder / "images", names, torch.arange(len(classes)).repeat_interleave(counts), framing)

    counts = Counter(name for part in listed.values() for names in part.values() for name in names)
    if counts and max(counts.values()) > 1:
        raise ExperimentError(f"{folder / 'meta'}: train.json and test.json name {counts.most_common(1)[0][0]} twice")
    return image_parts(
        images("train"),
        images("test"),
        len(classes),
        request,
        str(folder),
        published=_PUBLISHED,
        class_names=tuple(classes),
    )


def _listed(folder: Path, name: str) -> dict[str, list[str]]:
    """The images of each class, as class/number."""
    content = read_file(folder / name)
    try:
        listed = json.loads(content)
        return {str(kind): [str(image) for image in images] for kind, images in listed.items()}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ExperimentError(f"{folder / name} is damaged: {error}") from error


FOOD_101 = DataSet("food101", "Food-101", "image", _load)
