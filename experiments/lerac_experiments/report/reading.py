"""What the places of a report hold: each trial once, and what could not be read."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lerac_experiments.errors import ExperimentError
from lerac_experiments.files import replacing
from lerac_experiments.report.records import Record
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.record import check_record
from lerac_experiments.trials.store import TrialFolder
from lerac_experiments.trials.trial import Trial, canonical_json

_T = TypeVar("_T")


class Reading:
    """Folders of experiments, and files of JSON lines that reports have written, read together.

    A trial counts once, wherever and however often it is found. What cannot be read is noted, and left out.
    """

    def __init__(self, places: Sequence[Path]) -> None:
        self.name = places[0].stem
        """Of the first experiment."""
        self.unreadable: list[str] = []
        """Manifests and records, with what is wrong with each."""
        self.repeated = 0
        """Records of trials of which there is another one."""
        self._planned: set[str] = set()
        self._records: dict[str, Record] = {}
        by_real_path: dict[str, Path] = {}  # that are the same by another name count once, too
        for place in places:
            by_real_path.setdefault(os.path.realpath(place), place)
        for place in by_real_path.values():
            self._read(place, first=place is places[0])

    @property
    def planned(self) -> int:
        """How many trials there are."""
        return len(self._planned)

    @property
    def records(self) -> list[Record]:
        """One of each trial that has ended: one that is done, if any is."""
        return list(self._records.values())

    def _read(self, place: Path, *, first: bool) -> None:
        if place.is_file():
            found = _lines(place)
        else:
            manifest = _attempt(partial(Manifest.read, place), str(place))
            if isinstance(manifest, str):
                self.unreadable.append(manifest)
                return
            self._planned |= {trial.id for trial in manifest}
            self.name = manifest.name if first else self.name
            found = _folder(place, manifest)
        for record in found:
            if isinstance(record, str):
                self.unreadable.append(record)
            else:
                self._take(record)

    def _take(self, record: Record) -> None:
        number = record.trial.id
        self._planned.add(number)
        before = self._records.get(number)
        self.repeated += before is not None
        if before is None or (record.done and not before.done):
            self._records[number] = record


def _folder(folder: Path, manifest: Manifest) -> Iterator[Record | str]:
    """The records that there are so far, or what is wrong with them."""
    stored = (TrialFolder(folder, trial) for trial in manifest)
    found = (_attempt(partial(_stored, each), str(each.record_path)) for each in stored)
    return (record for record in found if record is not None)


def _stored(stored: TrialFolder) -> Record | None:
    content = stored.record()
    return None if content is None else Record(stored.trial, content).checked()


def _lines(path: Path) -> Iterator[Record | str]:
    """The records of a file as `write_lines` writes it, or what is wrong with them."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return (_attempt(partial(_line, line), f"{path}, line {number}") for number, line in enumerate(lines, 1))


def _line(line: str) -> Record:
    content = check_record(json.loads(line))
    return Record(Trial.from_json(content["trial"]), content).checked()


def _attempt(read: Callable[[], _T], place: str) -> _T | str:
    """What is read, or what is wrong with it; and where, if the message does not say it."""
    try:
        return read()
    except ExperimentError as error:
        message = str(error)
    except (OSError, ValueError, RecursionError) as error:  # ValueError: no JSON
        message = f"{type(error).__name__}: {error}"
    return message if place in message else f"{place}: {message}"


def write_lines(path: Path, records: Iterable[Record]) -> None:
    """The raw records, a line each."""
    with replacing(path) as temporary:
        temporary.write_text(
            "".join(canonical_json(_as_planned(record)) + "\n" for record in records), encoding="utf-8"
        )


def _as_planned(record: Record) -> dict[str, Any]:
    """The content, with the grid that the trial is part of: it may have become so after it was trained."""
    trial = record.content["trial"]
    if tuple(trial.get("grid", ())) == record.trial.grid:
        return record.content
    return {**record.content, "trial": {**trial, "grid": record.trial.grid}}
