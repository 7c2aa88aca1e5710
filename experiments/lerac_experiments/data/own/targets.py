"""Rows of one's own with something to predict, a class or a value; in one file, or in one for each part."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lerac_experiments.data.own.faults import Faults
from lerac_experiments.data.own.listed import numbered, part_column
from lerac_experiments.data.own.places import digest, find_place
from lerac_experiments.data.own.rows import RowOptions, Rows, read_rows
from lerac_experiments.data.own.spec import PartName

OwnTask = Literal["classification", "regression"]

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""What stands for a value that is not known, in small letters."""


@dataclass(frozen=True)
class TargetOptions(RowOptions):
    """Of rows with something to predict.

    Attributes:
        label: the column with the class, or the value.
        split: the column with the part of each row, if there is one.
        task: whether label is a class, or a value.
        test: a file with rows to test with.
        validation: a file with rows to validate with.
    """

    label: str = "label"
    split: str = "split"
    task: OwnTask = "classification"
    test: str | None = None
    validation: str | None = None


def _places(place: str, options: TargetOptions) -> list[tuple[PartName, Path]]:
    """The files, and the part that each is, if there are several."""
    named: dict[PartName, str | None] = {"train": place, "validation": options.validation, "test": options.test}
    return [(part, find_place(name)) for part, name in named.items() if name is not None]


def digest_of_rows(place: str, options: TargetOptions) -> str:
    """Of all of the files. Raises Unavailable or ExperimentError if one cannot be read."""
    return digest(_places(place, options), whole=lambda _: True)


def read_parted(place: str, options: TargetOptions, faults: Faults) -> tuple[Rows, list[PartName | None]]:
    """The rows of all files, and the part that each is in: by its file, or else by a column; None, if neither says it.

    Raises:
        Unavailable: there is no such file.
        ExperimentError: as `read_rows`; or files have other columns.
    """
    files = _places(place, options)
    rows = read_rows(files[0][1], options, faults)
    if len(files) == 1:
        return rows, part_column(rows, options.split)
    parts: list[PartName | None] = ["train"] * len(rows)
    for part, path in files[1:]:
        more = read_rows(path, options, faults)
        rows = rows.and_those(more)
        parts += [part] * len(more)
    return rows, parts


def number(text: str | None) -> float:
    """A finite number; NaN for anything else."""
    try:
        value = float(text or "")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) and "_" not in (text or "") else math.nan


def good_labels(rows: Rows, options: TargetOptions, faults: Faults) -> set[int]:
    """The numbers of the rows whose class or value can be used."""
    good = set()
    for at, value in enumerate(rows.column(options.label, "label")):
        if options.task == "regression" and math.isnan(number(value)):
            faults.add(
                "rows whose label is no number", f"{rows.place(at)}: {options.label} is {value!r}, no finite number"
            )
        elif options.task == "classification" and not value:
            faults.add("rows without a label", f"{rows.place(at)}: {options.label} is empty")
        else:
            good.add(at)
    return good


def targets_of(labels: list[str], task: OwnTask, source: str) -> tuple[Tensor, list[str]]:
    """The classes int64 [N] with their names, or the values float32 [N] without any.

    Raises:
        ExperimentError: there are fewer than two classes.
    """
    if task == "regression":
        return torch.tensor([number(label) for label in labels]), []
    return numbered(labels, source)
