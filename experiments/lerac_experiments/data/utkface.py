"""UTKFace (Zhang, Song and Qi, 2017): 23,708 aligned and cropped faces. To predict is the age of each, in years."""

import re
from pathlib import Path, PurePosixPath

import torch

from lerac_experiments.data.download import find
from lerac_experiments.data.image_folders import Framing, ImageFiles, image_parts
from lerac_experiments.data.media import IMAGES, left_out_note, list_media
from lerac_experiments.data.source import DataSet, Parts, Request, data_folder
from lerac_experiments.errors import ExperimentError, Unavailable

_FOLDER = "UTKFace"
_SIDE = 64
_TEST_SHARE = 0.2
_SPLIT_SEED = 0
_NOTE = "there is no official split: a fifth of the images, drawn once with a fixed seed, are the test part"


def _load(request: Request) -> Parts:
    folder = find(_FOLDER)
    if folder is None:
        raise Unavailable(
            f"UTKFace cannot be downloaded automatically. From susanqq.github.io/UTKFace, put the aligned and cropped "
            f"faces into {data_folder() / _FOLDER}, named as there: age_gender_race_date.jpg, or .jpg.chip.jpg"
        )
    listing = list_media(folder, IMAGES)
    names = listing.names
    _refuse_twice(names, folder)
    ages = torch.tensor([_age(folder / name) for name in names])
    images = ImageFiles(folder, names, ages, Framing.whole(request.image_size or _SIDE))
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(_SPLIT_SEED))
    tested = round(_TEST_SHARE * len(names))
    train, test = images.take(order[tested:]), images.take(order[:tested])
    notes = _NOTE, left_out_note(listing)
    return image_parts(train, test, 1, request, str(folder), *notes, published=None, task="regression")


def _refuse_twice(names: list[str], folder: Path) -> None:
    """Some copies come with more of the same faces in folders beside: tested with what was trained with."""
    there: dict[str, str] = {}
    for name in names:
        before = there.setdefault(PurePosixPath(name).name, name)
        if before != name:
            raise ExperimentError(f"{folder} holds a face twice, as {before} and as {name}: move one of them away")


def _age(path: Path) -> float:
    # Some published names lack the race or have a slip later on; the age is in all of them.
    match = re.match(r"(\d{1,3})_", path.name)
    if match is None:
        raise ExperimentError(f"{path} is not named as the faces of UTKFace are: its name does not start with an age")
    return float(match[1])


UTKFACE = DataSet("utkface", "UTKFace", "image", _load, regression=True)
