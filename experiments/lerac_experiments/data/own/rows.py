"""Tables of one's own: csv, tsv and jsonl files, as rows of texts."""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lerac_experiments.data.own.faults import Faults
from lerac_experiments.data.reading import as_text, read_file
from lerac_experiments.errors import ExperimentError

_DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}
_LINES = (".jsonl", ".ndjson")
SUFFIXES = (".csv", ".tsv", ".tab", ".txt", *_LINES)


@dataclass(frozen=True)
class RowOptions:
    """How a file of rows is written, where that is not usual.

    Attributes:
        encoding: of Python's names; None, UTF-8, or UTF-16 with its mark.
        delimiter: None, a comma, in tsv files a tab.
        quotes: whether double quotes around a field belong to the file, and not to the text; None, in csv files.
        no_header: whether the first line is an example already. Columns are then called 1, 2, ...
    """

    encoding: str | None = None
    delimiter: Literal["comma", "semicolon", "tab", "bar"] | None = None
    quotes: Literal["yes", "no"] | None = None
    no_header: bool = False
    skip_damaged: bool = False


@dataclass(frozen=True)
class Rows:
    """The rows of a file, or of several, all with the same columns.

    Attributes:
        source: the file, or the first of them.
        lines: the file that each row is in, and the line in which it ends.
        values: stripped of white space around; None where a jsonl file has none.
        has_header: whether the first line of the file was taken for the names of the columns.
    """

    source: Path
    columns: list[str]
    lines: list[tuple[Path, int]]
    values: list[list[str | None]]
    has_header: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def has(self, column: str) -> bool:
        """Whether there is a column of this name."""
        return column in self.columns

    def column(self, name: str, option: str) -> list[str | None]:
        """The values of a column. Raises ExperimentError if there is none, or none of this name alone.

        Args:
            option: which names another.
        """
        if self.columns.count(name) != 1:
            found = "two columns" if name in self.columns else "no column"
            no_header = ", or say by `,no-header` that the first line is an example" if self.has_header else ""
            raise ExperimentError(
                f"{self.source} has {found} {name!r}, but {', '.join(map(repr, self.columns))}: name another by "
                f"`,{option}=...`{no_header}"
            )
        at = self.columns.index(name)
        return [row[at] for row in self.values]

    def place(self, row: int) -> str:
        """Of a row, for messages."""
        path, line = self.lines[row]
        return f"{path}, line {line}"

    def and_those(self, other: "Rows") -> "Rows":
        """The rows of both, in the columns of these. Raises ExperimentError if the other lacks one."""
        missing = [name for name in self.columns if name not in other.columns]
        if missing:
            raise ExperimentError(f"{other.source} has no column {missing[0]!r}, which {self.source} has")
        order = [other.columns.index(name) for name in self.columns]
        values = [[row[at] for at in order] for row in other.values]
        return replace(self, lines=[*self.lines, *other.lines], values=[*self.values, *values])


def read_rows(path: Path, options: RowOptions, faults: Faults) -> Rows:
    """Reads a file, by the suffix of its name. Lines that cannot be read, or have other fields than the first, are
    faults; empty ones are not looked at.

    Raises:
        ExperimentError: it is of another format or encoding, or without rows. The message names it.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ExperimentError(f"{path} is none of the files that are read here: {', '.join(SUFFIXES)}")
    text = _decoded(read_file(path), path, options.encoding)
    rows = _json_rows(text, path, faults) if suffix in _LINES else _separated_rows(text, path, options, faults)
    if not len(rows):
        raise ExperimentError(f"{path} holds no examples{faults.first}")
    return rows


def _decoded(content: bytes, path: Path, encoding: str | None) -> str:
    if encoding is None and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        text = as_text(content, path) if encoding is None else content.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise ExperimentError(
            f"encoding={encoding} is none that Python knows: such as utf-8, latin-1, cp1252"
        ) from None
    except UnicodeError as error:
        raise ExperimentError(f"{path} is no text in {encoding}: {error}") from error
    except ExperimentError as error:
        raise ExperimentError(f"{error}, or name its encoding, as in `,encoding=latin-1`") from error
    if "\0" in text:
        line = 1 + text[: text.index("\0")].count("\n")
        raise ExperimentError(
            f"{path} is damaged, or in another encoding: line {line} holds a NUL. UTF-16 without its mark is "
            "`,encoding=utf-16-le`"
        )
    return text


def _separated_rows(text: str, path: Path, options: RowOptions, faults: Faults) -> Rows:
    tabs = path.suffix.lower() in (".tsv", ".tab")
    delimiter = _DELIMITERS[options.delimiter or ("tab" if tabs else "comma")]
    quotes = (options.quotes or ("no" if tabs else "yes")) == "yes"
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    lines, values = [], []
    columns: list[str] | None = None
    with _long_fields():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
        try:
            for fields in reader:
                row: list[str | None] = [field.strip() for field in fields]
                if not any(row):
                    continue
                if columns is None:
                    columns = _header([field.strip() for field in fields], path, delimiter, options.no_header)
                    if not options.no_header:
                        continue
                if len(row) != len(columns):
                    _add_ragged(faults, f"{path}, line {reader.line_num}", fields, columns, quotes)
                    continue
                lines.append((path, reader.line_num))
                values.append(row)
        except csv.Error as error:
            raise ExperimentError(
                f"{path}, line {reader.line_num}: {error}. If quotation marks belong to the texts, add `,quotes=no`"
            ) from error
    return Rows(path, columns or [], lines, values, has_header=not options.no_header)


def _header(row: list[str], path: Path, delimiter: str, no_header: bool) -> list[str]:
    if no_header:
        return [str(number) for number in range(1, len(row) + 1)]
    twice = [name for name, count in Counter(row).items() if count > 1 and name]
    if twice:
        raise ExperimentError(f"{path} has two columns {twice[0]!r}: give each a name of its own")
    others = [name for name, other in _DELIMITERS.items() if other != delimiter and other in row[0]]
    if len(row) == 1 and others:
        raise ExperimentError(f"{path}: its first line is {row[0]!r}, so that it may want `,delimiter={others[0]}`")
    return row


def _add_ragged(faults: Faults, place: str, row: list[str], columns: list[str], quotes: bool) -> None:
    hint = "" if quotes or not any(field.startswith('"') for field in row) else "; quoted fields want `,quotes=yes`"
    message = f"{place}: {len(row)} fields instead of the {len(columns)} of the first line{hint}"
    faults.add("lines of another number of fields", message)


@contextmanager
def _long_fields() -> Iterator[None]:
    """Fields may be as long as files; csv refuses more than 128 KiB."""
    before = csv.field_size_limit(1 << 30)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _json_rows(text: str, path: Path, faults: Faults) -> Rows:
    lines: list[tuple[Path, int]] = []
    objects: list[dict[str, str | None]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: texts may hold other ends of lines
        if not line.strip():
            continue
        try:
            content = json.loads(line, object_pairs_hook=_once)
            if not isinstance(content, dict):
                raise ValueError("it is no object, in braces")
            row = {name: _as_field(name, value) for name, value in content.items()}
        except (ValueError, RecursionError) as error:
            faults.add("lines that are no JSON", f"{path}, line {number}: {error}")
            continue
        columns.update(dict.fromkeys(row))
        lines.append((path, number))
        objects.append(row)
    return Rows(path, list(columns), lines, [[row.get(name) for name in columns] for row in objects])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is in it twice")
    return found


def _as_field(name: str, value: Any) -> str | None:
    if value is None or value != value:  # NaN, which Python writes where there is no value
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ValueError(f"{name} is neither a text nor a number")
