"""ImageNet (Russakovsky et al., 2015), the data of ILSVRC 2012: 1.3 million colour images in 1000 classes; and 200 of
these classes."""

from pathlib import Path

from lerac_experiments.data.download import find
from lerac_experiments.data.image_folders import Framing, ImageFiles, image_parts, list_classes, list_images
from lerac_experiments.data.media import Listing, left_out_note
from lerac_experiments.data.source import DataSet, Parts, Request, data_folder
from lerac_experiments.data.tiny_imagenet import FOLDER as TINY_IMAGENET_FOLDER
from lerac_experiments.data.tiny_imagenet import tiny_wnids
from lerac_experiments.errors import ExperimentError, Unavailable

_FOLDERS = ("imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC")
_PUBLISHED = (1_281_167, 50_000)
_SIDE = 224
_SPLIT_NOTE = "tested with the official validation part, for the labels of the test part are not published"


def _find() -> Path:
    folder = next((found for name in _FOLDERS if (found := find(name)) is not None), None)
    if folder is None:
        raise Unavailable(
            f"ImageNet cannot be downloaded without an account. From image-net.org, put the images of ILSVRC 2012 into "
            f"{data_folder() / _FOLDERS[0]} as train/<WordNet id>/*.JPEG and val/<WordNet id>/*.JPEG, one folder for "
            f"each class, in both"
        )
    return folder


def _parts(
    folder: Path, wnids: list[str], published: tuple[int, int] | None, about: str, request: Request, *others: Listing
) -> Parts:
    """The images of these classes.

    Args:
        others: of which the note says what was left out.
    """
    framing = Framing.usual(request.image_size or _SIDE)
    found = {part: list_images(folder / part, wnids) for part in ("train", "val")}
    train, test = (ImageFiles(folder / part, images.names, labels, framing) for part, (images, labels) in found.items())
    left_out = left_out_note(*(images for images, _ in found.values()), *others)
    return image_parts(train, test, len(wnids), request, str(folder), about, left_out, published=published)


def _load(request: Request) -> Parts:
    folder = _find()
    train, test = list_classes(folder / "train"), list_classes(folder / "val")
    if train.names != test.names:
        odd = sorted(set(train.names) ^ set(test.names))
        raise ExperimentError(
            f"{folder / 'train'} and {folder / 'val'} are of different classes: only one has {odd[0]}"
        )
    return _parts(folder, train.names, _PUBLISHED, _SPLIT_NOTE, request, train, test)


def _load_200(request: Request) -> Parts:
    """200 classes of ImageNet. The paper's review says that 200 were sampled, not which. Here they are those of Tiny
    ImageNet if that is on this machine, or else every fifth, by WordNet id."""
    folder = _find()
    there = list_classes(folder / "train")
    tiny = find(TINY_IMAGENET_FOLDER)
    if tiny is None:
        wnids, which = there.names[::5], "every fifth class of ImageNet, by WordNet id"
    else:
        wnids, which = tiny_wnids(tiny), f"the classes of Tiny ImageNet, {tiny / 'wnids.txt'}"
    # Folders that are missing are found, and named, as their images are listed.
    note = f"{len(wnids)} classes: {which}; those of the paper are not known; {_SPLIT_NOTE}"
    return _parts(folder, wnids, None, note, request, there)


IMAGENET = DataSet("imagenet", "ImageNet", "image", _load)
IMAGENET_200 = DataSet("imagenet200", "ImageNet-200", "image", _load_200)
