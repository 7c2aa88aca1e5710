"""`images:DIR`: images in a folder for each class, or in such within train, validation and test; or in a list."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lerac_experiments.data.image_folders import NORMALISATION, Framing, ImageFiles
from lerac_experiments.data.media import IMAGES, decode_image
from lerac_experiments.data.own.faults import Fault, Faults
from lerac_experiments.data.own.latest import Latest
from lerac_experiments.data.own.listed import FileOptions, LabelledFiles, find_labelled, is_list, numbered
from lerac_experiments.data.own.places import digest
from lerac_experiments.data.own.spec import Spec
from lerac_experiments.data.own.splits import divide
from lerac_experiments.data.reading import read_file
from lerac_experiments.data.source import Parts, Request, join_notes
from lerac_experiments.errors import ExperimentError

USUAL_SIZE = 64
KEPT_BYTES = 1 << 29
"""Up to which framed images are kept in memory, so that each file is decoded once."""


@dataclass(frozen=True)
class Options(FileOptions):
    """Of images.

    Attributes:
        size: height and width in pixels; None, 64, or less where no image has a shorter side of so many.
    """

    size: int | None = None


class OwnImages(ImageFiles):
    """Images turned as viewers show them: the largest square in the middle of each, scaled.

    Attributes:
        kept: the squares of all parts, uint8 [M, 3, size, size]; None, they are read when they are asked for.
        rows: which of these are those of the examples, int64 [N].
    """

    kept: Tensor | None = None
    rows: Tensor

    def take(self, indices: Tensor, augment_seed: int | None = None) -> "OwnImages":
        taken = super().take(indices, augment_seed)
        if self.kept is not None:
            taken.rows = self.rows[indices]
        return taken

    def decoded(self, path: Path) -> Image.Image:
        return decode_image(read_file(path), path, upright=True)

    def framed(self, image: Image.Image) -> Image.Image:
        from torchvision.transforms import functional  # takes long to import

        square: Image.Image = functional.center_crop(image, [min(image.size)])
        scaled: Image.Image = functional.resize(square, [self.framing.size] * 2)
        return scaled

    def _image(self, index: int) -> Tensor:
        if self.kept is None or self._augment_seed is not None:
            return super()._image(index)
        return self.kept[self.rows[index]].float().div_(255)


def load(spec: Spec, request: Request) -> Parts:
    """Reads all images once, so that damaged ones are found before anything is trained.

    Raises:
        Unavailable: there is no such folder.
        FaultyData: some images cannot be read.
        ExperimentError: there are no images, or too few, or of one class.
    """
    options = spec.options(Options)
    faults = Faults(spec.text, options.skip_damaged)
    found = _files(spec, faults)
    size = request.image_size or options.size or _usual_size(found)
    read = _LATEST.of((found.folder, size, digest(found.files, is_list)), lambda: _read(found, size))
    faults.found += read.damaged
    if not len(read.good):
        raise ExperimentError(f"{found.source}: none of {len(found.names):,} images can be read{faults.first}")
    note, found, images = faults.settle(), found.take(read.good), read.images
    labels, classes = numbered(found.labels, found.source)
    images.targets = labels
    division = divide(found.parts, labels, request, found.source, classes)
    return Parts(
        task="classification",
        classes=len(classes),
        train=images.take(division.train, request.image_seed),
        validation=images.take(division.validation),
        test=images.take(division.test),
        source=spec.place,
        note=join_notes(division.note, division.repeated(read.contents), note, found.left_out_note),
        normalisation=NORMALISATION,
        class_names=tuple(classes),
        left_out={**found.left_out, **faults.named},
    )


def fingerprint(spec: Spec) -> str:
    """Of the files. Raises as `load`, but for images that cannot be read."""
    return digest(_files(spec, Faults(spec.text, skip=True)).files, is_list)


def _files(spec: Spec, faults: Faults) -> LabelledFiles:
    return find_labelled(spec.place, IMAGES, spec.options(Options), faults)


@dataclass(frozen=True)
class _Read:
    """The images that can be read, of all parts, without their classes; and what became of the others.

    Attributes:
        good: their numbers among all.
        contents: hashes of their squares.
    """

    images: OwnImages
    good: list[int]
    contents: list[bytes]
    damaged: list[Fault]


_LATEST: Latest[_Read] = Latest()


def _read(found: LabelledFiles, size: int) -> _Read:
    images = OwnImages(found.folder, found.names, torch.zeros(len(found.names)), Framing.whole(size))
    keep = 3 * size * size * len(found.names) <= KEPT_BYTES
    kept = torch.empty((len(found.names), 3, size, size), dtype=torch.uint8) if keep else None
    good: list[int] = []
    contents, damaged = [], []
    for number in range(len(found.names)):
        try:
            square = np.array(images.framed(images.decoded(images.path(number))))
        except ExperimentError as error:
            damaged.append(Fault("damaged images", str(error)))
            continue
        if kept is not None:
            kept[len(good)] = torch.from_numpy(square).permute(2, 0, 1)
        good.append(number)
        contents.append(hashlib.sha256(square.tobytes()).digest())
    taken = images.take(torch.tensor(good, dtype=torch.int64))
    taken.kept, taken.rows = kept, torch.arange(len(good))
    return _Read(taken, good, contents, damaged)


def _usual_size(found: LabelledFiles) -> int:
    """No image is made larger than the largest of them is, by the headers of the files."""
    largest = 1
    for name in found.names:
        with suppress(Exception):  # damaged ones are told of when they are decoded
            with Image.open(found.folder / name) as image:
                largest = max(largest, min(image.size))
            if largest >= USUAL_SIZE:
                break
    return min(largest, USUAL_SIZE)
