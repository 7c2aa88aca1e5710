"""`texts:FILE`: texts, or pairs of them, with their classes or values, in a csv, tsv or jsonl file."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lerac_experiments.data.own.faults import Faults
from lerac_experiments.data.own.rows import Rows
from lerac_experiments.data.own.spec import PartName, Spec
from lerac_experiments.data.own.splits import divide
from lerac_experiments.data.own.targets import TargetOptions, digest_of_rows, good_labels, read_parted, targets_of
from lerac_experiments.data.source import Parts, Request, join_notes
from lerac_experiments.data.text import Texts, encoded_parts
from lerac_experiments.errors import ExperimentError


@dataclass(frozen=True)
class Options(TargetOptions):
    """Of texts.

    Attributes:
        text: the column with the text.
        second: the column with the second text of pairs, if there is one.
    """

    text: str = "text"
    second: str = "second"


def fingerprint(spec: Spec) -> str:
    """Of the files. Raises ExperimentError if one cannot be read."""
    return digest_of_rows(spec.place, spec.options(Options))


def load(spec: Spec, request: Request) -> Parts:
    """Reads the files.

    Raises:
        Unavailable: there is no such file.
        FaultyData: some rows cannot be used.
        ExperimentError: a file cannot be read, a column is missing, or there are too few rows or classes.
    """
    options = spec.options(Options)
    faults = Faults(spec.text, options.skip_damaged)
    rows, parts = read_parted(spec.place, options, faults)
    texts, parts = _texts(rows, parts, options, faults)
    note, source = faults.settle(), str(rows.source)
    if not texts:
        raise ExperimentError(f"{source} holds no texts that can be used{faults.first}")
    targets, classes = targets_of(texts.labels, options.task, source)
    division = divide(parts, targets if classes else None, request, source, classes)
    chosen = [texts.take(numbers) for numbers in division.numbers]
    contents = list(zip(texts.first, texts.second or texts.first, strict=True))
    notes = join_notes(division.note, division.repeated(contents), note)
    of_each = [targets[numbers] for numbers in division.numbers]
    made = encoded_parts(chosen, of_each, len(classes) or 1, request, spec.place, notes)
    return replace(made, class_names=tuple(classes), left_out=faults.named)


def _texts(
    rows: Rows, parts: Sequence[PartName | None], options: Options, faults: Faults
) -> tuple[Texts, list[PartName | None]]:
    """Those that have what they need."""
    first, labels = rows.column(options.text, "text"), rows.column(options.label, "label")
    given = options.second != Options.second
    second = rows.column(options.second, "second") if given or rows.has(options.second) else None
    good = good_labels(rows, options, faults)
    kept = []
    for at, text in enumerate(first):
        if not text or not (second is None or second[at]):
            empty = options.second if text else options.text
            faults.add("rows without a text", f"{rows.place(at)}: {empty} is empty")
        elif at in good:
            kept.append(at)

    def taken(column: Sequence[str | None]) -> list[str]:
        return [column[at] or "" for at in kept]

    texts = Texts(taken(first), None if second is None else taken(second), taken(labels))
    return texts, [parts[at] for at in kept]
