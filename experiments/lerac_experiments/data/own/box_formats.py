"""Annotations of boxes in the forms of PASCAL VOC, COCO and YOLO."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml

from lerac_experiments.data.media import IMAGES
from lerac_experiments.data.own.faults import Faults
from lerac_experiments.data.own.spec import PartName
from lerac_experiments.data.own.splits import PART_NAMES
from lerac_experiments.data.reading import as_text
from lerac_experiments.data.stored import Stored
from lerac_experiments.data.voc import Marked, read_objects
from lerac_experiments.errors import ExperimentError

Format = Literal["voc", "coco", "yolo"]

_BESIDE = {"labels": "images", "Annotations": "JPEGImages", "annotations": "images"}
"""Folders of annotations, and those beside them with the images."""
_OTHER_TEXTS = ("classes.txt", "labels.txt", "train.txt", "val.txt", "test.txt", "readme.txt", "notes.txt")
"""Which are in YOLO's folders, and annotate no image."""
_LISTS = "ImageSets/Main/"


@dataclass(frozen=True)
class Marks:
    """What an annotation says of an image.

    Attributes:
        place: where, for messages.
        size: of the image, in pixels; None, it does not say.
        relative: whether edges are shares of the sides.
        damaged: whether it cannot be read, so that nothing is known of the image.
    """

    place: str
    image: str
    size: tuple[int, int] | None
    objects: list[Marked]
    part: PartName | None
    relative: bool = False
    damaged: bool = False


class Images:
    """The images in a folder, by their names."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = [name for name in names if name in IMAGES]
        self._all = set(self.names)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.names:
            self._by_stem[PurePosixPath(name).stem].append(name)

    def of(self, annotation: str) -> str | None:
        """The image that a file annotates: of the same name but for the suffix, beside it or in a folder beside. None,
        there is none, or more than one."""
        path = PurePosixPath(annotation)
        found = self._by_stem.get(path.stem, [])
        swapped = PurePosixPath(*(_BESIDE.get(part, part) for part in path.parts)).parent
        for parent in (path.parent, swapped):
            there = [name for name in found if PurePosixPath(name).parent == parent]
            if there:
                return there[0] if len(there) == 1 else None
        return found[0] if len(found) == 1 else None

    def called(self, name: str, beside: str) -> str | None:
        """The image that a list calls so, in its own folder, in the one of all, or anywhere; None, there is none, or
        more than one."""
        parent = PurePosixPath(beside).parent
        for there in (str(parent / name), name, str(parent / "images" / name), f"images/{name}"):
            if there in self._all:
                return there
        found = [other for other in self._by_stem.get(PurePosixPath(name).stem, []) if other.endswith(f"/{name}")]
        return found[0] if len(found) == 1 else None


def format_of(names: Iterable[str], files: Stored) -> Format:
    """The form of a folder's annotations.

    Raises:
        ExperimentError: there are none, or of several.
    """
    names = list(names)
    has_json = any(_is_coco(files, name) for name in names if name.endswith(".json"))
    has_txt = any(name.endswith(".txt") and _LISTS not in f"/{name}" and not _is_other_text(name) for name in names)
    found: list[Format] = []
    found += ["coco"] if has_json else []
    found += ["voc"] if any(name.endswith(".xml") for name in names) else []
    found += ["yolo"] if has_txt else []
    if len(found) != 1:
        raise ExperimentError(
            f"{files.place} holds annotations of {' and '.join(found) or 'no form that is known'}: xml files of VOC, a "
            "json file of COCO, or txt files of YOLO; where there are several, say which by `,format=...`"
        )
    return found[0]


def read_marks(form: Format, files: Stored, names: list[str], images: Images, faults: Faults) -> Iterator[Marks]:
    """What annotations say, one for each image that some annotate. Those that cannot be read are faults."""
    read = {"voc": _read_voc, "coco": _read_coco, "yolo": _read_yolo}[form]
    return read(files, names, images, faults)


def _read_voc(files: Stored, names: list[str], images: Images, faults: Faults) -> Iterator[Marks]:
    parts = _listed_parts(files, names)
    for name in names:
        if not name.endswith(".xml"):
            continue
        image = images.of(name)
        if image is None:
            _miss_image(faults, files.place / name, "of this name")
            continue
        part = parts.get(PurePosixPath(name).stem) if parts else part_in(image)
        try:
            size, objects = read_objects(files.read(name))
        except ValueError as error:
            faults.add("damaged annotations", f"{files.place / name} is damaged: {error}")
            yield Marks(str(files.place / name), image, None, [], part, damaged=True)
            continue
        yield Marks(str(files.place / name), image, size if all(size) else None, objects, part)


def _miss_image(faults: Faults, annotation: Path | str, which: str) -> None:
    faults.add("annotations without an image", f"{annotation}: there is no image {which}, or several")


def _listed_parts(files: Stored, names: list[str]) -> dict[str, PartName]:
    """The part of each image, by the lists in VOC's ImageSets/Main; empty without any."""
    parts: dict[str, PartName] = {}
    for title in ("trainval", "train", "val", "test"):  # later ones say it more closely
        for name in names:
            if f"/{name}".endswith(f"/{_LISTS}{title}.txt"):
                part = PART_NAMES.get(title, "train")
                parts |= dict.fromkeys((line.split()[0] for line in files.lines(name)), part)
    return parts


def part_in(name: str) -> PartName | None:
    """The part that a folder above is called by, or the name of the file itself: of COCO's lists."""
    path = PurePosixPath(name)
    found = (PART_NAMES.get(folder.lower()) for folder in path.parts[:-1])
    return next((part for part in found if part is not None), None)


def _part_of_list(name: str) -> PartName | None:
    """By a word in the name, such as instances_train2017.json."""
    stem = PurePosixPath(name).stem.lower()
    words = "".join(letter if letter.isalpha() else " " for letter in stem).split()
    return part_in(name) or next((PART_NAMES[word] for word in words if word in PART_NAMES), None)


def _is_coco(files: Stored, name: str) -> bool:
    content = files.read(name)
    return b'"annotations"' in content and b'"images"' in content


def _read_coco(files: Stored, names: list[str], images: Images, faults: Faults) -> Iterator[Marks]:
    seen: set[str] = set()
    for name in names:
        if not name.endswith(".json") or not _is_coco(files, name):
            continue
        path = files.place / name
        try:
            content = json.loads(as_text(files.read(name), path))
            categories = {_key(each["id"]): str(each["name"]) for each in content["categories"]}
            listed, annotations = list(content["images"]), list(content["annotations"])
            if len(categories) < len(content["categories"]):
                raise ValueError("two categories have the same id")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise ExperimentError(f"{path} is damaged, or not COCO's: {type(error).__name__}: {error}") from error
        objects = _coco_objects(annotations, categories, str(path), faults)
        for each in listed:
            marks = _coco_image(each, objects, str(path), name, images, faults)
            if marks is not None and marks.image in seen:
                faults.add("images that are listed twice", f"{path}: {marks.image} is listed before, too")
            elif marks is not None:
                seen.add(marks.image)
                yield marks
        for key, of_none in objects.items():
            faults.add(
                "boxes of images that are not listed",
                f"{path}: image_id {key} has {len(of_none)} boxes, and is no image",
            )


def _key(value: Any) -> str:
    """An id, which some write as a text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{value!r} is no id")
    return str(value)


def _coco_objects(
    annotations: list[Any], categories: dict[str, str], place: str, faults: Faults
) -> dict[str, list[Marked]]:
    """The objects, by the ids of their images."""
    objects: dict[str, list[Marked]] = defaultdict(list)
    for number, each in enumerate(annotations):
        where = f"{place}, annotation {number}"
        try:
            category, image = _key(each["category_id"]), _key(each["image_id"])
            left, top, width, height = (float(value) for value in each["bbox"])
            difficult = bool(each.get("iscrowd", 0))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            faults.add("damaged annotations", f"{where}: {type(error).__name__}: {error}")
            continue
        if category not in categories:
            faults.add("boxes of unknown classes", f"{where}: category_id {category} is no category")
            continue
        objects[image].append(Marked(categories[category], (left, top, left + width, top + height), difficult))
    return objects


def _coco_image(
    each: Any, objects: dict[str, list[Marked]], place: str, name: str, images: Images, faults: Faults
) -> Marks | None:
    """An image of a list; its objects are taken out of `objects`."""
    try:
        key, called = _key(each["id"]), str(each["file_name"])
        size = (int(each["width"]), int(each["height"])) if "width" in each and "height" in each else None
    except (ValueError, LookupError, TypeError) as error:
        faults.add("damaged annotations", f"{place}: an image is damaged: {type(error).__name__}: {error}")
        return None
    own = objects.pop(key, [])
    image = images.called(called, name)
    if image is None:
        _miss_image(faults, place, called)
        return None
    return Marks(
        f"{place}, image {key}", image, size if size and all(size) else None, own, part_in(image) or _part_of_list(name)
    )


def _is_other_text(name: str) -> bool:
    last = PurePosixPath(name).name.lower()
    return last in _OTHER_TEXTS or last.startswith("readme")


def _read_yolo(files: Stored, names: list[str], images: Images, faults: Faults) -> Iterator[Marks]:
    classes = _yolo_classes(files, names)
    for name in names:
        if not name.endswith(".txt"):
            continue
        image = images.of(name)
        if image is None:
            if not _is_other_text(name):
                _miss_image(faults, files.place / name, "of this name")
            continue
        try:
            lines = files.text(name).splitlines()
        except ExperimentError as error:
            faults.add("damaged annotations", str(error))
            yield Marks(str(files.place / name), image, None, [], part_in(image), damaged=True)
            continue
        objects = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                objects.append(_yolo_object(line.split(), classes))
            except LookupError as error:
                faults.add("boxes of unknown classes", f"{files.place / name}, line {number}: {error.args[0]}")
            except ValueError as error:
                faults.add("damaged annotations", f"{files.place / name}, line {number}: {error}")
        yield Marks(str(files.place / name), image, None, objects, part_in(image), relative=True)


def _yolo_object(fields: list[str], classes: list[str] | None) -> Marked:
    """A class, and the middle, width and height of a box in shares of the image's sides."""
    if len(fields) != 5:
        polygon = ": polygons are not read" if len(fields) > 6 and len(fields) % 2 else ""
        raise ValueError(f"{len(fields)} fields instead of class, x, y, width and height{polygon}")
    number = int(fields[0])
    if number < 0 or (classes is not None and number >= len(classes)):
        raise LookupError(f"class {number} is none of the {len(classes or ())} that are named")
    x, y, width, height = (float(field) for field in fields[1:])
    if not all(map(math.isfinite, (x, y, width, height))) or max(abs(x), abs(y), abs(width), abs(height)) > 2:
        raise ValueError("x, y, width and height are shares of the image's sides, from 0 to 1")
    name = str(number) if classes is None else classes[number]
    return Marked(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), False)


def _yolo_classes(files: Stored, names: list[str]) -> list[str] | None:
    """The names of the classes, of data.yaml or classes.txt; None, without these: then they are called by numbers."""
    lists = []
    for name in names:
        last = PurePosixPath(name).name.lower()
        if last.endswith((".yaml", ".yml")):
            lists += [found] if (found := _yaml_names(files, name)) else []
        elif last in ("classes.txt", "labels.txt") or last.endswith(".names"):
            lists.append([line.strip() for line in files.lines(name)])
    if len({tuple(found) for found in lists}) > 1:
        raise ExperimentError(f"{files.place} has several lists of classes, which differ: {lists[0]} and {lists[1]}")
    if lists and len(set(lists[0])) < len(lists[0]):
        raise ExperimentError(f"{files.place}: two classes are called alike: {', '.join(lists[0])}")
    return lists[0] if lists else None


def _yaml_names(files: Stored, name: str) -> list[str] | None:
    try:
        content = yaml.safe_load(files.text(name))
        found = content.get("names") if isinstance(content, dict) else None
        if isinstance(found, dict):
            found = [found[number] for number in range(len(found))]
        return None if found is None else [str(each) for each in found]
    except (yaml.YAMLError, LookupError, TypeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())  # yaml's go over several lines
        raise ExperimentError(f"{files.place / name} is damaged: its names cannot be read ({reason})") from error
