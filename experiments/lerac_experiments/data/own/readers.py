"""The readers of one's own data, by their names in a spec."""

import importlib
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from lerac_experiments.data.own.functions import function_data
from lerac_experiments.data.own.spec import Spec
from lerac_experiments.data.source import DataSet, Kind
from lerac_experiments.errors import ExperimentError


@dataclass(frozen=True)
class Reader:
    """What reads one form of data.

    Attributes:
        form: how it is asked for.
        module: imported when it is used. It has `Options`, a dataclass; `load(spec, request)`, which gives Parts; and
            `fingerprint(spec)`.
    """

    form: str
    about: str
    kind: Kind
    module: str

    def data_set(self, spec: Spec) -> DataSet:
        """The data, which is not looked at yet. Raises ExperimentError if an option is wrong."""
        module: Any = importlib.import_module(f"{__package__}.{self.module}")
        task = getattr(spec.options(module.Options), "task", "classification")
        return DataSet(
            spec.text,
            spec.title,
            self.kind,
            lambda request: module.load(spec, request),
            regression=task == "regression",
            fingerprint=lambda: module.fingerprint(spec),
        )


READERS = {
    "images": Reader(
        "images:DIR", "a folder of images for each class, or such in train, val and test", "image", "images"
    ),
    "texts": Reader("texts:FILE", "csv, tsv or jsonl; columns text, second (of pairs), label", "text", "texts"),
    "sounds": Reader("sounds:DIR", "as images; or a csv, tsv or jsonl; columns file, label", "audio", "sounds"),
    "boxes": Reader("boxes:DIR", "images with boxes, annotated as PASCAL VOC, COCO or YOLO do", "detection", "boxes"),
    "table": Reader("table:FILE", "csv, tsv or jsonl; columns of numbers or categories, label", "table", "table"),
}


FUNCTIONS = "FILE.py:FUNCTION"
FORMS = (*(reader.form for reader in READERS.values()), FUNCTIONS, "package.module:FUNCTION")


def own_data(text: str) -> DataSet | None:
    """Data of one's own; None, if the text stands for none. Raises ExperimentError if an option is wrong."""
    reader = READERS.get(text.partition(":")[0]) if ":" in text else None
    if reader is None:
        name, colon, _ = text.partition(":")
        if colon and (meant := get_close_matches(name.lower(), READERS, 1)) and not name.endswith(".py"):
            raise ExperimentError(f"data {text!r}: there is no reader {name!r}; {READERS[meant[0]].form}?")
        return function_data(text)
    spec = Spec.parse(text)
    return None if spec is None else reader.data_set(spec)
