"""`table:`: tables of numbers and categories as people have them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.tests.data.own.helpers import counts, faulty, load, refused, write

COLOURS = ("red", "green", "blue")


def table(rows: int = 30, more: str = "") -> str:
    lines = [f"{i},{COLOURS[i % 3]},{'yes' if i % 2 else 'no'}" for i in range(rows)]
    return "\n".join(["length,colour,label", *lines]) + "\n" + more


def inputs_of(part: object) -> Tensor:
    inputs = part.__getitems__([*range(len(part))]).inputs  # type: ignore[attr-defined, arg-type]
    assert isinstance(inputs, Tensor)
    return inputs


def test_numbers_are_scaled_and_categories_are_one_of_many(tmp_path: Path) -> None:
    parts = load(f"table:{write(tmp_path, {'a.csv': table()})}/a.csv")
    assert (parts.classes, parts.class_names, counts(parts)) == (2, ("no", "yes"), (22, 2, 6))
    train = inputs_of(parts.train)
    assert train.shape == (22, 1 + 3)
    assert train[:, 0].mean().abs() < 1e-6
    assert train[:, 0].std(correction=0) == pytest.approx(1.0)
    assert (train[:, 1:].sum(1) == 1).all()
    assert set(train[:, 1:].unique().tolist()) == {0, 1}
    assert parts.train.told(0).startswith("length=")


def test_columns_are_chosen(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": table()})
    assert inputs_of(load(f"table:{tmp_path}/a.csv,drop=colour").train).shape[1] == 1
    assert inputs_of(load(f"table:{tmp_path}/a.csv,label=colour,drop=label").train).shape[1] == 1
    assert inputs_of(load(f"table:{tmp_path}/a.csv,categories=length").train).shape[1] == 22 + 3
    write(
        tmp_path,
        {"pandas.csv": "\n".join(f"{i - 1 if i else ''},{line}" for i, line in enumerate(table().splitlines()))},
    )
    parts = load(f"table:{tmp_path}/pandas.csv")
    assert inputs_of(parts.train).shape[1] == 4
    assert "columns left out: one without a name" in (parts.note or "")


def test_columns_of_no_use_are_left_out_or_refused(tmp_path: Path) -> None:
    write(
        tmp_path, {"a.csv": "\n".join(f"{line},{'' if i else 'empty'}" for i, line in enumerate(table().splitlines()))}
    )
    parts = load(f"table:{tmp_path}/a.csv")
    assert inputs_of(parts.train).shape[1] == 4
    assert "columns left out: 'empty', which is empty" in (parts.note or "")
    write(tmp_path, {"b.csv": table().replace(",red", "e300,red")})
    refused(f"table:{tmp_path}/b.csv", "the column 'length' has numbers that are too large")


def test_values_are_predicted(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": table()})
    parts = load(f"table:{tmp_path}/a.csv,label=length,task=regression,drop=label")
    assert (parts.task, parts.classes, parts.class_names) == ("regression", 1, ())
    assert parts.train.targets.is_floating_point()


def test_missing_numbers_are_named_or_filled(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": table(more=",red,yes\nNA,green,no\n")})
    faulty(f"table:{tmp_path}/a.csv", "rows with missing numbers")
    parts = load(f"table:{tmp_path}/a.csv,missing=fill")
    assert sum(counts(parts)) == 32
    rows = torch.cat([inputs_of(part) for part in (parts.train, parts.validation, parts.test)])
    assert rows.shape[1] == 2 + 3
    assert rows[:, 1].sum() == 2
    assert (rows[rows[:, 1] == 1, 0] == 0).all()
    assert rows.isfinite().all()


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("3o,red,yes\n", "rows with texts among numbers"),
        ("inf,red,yes\n", "rows with texts among numbers"),
        ("1_0,red,yes\n", "rows with texts among numbers"),
        ("3,red,\n", "rows without a label"),
        ("3,red\n", "lines of another number of fields"),
    ],
)
def test_rows_that_cannot_be_used_are_named(tmp_path: Path, row: str, kind: str) -> None:
    write(tmp_path, {"a.csv": table(more=row)})
    assert sum(counts(faulty(f"table:{tmp_path}/a.csv", kind))) == 30


def test_categories_that_are_not_trained_with_are_noted(tmp_path: Path) -> None:
    write(tmp_path, {"a.csv": table(), "test.csv": "colour,label,length\npink,yes,1\nred,no,2\n"})
    parts = load(f"table:{tmp_path}/a.csv,test={tmp_path}/test.csv")
    assert counts(parts) == (27, 3, 2)
    assert "1 of 2 test examples have a category that none to train with has" in (parts.note or "")
    assert inputs_of(parts.test)[0, 1:].sum() == 0


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("", "", "holds no examples"),
        ("label\n" + "a\nb\n" * 9, "", "has no column beside 'label'"),
        (table(), ",label=class", "has no column 'class'"),
        (table(), ",drop=size", "has no column 'size'"),
        (table(), ",label=length", "length has 30 different numbers in 30 rows, such as 0: if they are values"),
        (table().replace("yes", "0.5").replace("no", "1.5"), "", "if they are values and no classes"),
        ("name,label\n" + "".join(f"n{i},{i % 2}\n" for i in range(200)), "", "leave it out by `,drop=name`"),
        (table().replace("yes", "no"), "", "all examples are of one class"),
        (
            table().replace(",", ";").replace(";red", ",5;red").replace(";green", ",1;green"),
            ",delimiter=semicolon",
            "numbers with commas, such as '0,5'",
        ),
    ],
)
def test_what_cannot_be_predicted_is_refused(tmp_path: Path, content: str, options: str, message: str) -> None:
    write(tmp_path, {"a.csv": content})
    refused(f"table:{tmp_path}/a.csv{options}", message)
