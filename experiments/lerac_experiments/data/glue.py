"""QNLI and RTE of GLUE (Wang et al., 2018): whether a sentence answers a question, or follows from another."""

import csv
import io
from dataclasses import dataclass
from typing import TypeAlias

from lerac_experiments.data.hub import load_from_hub
from lerac_experiments.data.source import DataSet, Parts, Request
from lerac_experiments.data.stored import Stored, find_stored
from lerac_experiments.data.text import Texts, text_parts
from lerac_experiments.errors import ExperimentError

LABELS = ("entailment", "not_entailment")  # as the Hub numbers them
DEVELOPMENT_NOTE = "tested on the official development part, for the labels of the official test part are not published"

_REPOSITORY = "nyu-mll/glue"

_Row: TypeAlias = tuple[str, str, str, str]
"""Index, first and second text, label."""


@dataclass(frozen=True)
class _Task:
    name: str
    columns: tuple[str, str]
    published: tuple[int, int]
    """Numbers of training and development examples."""
    places: tuple[str, ...]
    """Folders and archives that it comes in."""

    def load(self, request: Request) -> Parts:
        found = find_stored(*self.places)
        if found is None:
            training, test = self._download()
            source = f"{_REPOSITORY}, {self.name.lower()}, of the Hugging Face Hub"
        else:
            training, test = _texts(self._read_training(found)), _texts(self._read(found, "dev.tsv"))
            source = str(found.place)
        return text_parts(training, test, request, source, DEVELOPMENT_NOTE, self.published)

    def _download(self) -> tuple[Texts, Texts]:
        advice = f"put GLUE's {self.places[0]} with train.tsv and dev.tsv into the folder LERAC_FAST_DATA names"
        splits = load_from_hub(_REPOSITORY, self.name.lower(), advice)
        training, test = (
            Texts(split[self.columns[0]], split[self.columns[1]], [LABELS[number] for number in split["label"]])
            for split in (splits["train"], splits["validation"])
        )
        return training, test

    def _read_training(self, files: Stored) -> list[_Row]:
        rows = self._read(files, "train.tsv")
        # Some copies set a part of the official training part aside in a file of its own.
        if files.find("val.tsv") is not None:
            rows += self._read(files, "val.tsv")
        if len({row[0] for row in rows}) < len(rows):
            raise ExperimentError(f"{files.place} holds training examples twice: of the same index")
        return rows

    def _read(self, files: Stored, name: str) -> list[_Row]:
        """The examples of a file, whose first line may name the columns."""
        member = files.require(name, f"GLUE's {self.name}")
        path = files.place / member
        header = ["index", *self.columns, "label"]
        rows: list[_Row] = []
        # GLUE's texts hold quotation marks that belong to them.
        lines = csv.reader(io.StringIO(files.text(member), newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
        try:
            for row in lines:
                if row == header and lines.line_num == 1:
                    continue
                if len(row) != len(header):
                    raise ExperimentError(
                        f"{path}, line {lines.line_num}: {len(row)} fields instead of {', '.join(header)}"
                    )
                number, first, second, label = row
                if label not in LABELS:
                    raise ExperimentError(
                        f"{path}, line {lines.line_num}: the label is {label!r}, neither of {', '.join(LABELS)}"
                    )
                rows.append((number, first, second, label))
        except csv.Error as error:
            raise ExperimentError(f"{path}, line {lines.line_num}: {error}") from error
        if not rows:
            raise ExperimentError(f"{path} holds no examples")
        return rows


def _texts(rows: list[_Row]) -> Texts:
    return Texts([first for _, first, _, _ in rows], [second for _, _, second, _ in rows], [row[3] for row in rows])


_QNLI = _Task("QNLI", ("question", "sentence"), (104_743, 5_463), ("QNLI", "QNLIv2.zip", "QNLI.zip", "qnli.zip"))
_RTE = _Task("RTE", ("sentence1", "sentence2"), (2_490, 277), ("RTE", "RTE.zip", "rte.zip"))

QNLI = DataSet("qnli", "QNLI", "text", _QNLI.load)
RTE = DataSet("rte", "RTE", "text", _RTE.load)
