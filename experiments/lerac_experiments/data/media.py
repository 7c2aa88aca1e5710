"""Images and recordings in files, for every data set that has some: which files are, what is left out and why, and how
they are decoded."""

import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from lerac_experiments.errors import ExperimentError

HIDDEN = "hidden files or folders"
READ_ALREADY = "folders that are read already, by another link or name"

Links = Literal["of files", "inside", "all"]
"""Which are followed: those to files, wherever these are; those to files and folders in the folder itself; all."""

_REASONS_SHOWN = 5
_STREAMED = (0, 0xFFFFFFFF)  # what writes a file that it cannot go back in says its length is

_T = TypeVar("_T")


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none that its user has put there, by its name."""
    # The second is where macOS puts, into archives, what it knows of files beside their content.
    return name.startswith(".") or name == "__MACOSX"


@dataclass(frozen=True)
class Medium:
    """A kind of files, by the suffixes of their names, in small letters."""

    plural: str
    suffixes: tuple[str, ...]

    def __contains__(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes)


IMAGES = Medium("images", (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"))
SOUNDS = Medium("recordings", (".wav", ".flac", ".ogg"))
ALL_SOUNDS = Medium("recordings", (*SOUNDS.suffixes, ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".w64"))
"""Also those that no published data set comes in."""


@dataclass(frozen=True)
class Listing:
    """Files, by their names in a folder or an archive, with `/`.

    Attributes:
        names: sorted.
        left_out: what is not among them, and why.
    """

    names: list[str]
    left_out: dict[str, str]

    @classmethod
    def of(cls, names: Iterable[str]) -> "Listing":
        """The files of these names, without hidden ones; names of folders end with `/`."""
        found, left_out = [], {}
        for name in names:
            parts = PurePosixPath(name).parts
            first_hidden = next((at for at, part in enumerate(parts, 1) if is_hidden(part)), None)
            if first_hidden is not None:
                left_out["/".join(parts[:first_hidden])] = HIDDEN
            elif not name.endswith("/"):
                found.append(name)
        return cls(sorted(found), left_out)

    def under(self, folder: str) -> "Listing":
        """What lies in a folder called so, wherever that is."""

        def inside(name: str) -> bool:
            return folder in PurePosixPath(name).parts[:-1]

        left_out = {name: reason for name, reason in self.left_out.items() if inside(name)}
        return Listing([*filter(inside, self.names)], left_out)

    def only(self, medium: Medium) -> "Listing":
        """The files of a kind."""
        others = {name: PurePosixPath(name).suffix.lower() or "no suffix" for name in self.names if name not in medium}
        return Listing([name for name in self.names if name in medium], {**self.left_out, **others})


def left_out_note(*listings: Listing) -> str | None:
    """What was left out, for whoever reads the results; None, nothing was."""
    counts = Counter(reason for listing in listings for reason in listing.left_out.values())
    reasons = sorted(counts, key=lambda reason: (-counts[reason], reason))
    shown = [f"{reason} ({counts[reason]:,})" for reason in reasons[:_REASONS_SHOWN]]
    if others := sum(counts[reason] for reason in reasons[_REASONS_SHOWN:]):
        shown.append(f"others ({others:,})")
    return f"left out: {', '.join(shown)}" if shown else None


def list_folder(folder: Path, links: Links = "of files") -> Listing:
    """The files in a folder and in the folders in it. Links that are not followed are left out.

    Raises:
        ExperimentError: it cannot be read. The message names it.
    """
    names: list[str] = []
    left_out: dict[str, str] = {}
    try:
        root = folder.resolve()
        # Links come last: so each folder is read once, by its own name if it lies here, and none goes in a circle.
        folders: list[tuple[str, Path]] = [("", root)]
        linked: list[tuple[str, Path]] = []
        read: set[Path] = set()
        while folders or linked:
            if not folders:
                linked.sort(reverse=True)
            within, real = (folders or linked).pop()
            if real in read:
                left_out[within.rstrip("/")] = READ_ALREADY
                continue
            read.add(real)
            with os.scandir(folder / within) as entries:
                for entry in entries:
                    name = within + entry.name
                    if is_hidden(entry.name):
                        left_out[name] = HIDDEN
                    elif entry.is_file(follow_symlinks=False):  # as nearly all are
                        names.append(name)
                    elif entry.is_dir(follow_symlinks=False):
                        folders.append((f"{name}/", real / entry.name))
                    elif (target := _target(entry)) is None:
                        left_out[name] = "broken links or no files"
                    elif (refused := _refused(target, root, links)) is not None:
                        left_out[name] = refused
                    elif target.is_dir():
                        linked.append((f"{name}/", target))
                    else:
                        names.append(name)
    except OSError as error:
        raise ExperimentError(f"cannot read {folder}: {error}") from error
    return Listing(sorted(names), left_out)


def _target(entry: os.DirEntry[str]) -> Path | None:
    """The file or folder that a link leads to, without links on the way; None, there is none, or it is no link."""
    try:
        target = Path(entry.path).resolve(strict=True) if entry.is_symlink() else None
    except (OSError, RuntimeError):  # to nowhere, or in a circle
        return None
    return target if target is not None and (target.is_file() or target.is_dir()) else None


def _refused(target: Path, root: Path, links: Links) -> str | None:
    """Why a link is not followed; None, it is."""
    if links == "of files":
        return "links to folders" if target.is_dir() else None
    return None if links == "all" or target.is_relative_to(root) else "links out of the folder"


def list_media(folder: Path, medium: Medium) -> Listing:
    """The files of a kind in a folder, as `list_folder`. Raises ExperimentError naming it if there are none."""
    listing = list_folder(folder).only(medium)
    if not listing.names:
        note = left_out_note(listing)
        raise ExperimentError(f"there are no {medium.plural} in {folder}" + (f"; {note}" if note else ""))
    return listing


def read_each(read: Callable[[_T], Tensor], wanted: Iterable[_T]) -> list[Tensor]:
    """Reads files. Raises ExperimentError that names the first that cannot be, and says how many of these cannot."""
    tensors, errors = [], []
    for one in wanted:
        try:
            tensors.append(read(one))
        except ExperimentError as error:  # noqa: PERF203 (reading takes far longer)
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ExperimentError(f"{errors[0]}; of {len(errors) + len(tensors):,} files {len(errors):,} cannot be read")
    return tensors


def decode_image(content: bytes, path: Path, upright: bool = False) -> Image.Image:
    """An image in RGB; of an animation the first. Raises ExperimentError naming the file if it is damaged.

    Args:
        upright: whether it is turned as its Exif tag says, which is how viewers show it.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            turned = upright and image.getexif().get(ExifTags.Base.Orientation, 1) != 1
            return _in_rgb(ImageOps.exif_transpose(image) if turned else image)
    except UnidentifiedImageError:  # which tells of an object in memory
        raise ExperimentError(f"{path} is damaged, or no image: it is of no format that is known") from None
    except Exception as error:  # what a damaged image raises can be anything
        raise ExperimentError(f"{path} is damaged, or no image: {error}") from error


def _in_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        # Pillow would cut off what is above 255. Of colours in 16 bits it takes the higher byte, too.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels are numbers of 32 bits (mode {image.mode}), whose range is not known")
    if image.mode == "P" and "transparency" in image.info:
        return image.convert("RGBA").convert("RGB")  # the same, without a warning
    return image.convert("RGB")


def image_tensor(image: Image.Image) -> Tensor:
    """Float32 [3, H, W], from 0 to 1."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)


def decode_sound(content: bytes, path: Path, samples: int) -> tuple[Tensor, int]:
    """The first samples of a recording, float32 [at most samples, channels], from -1 to 1, and its rate in Hz.

    Raises:
        ExperimentError: it is damaged or cut off, also after these. The message names the file.
    """
    _refuse_cut_off(content, path)
    with _opened(content, path) as file:
        # What the file says of its length is not believed: the array would be allocated.
        waveform = file.read(samples, dtype="float32", always_2d=True)
        complete = len(waveform) >= min(samples, file.frames)
        if file.frames > samples:
            file.seek(file.frames - 1)
            complete = complete and len(file.read(1)) > 0
        if not complete:
            raise ValueError(f"it is cut off before its end at {file.frames} samples")
        return torch.from_numpy(waveform), file.samplerate


def sound_rate(content: bytes, path: Path) -> int:
    """The rate of a recording in Hz, by its header. Raises ExperimentError naming the file if that is damaged."""
    with _opened(content, path) as file:
        return int(file.samplerate)


@contextmanager
def _opened(content: bytes, path: Path) -> Iterator[Any]:
    """A recording, as soundfile has it. What that raises becomes an ExperimentError."""
    import soundfile  # It needs a library of the system, and only sound needs it.

    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            yield file
    except (soundfile.SoundFileError, ValueError, MemoryError) as error:
        reason = getattr(error, "error_string", error)  # without the name of an object in memory
        raise ExperimentError(f"cannot read {path}: {reason}") from error


def _refuse_cut_off(content: bytes, path: Path) -> None:
    """Finds the ends that libsndfile takes a recording to have where they have been cut off."""
    length = int.from_bytes(content[4:8], "little")
    if content[:4] == b"RIFF" and length not in _STREAMED and length + 8 > len(content) + 1:
        raise ExperimentError(f"{path} is cut off: it announces {length + 8} bytes, and has {len(content)}")
    last_page = content[content.rfind(b"OggS") :]
    if content[:4] == b"OggS" and not _is_last_page(last_page):
        raise ExperimentError(f"{path} is cut off: its last page is not marked as the last, or not complete")
    if (announced := _mp3_length(content)) is not None and announced > len(content):
        raise ExperimentError(f"{path} is cut off: it announces {announced} bytes, and has {len(content)}")


def _mp3_length(content: bytes) -> int | None:
    """The bytes that an MP3 file says it has, behind its tag, in the first frame; None, it does not say."""
    start = 0
    if content[:3] == b"ID3" and len(content) > 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(content[6:10], (21, 14, 7, 0), strict=True))
    first = content[start : start + 64]  # header, up to 32 bytes of side information, the mark, flags, two numbers
    at = max(first.find(b"Xing"), first.find(b"Info"))
    if first[:1] != b"\xff" or at < 0 or len(first) < at + 16 or first[at + 7] & 3 != 3:
        return None
    return start + int.from_bytes(first[at + 12 : at + 16], "big")


def _is_last_page(page: bytes) -> bool:
    """Of Ogg: a header of 27 bytes, which ends with the number of segments; their sizes; segments."""
    return len(page) >= 27 and bool(page[5] & 4) and len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
