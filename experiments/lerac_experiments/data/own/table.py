"""`table:FILE`: rows of numbers and categories, with a class or a value to predict, in a csv, tsv or jsonl file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lerac_experiments.data.examples import TensorExamples
from lerac_experiments.data.own.faults import Faults
from lerac_experiments.data.own.rows import Rows
from lerac_experiments.data.own.spec import Spec
from lerac_experiments.data.own.splits import divide
from lerac_experiments.data.own.targets import (
    MISSING,
    TargetOptions,
    digest_of_rows,
    good_labels,
    number,
    read_parted,
    targets_of,
)
from lerac_experiments.data.source import Parts, Request, join_notes
from lerac_experiments.errors import ExperimentError

MOST_CATEGORIES = 100
"""Of a column, if it has so many for half of its rows: more look like names or numbers of rows."""

MOST_NUMBERED, FEWEST_OF_NUMBER = 20, 10
"""Labels that are more different numbers than these, of fewer rows each on average, are values."""


@dataclass(frozen=True)
class Options(TargetOptions):
    """Of tables.

    Attributes:
        drop: columns that are not looked at. Given several times.
        categories: columns whose numbers are names of categories. Given several times.
        missing: whether a number that is missing is a fault, or is filled by the mean of those to train with, while one
            more column says so.
    """

    drop: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    missing: Literal["refuse", "fill"] = "refuse"


class TableExamples(TensorExamples):
    """Rows, float32 [B, features].

    Args:
        rows: as they were read, for people.
    """

    def __init__(self, inputs: Tensor, targets: Tensor, rows: list[str]) -> None:
        super().__init__(inputs, targets)
        self._rows = rows

    def told(self, index: int) -> str:
        return self._rows[index]


@dataclass(frozen=True)
class _Column:
    """A column, and what its values are."""

    name: str
    values: list[str]
    numeric: bool

    def features(self, train: list[int], fill: bool) -> list[Tensor]:
        """Each float32 [N]: numbers scaled to mean 0 and deviation 1 of the rows to train with; of categories of these,
        1 in the row of each."""
        if not self.numeric:
            known = sorted({self.values[at] for at in train})
            return [torch.tensor([float(value == category) for value in self.values]) for category in known]
        numbers = torch.tensor([number(value) for value in self.values], dtype=torch.float64)
        missing = numbers.isnan()
        of_train = numbers[train]
        of_train = of_train[~of_train.isnan()]
        if not len(of_train):
            raise ExperimentError(
                f"the column {self.name!r} has no number among the rows to train with: drop={self.name}"
            )
        deviation, mean = torch.std_mean(of_train, correction=0)
        if not deviation.isfinite():
            raise ExperimentError(f"the column {self.name!r} has numbers that are too large, up to {of_train.max():g}")
        scaled = ((numbers - mean) / deviation.clamp_min(1e-12)).nan_to_num(0.0).float()
        return [scaled, missing.float()] if fill and missing.any() else [scaled]


def fingerprint(spec: Spec) -> str:
    """Of the files. Raises ExperimentError if one cannot be read."""
    return digest_of_rows(spec.place, spec.options(Options))


def load(spec: Spec, request: Request) -> Parts:
    """Reads the files.

    Raises:
        Unavailable: there is no such file.
        FaultyData: some rows cannot be used.
        ExperimentError: a file cannot be read, a column is missing or of no use, or there are too few rows or classes.
    """
    options = spec.options(Options)
    faults = Faults(spec.text, options.skip_damaged)
    rows, parts = read_parted(spec.place, options, faults)
    source = str(rows.source)
    columns, unused = _columns(rows, options)
    chosen = _usable(rows, columns, options, faults)
    note = faults.settle()
    if not chosen:
        raise ExperimentError(f"{source} holds no rows that can be used{faults.first}")
    labels = rows.column(options.label, "label")
    targets, classes = targets_of([labels[at] or "" for at in chosen], options.task, source)
    _refuse_values(classes, len(chosen), source, options)
    kept = [_Column(column.name, [column.values[at] for at in chosen], column.numeric) for column in columns]
    division = divide([parts[at] for at in chosen], targets if classes else None, request, source, classes)
    train = division.train.tolist()
    features = [feature for column in kept for feature in column.features(train, options.missing == "fill")]
    inputs = torch.stack(features, dim=1)
    contents = list(zip(*(column.values for column in kept), strict=True))
    of_train, of_validation, of_test = (
        TableExamples(inputs[numbers], targets[numbers], [_told(kept, at) for at in numbers.tolist()])
        for numbers in division.numbers
    )
    unseen = _unseen(kept, division.train, division.test)
    return Parts(
        options.task,
        len(classes) or 1,
        of_train,
        of_validation,
        of_test,
        source=spec.place,
        note=join_notes(division.note, division.repeated(contents), unseen, unused, note),
        class_names=tuple(classes),
        left_out=faults.named,
    )


def _columns(rows: Rows, options: Options) -> tuple[list[_Column], str | None]:
    """Those to predict by, and a note of those that are of no use."""
    for option, named in (("drop", options.drop), ("categories", options.categories)):
        for name in named:
            rows.column(name, option)
    split = options.split if rows.has(options.split) else ""
    names = [name for name in rows.columns if name not in (options.label, split, "", *options.drop)]
    columns = [_column(rows, name, options) for name in names]
    used = [column for column in columns if any(column.values)]
    if not used:
        raise ExperimentError(f"{rows.source} has no column beside {options.label!r} to predict by")
    unused = ["one without a name"] if "" in rows.columns else []
    unused += [f"{column.name!r}, which is empty" for column in columns if column not in used]
    return used, f"columns left out: {', '.join(unused)}" if unused else None


def _usable(rows: Rows, columns: Sequence[_Column], options: Options, faults: Faults) -> list[int]:
    """The numbers of the rows that can be used."""
    good = good_labels(rows, options, faults)
    for column in columns:
        good -= _bad_cells(column, rows, options, faults)
    return sorted(good)


def _column(rows: Rows, name: str, options: Options) -> _Column:
    """Of numbers if at least half of those values are that are there."""
    values = [value or "" for value in rows.column(name, "drop")]
    there = [value for value in values if value.lower() not in MISSING]
    numbers = sum(not math.isnan(number(value)) for value in there)
    numeric = name not in options.categories and bool(there) and 2 * numbers >= len(there)
    if not numeric and name not in options.categories and _with_commas(there):
        raise ExperimentError(
            f"{rows.source}: the column {name!r} has numbers with commas, such as {there[0]!r}: write them with a "
            f"decimal point and no other marks; or, if they are names, add `,categories={name}`"
        )
    different = len(set(values))
    if not numeric and different > MOST_CATEGORIES and 2 * different > len(values):
        raise ExperimentError(
            f"{rows.source}: the column {name!r} has {different:,} different values in {len(values):,} rows, which say "
            f"nothing of other rows: leave it out by `,drop={name}`"
        )
    return _Column(name, values, numeric)


def _with_commas(values: Sequence[str]) -> bool:
    """Whether at least half of them would be numbers without commas."""
    numbers = sum("," in value and not math.isnan(number(value.replace(",", ""))) for value in values)
    return bool(values) and 2 * numbers >= len(values)


def _bad_cells(column: _Column, rows: Rows, options: Options, faults: Faults) -> set[int]:
    """The rows that cannot be used because of a column."""
    bad = set()
    for at, value in enumerate(column.values if column.numeric else ()):
        if value.lower() in MISSING:
            if options.missing == "refuse":
                message = f"{rows.place(at)}: {column.name} is missing; `,missing=fill` goes on with the mean"
                faults.add("rows with missing numbers", message)
                bad.add(at)
        elif math.isnan(number(value)):
            message = f"{rows.place(at)}: {column.name} is {value!r} among numbers: see the option categories"
            faults.add("rows with texts among numbers", message)
            bad.add(at)
    return bad


def _refuse_values(classes: Sequence[str], rows: int, source: str, options: Options) -> None:
    """Refuses values that would be taken for classes: numbers with parts, or many that hardly come twice."""
    numbers = [number(name) for name in classes]
    if any(math.isnan(value) for value in numbers):
        return
    many = len(classes) > MOST_NUMBERED and rows < FEWEST_OF_NUMBER * len(classes)
    if many or any(not value.is_integer() for value in numbers):
        raise ExperimentError(
            f"{source}: {options.label} has {len(classes):,} different numbers in {rows:,} rows, such as {classes[0]}: "
            "if they are values and no classes, add `,task=regression`"
        )


def _unseen(columns: Sequence[_Column], train: Tensor, test: Tensor) -> str | None:
    """A note if rows to test with have categories that those to train with have not."""
    of_train, of_test = train.tolist(), test.tolist()
    rows = set()
    for column in columns:
        if not column.numeric:
            known = {column.values[at] for at in of_train}
            rows |= {at for at in of_test if column.values[at] not in known}
    return (
        f"{len(rows):,} of {len(of_test):,} test examples have a category that none to train with has" if rows else None
    )


def _told(columns: Sequence[_Column], at: int) -> str:
    return ", ".join(f"{column.name}={column.values[at]}" for column in columns)
