"""`boxes:DIR`: images with boxes around objects, annotated in the form of PASCAL VOC, COCO or YOLO."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from lerac_experiments.data.media import Listing, decode_image, left_out_note
from lerac_experiments.data.own.box_formats import Format, Images, Marks, format_of, part_in, read_marks
from lerac_experiments.data.own.faults import Fault, Faults
from lerac_experiments.data.own.latest import Latest
from lerac_experiments.data.own.places import digest, find_folder, list_place
from lerac_experiments.data.own.spec import PartName, Spec
from lerac_experiments.data.own.splits import divide
from lerac_experiments.data.source import Parts, Request, join_notes
from lerac_experiments.data.stored import Stored
from lerac_experiments.data.voc import Annotation, BoxedImages, annotation_of, cut_to
from lerac_experiments.errors import ExperimentError

_ROUNDING = 0.51
"""Pixels by which a box may jut out of its image by the rounding of its edges."""
_ANNOTATIONS = (".xml", ".json", ".txt", ".yaml", ".yml", ".names")


@dataclass(frozen=True)
class Options:
    """Of boxes.

    Attributes:
        format: None, the one that there is.
        backgrounds: whether images without an annotation are ones without objects.
        follow_links: whether links that lead out of the folder are followed.
    """

    format: Format | None = None
    backgrounds: bool = False
    follow_links: bool = False
    skip_damaged: bool = False


@dataclass(frozen=True)
class _Read:
    """What has been read, of all parts.

    Attributes:
        contents: hashes of the images.
        left_out: images that are not among them, and why.
    """

    annotations: list[Annotation]
    contents: list[bytes]
    parts: list[PartName | None]
    classes: list[str]
    note: str | None
    left_out: dict[str, str]
    faults: list[Fault]


_LATEST: Latest[_Read] = Latest()


def fingerprint(spec: Spec) -> str:
    """Of images and annotations. Raises ExperimentError if one cannot be read."""
    return _digest(*_listed(spec))


def load(spec: Spec, request: Request) -> Parts:
    """Reads all annotations, and each image once, so that damaged ones are found before anything is trained.

    Raises:
        Unavailable: there is no such folder.
        FaultyData: some images or boxes cannot be used.
        ExperimentError: there are no images, no annotations, or too few.
    """
    options = spec.options(Options)
    files, listing = _listed(spec)
    key = files.place, options.format, options.backgrounds, _digest(files, listing)
    read = _LATEST.of(key, lambda: _read(files, listing, options))
    faults = Faults(spec.text, options.skip_damaged, read.faults)
    note, source = faults.settle(), str(files.place)
    if not read.classes:
        raise ExperimentError(f"{source} holds no box that can be used{faults.first}")
    division = divide(read.parts, None, request, source)
    left_out = {**listing.left_out, **read.left_out}
    train, validation, test = (
        BoxedImages(files, [read.annotations[at] for at in numbers.tolist()]) for numbers in division.numbers
    )
    return Parts(
        "detection",
        len(read.classes) + 1,
        train,
        validation,
        test,
        source=spec.place,
        note=join_notes(
            division.note, division.repeated(read.contents), read.note, note, left_out_note(Listing([], left_out))
        ),
        class_names=tuple(read.classes),
        left_out={**left_out, **faults.named},
    )


def _is_annotation(name: str) -> bool:
    return name.lower().endswith(_ANNOTATIONS)


def _listed(spec: Spec) -> tuple[Stored, Listing]:
    """The images and annotations of the folder."""
    folder = find_folder(spec.place)
    listing = list_place(folder, spec.options(Options).follow_links)
    images = Images(listing.names)
    wanted = {*images.names, *filter(_is_annotation, listing.names)}
    others = {name: PurePosixPath(name).suffix.lower() or "no suffix" for name in listing.names if name not in wanted}
    return Stored(folder), Listing(sorted(wanted), {**listing.left_out, **others})


def _digest(files: Stored, listing: Listing) -> str:
    return digest(((name, files.place / name) for name in listing.names), _is_annotation)


def _read(files: Stored, listing: Listing, options: Options) -> _Read:
    """The images and boxes that can be used."""
    faults = Faults("", skip=True)
    images = Images(listing.names)
    if not images.names:
        raise ExperimentError(f"there are no images in {files.place}")
    form = options.format or format_of(listing.names, files)
    marks = _once_each(read_marks(form, files, listing.names, images, faults), faults)
    left_out = {}
    marks += _backgrounds(images, marks, files, options, faults)
    marks = [each for each in marks if not each.damaged]
    if any(each.part is not None for each in marks):  # the lists of VOC need not name all
        left_out = {each.image: "images in no part" for each in marks if each.part is None}
        marks = [each for each in marks if each.part is not None]
    found = [each for marked in marks if (each := _usable(marked, files, faults)) is not None]
    classes = sorted({name for each in found for _, name, _ in each.objects})
    numbers = {name: number for number, name in enumerate(classes, 1)}
    annotations = [
        annotation_of(each.image, each.size, [(box, numbers[name], difficult) for box, name, difficult in each.objects])
        for each in found
    ]
    cut = sum(each.cut for each in found)
    note = f"{cut:,} boxes jut out of their images, and are cut off there" if cut else None
    contents, parts = [each.content for each in found], [each.part for each in found]
    return _Read(annotations, contents, parts, classes, note, left_out, faults.found)


def _once_each(marks: Iterable[Marks], faults: Faults) -> list[Marks]:
    """The first annotation of each image."""
    first: dict[str, Marks] = {}
    for each in marks:
        if first.setdefault(each.image, each) is not each:
            message = f"{each.place}: {each.image} is annotated by {first[each.image].place}, too"
            faults.add("images that are annotated twice", message)
    return list(first.values())


def _backgrounds(
    images: Images, marks: Iterable[Marks], files: Stored, options: Options, faults: Faults
) -> list[Marks]:
    """The images that nothing annotates, if they are to be ones without objects; else they are faults."""
    annotated = {each.image for each in marks}
    without = [name for name in images.names if name not in annotated]
    if options.backgrounds:
        return [Marks(str(files.place / name), name, None, [], part_in(name)) for name in without]
    for name in without:
        message = f"{files.place / name} has no annotation; `,backgrounds` takes such images as ones without objects"
        faults.add("images without annotations", message)
    return []


@dataclass(frozen=True)
class _Usable:
    """An image that can be read, with those of its boxes that can be used."""

    image: str
    size: tuple[int, int]
    content: bytes
    """A hash of its pixels."""
    objects: list[tuple[list[float], str, bool]]
    part: PartName | None
    cut: int
    """How many boxes jut out of it."""


def _usable(marks: Marks, files: Stored, faults: Faults) -> _Usable | None:
    path = files.place / marks.image
    try:
        image = decode_image(files.read(marks.image), path)
    except ExperimentError as error:
        faults.add("damaged images", str(error))
        return None
    size = image.size
    if marks.size not in (None, size):
        turned = ", which is how it is shown when it is turned as its Exif tag says" if marks.size == size[::-1] else ""
        message = f"{path} is of {size} pixels, and {marks.place} says {marks.size}{turned}"
        faults.add("images of other sizes than annotated", message)
        return None
    scale = size if marks.relative else (1, 1)
    objects, cut = [], 0
    for each in marks.objects:
        left, top, right, bottom = each.edges
        edges = (left * scale[0], top * scale[1], right * scale[0], bottom * scale[1])
        box = cut_to(edges, size)
        if not each.name.strip():
            faults.add("boxes of unknown classes", f"{marks.place}: a box has no class")
        elif box is None:
            shown = ", ".join(f"{edge:g}" for edge in edges)
            message = f"{marks.place}: the box {shown} of {each.name!r} is empty, or not in the image of {size} pixels"
            faults.add("boxes that are empty or outside", message)
        else:
            objects.append((box, each.name, each.difficult))
            cut += any(abs(edge - kept) > _ROUNDING for edge, kept in zip(edges, box, strict=True))
    content = hashlib.sha256(image.tobytes()).digest()
    return _Usable(marks.image, size, content, objects, marks.part, cut)
