"""The data sets for detection: PASCAL VOC, photographs with 20 classes of objects, and BCCD, blood cells of 3 kinds."""

from pathlib import Path

from lerac_experiments.data.archives import read_archive, unpack
from lerac_experiments.data.download import find, find_or_download
from lerac_experiments.data.source import DataSet, Parts, Request, cache_folder, data_folder
from lerac_experiments.data.stored import Stored
from lerac_experiments.data.voc import load_voc
from lerac_experiments.errors import Unavailable

# fmt: off
_VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)
# fmt: on
_VOC_2007 = "VOCdevkit/VOC2007"
_VOC_2012 = "VOCdevkit/VOC2012"
_VOC_LIMIT = 10_000_000_000  # bytes; the archives hold 0.5 to 2 thousand million
_VOC_2012_NOTE = "VOC 2012, tested with its official validation part, for the test part's annotations are not published"

_BCCD_CLASSES = ("RBC", "WBC", "Platelets")
_BCCD = "bccd/BCCD"
_BCCD_LIMIT = 200_000_000  # bytes; the archive holds 8 million


def _load_voc(request: Request) -> Parts:
    """VOC 2007 with its own test part; or VOC 2012, if that alone is on this machine."""
    folder = _find_voc(_VOC_2007, "2007", "2007-test")
    if folder is None:
        newer = _find_voc(_VOC_2012, "2012")
        if newer is not None:
            return load_voc(Stored(newer), "train", "val", _VOC_CLASSES, str(newer), _VOC_2012_NOTE, request)
        archives = [find_or_download(known["url"], known["md5"]) for known in _published("2007", "2007-test")]
        folder = unpack(archives, _VOC_2007, cache_folder(), _VOC_LIMIT)
    return load_voc(Stored(folder), "trainval", "test", _VOC_CLASSES, str(folder), None, request)


def _find_voc(name: str, *years: str) -> Path | None:
    """The folder of a year, unpacked from its archives if they are on this machine and it is not."""
    folder = find(name)
    if folder is not None:
        return folder
    archives = [archive for known in _published(*years) if (archive := find(known["filename"])) is not None]
    return unpack(archives, name, cache_folder(), _VOC_LIMIT) if len(archives) == len(years) else None


def _published(*years: str) -> list[dict[str, str]]:
    """What torchvision knows of the archives of these years."""
    from torchvision.datasets.voc import DATASET_YEAR_DICT  # takes long to import

    return [DATASET_YEAR_DICT[year] for year in years]


def _load_bccd(request: Request) -> Parts:
    folder, archive = find(_BCCD), find("bccd.zip")
    if folder is not None:
        files = Stored(folder)
    elif archive is not None:
        files = read_archive(archive, _BCCD, _BCCD_LIMIT)
    else:
        raise Unavailable(
            f"there is no BCCD in {data_folder()}. Put the folder BCCD of github.com/Shenggan/BCCD_Dataset into "
            f"{data_folder() / 'bccd'}"
        )
    return load_voc(files, "trainval", "test", _BCCD_CLASSES, str(files.place), None, request)


VOC = DataSet("voc", "PASCAL VOC", "detection", _load_voc)
BCCD = DataSet("bccd", "BCCD", "detection", _load_bccd)
