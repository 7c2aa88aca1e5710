"""Images in files, which are decoded when a batch asks for them."""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from lerac_experiments.data.examples import Examples
from lerac_experiments.data.image_augmentation import cut_and_mirrored
from lerac_experiments.data.media import (
    HIDDEN,
    IMAGES,
    Listing,
    decode_image,
    image_tensor,
    is_hidden,
    list_media,
    read_each,
)
from lerac_experiments.data.reading import read_file
from lerac_experiments.data.source import Parts, Request, Task, draw, draw_test, join_notes, size_note
from lerac_experiments.errors import ExperimentError

_Files = TypeVar("_Files", bound="ImageFiles")

_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
_DEVIATION = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
NORMALISATION = _MEAN, _DEVIATION


@dataclass(frozen=True)
class Framing:
    """How images of various sizes become squares of one: their shorter side is scaled to `shorter` pixels, and a square
    of `size` cut out of the centre."""

    size: int
    shorter: int

    @classmethod
    def usual(cls, size: int) -> "Framing":
        """As for ImageNet: of 224 after scaling to 256, or in that proportion."""
        return cls(size, round(size * 256 / 224))

    @classmethod
    def whole(cls, size: int) -> "Framing":
        """The largest square there is."""
        return cls(size, size)


class ImageFiles(Examples):
    """Images in the files of a folder. Inputs are float32 [B, 3, size, size], normalised by the mean and deviation of
    ImageNet, as is usual.

    Args:
        names: of the files in the folder.
        targets: classes int64 [N], or values float [N].
        augment_seed: of crops and mirrors in place of the framing; None, none.
    """

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        targets: Tensor,
        framing: Framing,
        augment_seed: int | None = None,
    ) -> None:
        self.folder = folder
        # An array: worker processes share it, where a million strings were copied as their references are counted.
        self.names: NDArray[np.bytes_] = np.array([os.fsencode(name) for name in names], dtype=np.bytes_)
        self.framing = framing
        self.targets = targets
        self._augment_seed = augment_seed

    def inputs_of(self, indices: list[int]) -> Tensor:
        return torch.stack(read_each(self._image, indices)).sub_(_MEAN).div_(_DEVIATION)

    def path(self, index: int) -> Path:
        """The file of an image."""
        return self.folder / os.fsdecode(bytes(self.names[index]))

    def take(self: _Files, indices: Tensor, augment_seed: int | None = None) -> _Files:
        """The images of these numbers, int64 [M], in their order."""
        taken = copy.copy(self)
        taken.names, taken.targets, taken._augment_seed = (
            self.names[indices.numpy()],
            self.targets[indices],
            augment_seed,
        )
        return taken

    def told(self, index: int) -> str:
        return f"{self.path(index).relative_to(self.folder)}, {super().told(index)}"

    def decoded(self, path: Path) -> Image.Image:
        """The image in a file."""
        return decode_image(read_file(path), path)

    def framed(self, image: Image.Image) -> Image.Image:
        """A square of it, if it is not augmented."""
        from torchvision.transforms import functional  # takes long to import

        cut: Image.Image = functional.center_crop(functional.resize(image, [self.framing.shorter]), [self.framing.size])
        return cut

    def _image(self, index: int) -> Tensor:
        image = self.decoded(self.path(index))
        if self._augment_seed is None:
            return image_tensor(self.framed(image))
        return image_tensor(cut_and_mirrored(image, self.framing.size, (self._augment_seed, self.epoch, index)))


def image_parts(
    train: ImageFiles,
    test: ImageFiles,
    classes: int,
    request: Request,
    source: str,
    about: str | None = None,
    left_out: str | None = None,
    *,
    published: tuple[int, int] | None,
    task: Task = "classification",
    class_names: tuple[str, ...] = (),
) -> Parts:
    """A data set of images in files, split.

    Args:
        published: how many images to train and to test with there are; None, the split is not the official one.
    """
    chosen, held_out = draw(len(train), request)
    sizes = None if published is None else size_note(published, len(train), len(test))
    return Parts(
        task=task,
        classes=classes,
        train=train.take(chosen, request.image_seed),
        validation=train.take(held_out),
        test=test.take(draw_test(len(test), request)),
        source=source,
        note=join_notes(about, sizes, left_out),
        normalisation=NORMALISATION,
        class_names=class_names,
    )


def list_images(folder: Path, classes: Sequence[str], within: str = "") -> tuple[Listing, Tensor]:
    """The images that lie in one folder for each class, or in folders in it.

    Args:
        within: where in the folder of a class its images are.

    Returns:
        Their names in `folder`, in the order of the classes and sorted by name within, and their classes, int64.

    Raises:
        ExperimentError: the folder of a class is missing, or without images.
    """
    images = Listing([], {})
    counts = []
    for name in classes:
        prefix = os.path.join(name, within, "")
        found = list_media(folder / prefix, IMAGES)
        images.names.extend(prefix + file for file in found.names)
        images.left_out.update((prefix + file, reason) for file, reason in found.left_out.items())
        counts.append(len(found.names))
    return images, torch.arange(len(classes)).repeat_interleave(torch.tensor(counts))


def list_classes(folder: Path) -> Listing:
    """The names of the folders in a folder, sorted. Raises ExperimentError naming it if there are none."""
    names, left_out = [], {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    left_out[entry.name] = HIDDEN
                elif entry.is_dir():
                    names.append(entry.name)
                else:
                    left_out[entry.name] = "files beside the folders of classes"
    except OSError as error:
        raise ExperimentError(f"cannot read {folder}: {error}") from error
    if not names:
        raise ExperimentError(f"there are no folders in {folder}, where one for each class is expected")
    return Listing(sorted(names), left_out)
