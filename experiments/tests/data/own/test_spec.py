"""What data of one's own is called: the grammar that all readers have in common."""

import importlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lerac_experiments.data.own.readers import READERS
from lerac_experiments.data.own.spec import Spec
from lerac_experiments.data.registry import DATA, find_data
from lerac_experiments.errors import ExperimentError

reproducible = settings(derandomize=True, max_examples=60)
texts = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12)


@dataclass(frozen=True)
class Options:
    size: int | None = None
    seconds: float = 1.0
    text: str = "text"
    drop: tuple[str, ...] = ()
    form: Literal["a", "b"] | None = None
    skip_damaged: bool = False


def doubled(text: str) -> str:
    return text.replace(",", ",,")


@reproducible
@given(place=texts, text=texts, drop=st.lists(texts, max_size=3), skip=st.booleans())
def test_every_place_and_value_can_be_written(place: str, text: str, drop: list[str], skip: bool) -> None:
    """Also with commas, colons, equals signs and spaces in it."""
    options = [f"text={doubled(text)}", *(f"drop={doubled(name)}" for name in drop), *["skip-damaged"] * skip]
    spec = Spec.parse(",".join([f"table:{doubled(place)}", *options]))
    assert spec is not None
    assert (spec.reader, spec.place) == ("table", place)
    assert spec.options(Options) == Options(text=text, drop=tuple(drop), skip_damaged=skip)


def test_values_are_of_the_type_of_their_option() -> None:
    spec = Spec.parse("images:photos,size=96,seconds=0.5,form=b")
    assert spec is not None
    assert spec.options(Options) == Options(size=96, seconds=0.5, form="b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("size=0", "size must be a whole number above 0, got '0'"),
        ("size=9.5", "size must be a whole number above 0, got '9.5'"),
        ("seconds=nan", "seconds must be a number above 0, got 'nan'"),
        ("seconds=inf", "seconds must be a number above 0, got 'inf'"),
        ("form=c", "form must be one of a, b, got 'c'"),
        ("sise=9", "'sise' is no option of images, which has drop, form"),
        ("size", "size takes a value: size=..."),
        ("skip-damaged=yes", "skip-damaged is a switch, without a value, and 'yes' is given"),
        ("size=9,size=9", "size is given twice"),
        ("size=", "the option 'size=' is empty"),
        ("=9", "the option '=9' is empty"),
    ],
)
def test_wrong_options_are_named(options: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        (spec := Spec.parse(f"images:photos,{options}")) and spec.options(Options)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("images:", "names no place"),
        ("image:photos", "there is no reader 'image'; images:DIR?"),
        ("tables:a.csv", "table:FILE?"),
        ("IMAGES:a", "images:DIR?"),
        ("cifar", "data 'cifar' is unknown: choose one of cifar10, .* or data of your own: images:DIR"),
        ("images:photos,sise=9", "'sise' is no option of images"),
    ],
)
def test_what_is_no_data_is_refused_with_what_is(text: str, message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        find_data(text)


def test_nothing_is_looked_at_before_it_is_loaded() -> None:
    """So that a report can be made where the data is not."""
    kinds = {"images": "image", "texts": "text", "sounds": "audio", "boxes": "detection", "table": "table"}
    for reader, kind in kinds.items():
        data = find_data(f"{reader}:/nowhere/at all")
        assert (data.kind, data.name, data.regression) == (kind, f"{reader}:/nowhere/at all", False)
        assert data.title == f"{reader}:at all"
    assert find_data("sounds:x").mixes
    assert find_data("table:x.csv,task=regression").regression
    assert find_data("nowhere.py:make,kind=text").kind == "text"
    assert all(find_data(name) is data for name, data in DATA.items())


def test_every_option_is_documented() -> None:
    guide = (Path(__file__).parents[3] / "README.md").read_text()
    for name, reader in READERS.items():
        assert f"`{reader.form}`" in guide
        options = importlib.import_module(f"lerac_experiments.data.own.{reader.module}").Options
        for option in fields(options):
            written = option.name.replace("_", "-")
            assert f"`{written}" in guide, f"{written} of {name}"
