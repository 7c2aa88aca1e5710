"""Files with classes: in a folder for each class, or in a list of files and labels."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from lerac_experiments.data.media import Listing, Medium, is_hidden, left_out_note
from lerac_experiments.data.own.faults import Faults
from lerac_experiments.data.own.places import find_folder, find_place, list_place
from lerac_experiments.data.own.rows import SUFFIXES, RowOptions, Rows, read_rows
from lerac_experiments.data.own.spec import PartName
from lerac_experiments.data.own.splits import PART_NAMES
from lerac_experiments.errors import ExperimentError

_LIST = ""  # what a list is called among the files that it names
NO_CLASS = "files in no folder of a class"


@dataclass(frozen=True)
class FileOptions(RowOptions):
    """Of files with classes.

    Attributes:
        follow_links: whether links that lead out of the folder are followed.
        file: the column of a list that names the files.
        label: the column with their classes.
        split: the column with their parts, if there is one.
    """

    follow_links: bool = False
    file: str = "file"
    label: str = "label"
    split: str = "split"


@dataclass(frozen=True)
class LabelledFiles:
    """Files, the class of each by its name, and the part of each.

    Attributes:
        folder: that names are relative to.
        listed_in: the list, if they are listed in one.
        left_out: what is not among them, and why.
    """

    folder: Path
    names: list[str]
    labels: list[str]
    parts: list[PartName | None]
    left_out: dict[str, str]
    listed_in: Path | None = None

    def take(self, numbers: Sequence[int]) -> "LabelledFiles":
        """Those of these numbers."""
        names, labels = ([column[i] for i in numbers] for column in (self.names, self.labels))
        return LabelledFiles(
            self.folder, names, labels, [self.parts[i] for i in numbers], self.left_out, self.listed_in
        )

    @property
    def source(self) -> str:
        """Where it came from, for the record."""
        return str(self.listed_in or self.folder)

    @property
    def files(self) -> list[tuple[str, Path]]:
        """What is read, for a fingerprint."""
        listed = [] if self.listed_in is None else [(_LIST, self.listed_in)]
        return [*listed, *((name, self.folder / name) for name in self.names)]

    @property
    def left_out_note(self) -> str | None:
        """For whoever reads the results."""
        return left_out_note(Listing([], self.left_out))


def is_list(name: str) -> bool:
    """Whether one of `LabelledFiles.files` is the list that names the others."""
    return name == _LIST


def find_labelled(place: str, medium: Medium, options: FileOptions, faults: Faults) -> LabelledFiles:
    """Those of a list, a folder or an archive.

    Raises:
        Unavailable: there is none.
        ExperimentError: there are no such files in it, or no classes.
    """
    if place.lower().endswith(SUFFIXES):
        return _listed(find_place(place), options, faults)
    return _in_folders(find_folder(place), medium, options, faults)


def _in_folders(folder: Path, medium: Medium, options: FileOptions, faults: Faults) -> LabelledFiles:
    listing = list_place(folder, options.follow_links).only(medium)
    left_out = dict(listing.left_out)
    tops = {PurePosixPath(name).parts[0] for name in listing.names if "/" in name}
    in_parts = any(PART_NAMES.get(top.lower()) == "train" for top in tops)
    if in_parts and (others := sorted(top for top in tops if top.lower() not in PART_NAMES)):
        raise ExperimentError(
            f"{folder} has folders of parts, and beside them {', '.join(others)}: there may be parts alone "
            f"({', '.join(PART_NAMES)}), each with a folder for each class, or folders of classes alone"
        )
    names: list[str] = []
    labels: list[str] = []
    parts: list[PartName | None] = []
    for name in listing.names:
        above = PurePosixPath(name).parts[:-1]
        of_class = above[in_parts:]
        if not of_class:
            left_out[name] = NO_CLASS
            continue
        names.append(name)
        labels.append(of_class[0])
        parts.append(PART_NAMES[above[0].lower()] if in_parts else None)
    found = LabelledFiles(folder, names, labels, parts, left_out)
    if not names:
        note = found.left_out_note
        raise ExperimentError(
            f"there are no {medium.plural} in {folder} in a folder for each class, or for each class in folders train, "
            f"validation and test{f'; {note}' if note else ''}"
        )
    if not in_parts:
        _refuse_one_above(found)
    _note_empty_classes(found, tops if in_parts else {""}, medium, faults)
    return found


def _refuse_one_above(found: LabelledFiles) -> None:
    """Refuses a folder that holds the one with the folders of classes."""
    folders = [PurePosixPath(name).parts[:-1] for name in found.names]
    tops, below = (sorted({path[at] for path in folders if len(path) > at}) for at in (0, 1))
    if len(tops) == 1 and len(below) > 1:
        raise ExperimentError(
            f"{found.folder} has one folder, {tops[0]}, with {', '.join(below[:5])} in it: if these are the classes, "
            f"or the parts, give {found.folder / tops[0]}"
        )


def _note_empty_classes(found: LabelledFiles, within: set[str], medium: Medium, faults: Faults) -> None:
    """Folders of classes without a file."""
    known = {tuple(PurePosixPath(name).parts[: 1 + (top != "")]) for top in within for name in found.names}
    for top in sorted(within):
        with os.scandir(found.folder / top) as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))
        for name in folders:
            path = (top, name) if top else (name,)
            if path not in known and "/".join(path) not in found.left_out:
                message = f"{found.folder.joinpath(*path)} holds no {medium.plural}: remove it, or put some there"
                faults.add(f"classes without {medium.plural}", message)


def _listed(path: Path, options: FileOptions, faults: Faults) -> LabelledFiles:
    rows = read_rows(path, options, faults)
    parts = part_column(rows, options.split)
    files, labels = rows.column(options.file, "file"), rows.column(options.label, "label")
    folder, kept = path.parent, {}
    for at, (name, label) in enumerate(zip(files, labels, strict=True)):
        if not name or not label:
            faults.add("lines without a file or a label", f"{rows.place(at)}: there is no file, or no label")
        elif name in kept:
            faults.add("files that are listed twice", f"{rows.place(at)}: {name} is listed before, too")
        elif not (folder / name).is_file():
            faults.add("files that are missing", f"{rows.place(at)}: there is no file {folder / name}")
        else:
            kept[name] = label, parts[at]
    if not kept:
        raise ExperimentError(f"{path} names no file that is there{faults.first}")
    of_files = list(kept.values())
    return LabelledFiles(folder, list(kept), [label for label, _ in of_files], [part for _, part in of_files], {}, path)


def part_column(rows: Rows, name: str) -> list[PartName | None]:
    """The part of each row, by a column; all None, if there is none of the usual name.

    Raises:
        ExperimentError: there is none of another name, or it says something else.
    """
    if name == FileOptions.split and not rows.has(name):
        return [None] * len(rows)
    parts = [PART_NAMES.get((value or "").lower()) for value in rows.column(name, "split")]
    if None in parts:
        at = parts.index(None)
        raise ExperimentError(
            f"{rows.place(at)}: {name} is {rows.column(name, 'split')[at]!r}, none of {', '.join(PART_NAMES)}: if it "
            "says something else than the part, give the column another name"
        )
    return parts


def numbered(labels: Sequence[str], source: str) -> tuple[Tensor, list[str]]:
    """The classes, int64 [N], and their names, sorted: whole numbers by their values.

    Raises:
        ExperimentError: there are fewer than two.
    """
    names = sorted(set(labels), key=lambda name: (0, int(name), name) if name.isdecimal() else (1, 0, name))
    if len(names) < 2:
        raise ExperimentError(f"{source}: all examples are of one class, {', '.join(names)!r}")
    numbers = {name: number for number, name in enumerate(names)}
    return torch.tensor([numbers[label] for label in labels], dtype=torch.int64), names
