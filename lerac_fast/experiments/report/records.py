"""The records of trials, and what in them is compared with what."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lerac_fast.experiments.data.registry import DATA
from lerac_fast.experiments.errors import ExperimentError
from lerac_fast.experiments.files import replacing
from lerac_fast.experiments.models import MODELS
from lerac_fast.experiments.options import find
from lerac_fast.experiments.regimes import REGIMES
from lerac_fast.experiments.runner import unpack_bits
from lerac_fast.experiments.trials.manifest import Manifest
from lerac_fast.experiments.trials.store import DONE, TrialFolder
from lerac_fast.experiments.trials.trial import Protocol, Trial, canonical_json

CONVENTIONAL = "conventional"


@dataclass(frozen=True)
class Record:
    """How a trial ended."""

    trial: Trial
    content: dict[str, Any]

    @property
    def done(self) -> bool:
        return bool(self.content["status"] == DONE)

    @property
    def score(self) -> float:
        """The metric on the test part."""
        return float(self.content["result"]["test"])

    @property
    def correct(self) -> np.ndarray | None:
        """Of a classification, which test examples are classified correctly: bool [N]."""
        packed = self.content["result"].get("correct")
        return None if packed is None else unpack_bits(packed, self.content["sizes"]["test"])

    @property
    def epochs(self) -> list[dict[str, float]]:
        return list(self.content["epochs"])

    @property
    def seconds_per_epoch(self) -> float:
        """The median over the epochs, training alone."""
        return float(np.median([epoch["seconds"] for epoch in self.epochs]))


def read_folder(folder: Path) -> tuple[Manifest, list[Record]]:
    """The manifest of an experiment, and the records that there are so far.

    Raises:
        ExperimentError: there is no manifest, or a record is damaged.
    """
    manifest = Manifest.read(folder)
    records = ((trial, TrialFolder(folder, trial).record()) for trial in manifest)
    return manifest, [Record(trial, content) for trial, content in records if content is not None]


def read_lines(path: Path) -> list[Record]:
    """The records of a file of JSON lines, as a report writes it.

    Raises:
        ExperimentError: a line is damaged. The message has its number.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    return [_read_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _read_line(line: str, place: str) -> Record:
    try:
        content = json.loads(line)
        return Record(Trial.from_json(content["trial"]), content)
    except (ValueError, KeyError, TypeError, ExperimentError) as error:
        raise ExperimentError(f"{place}: {error}") from error


def write_lines(path: Path, records: Iterable[Record]) -> None:
    """The raw records, a line each."""
    with replacing(path) as temporary:
        temporary.write_text("".join(canonical_json(record.content) + "\n" for record in records), encoding="utf-8")


@dataclass(frozen=True)
class Cell:
    """What a figure of a table is the mean of: the trials that differ in their seeds alone."""

    model: str
    data: str
    regime: str
    variant: str
    """What distinguishes its settings from those of others, for people; empty where nothing does."""
    condition: str
    """Wrong labels, for people; empty without."""
    records: tuple[Record, ...]

    @property
    def regime_title(self) -> str:
        oracle = ", right labels only" if self.records[0].trial.protocol.noise_free else ""
        return f"{find(REGIMES, self.regime, 'regime').title}{oracle}"

    @property
    def model_title(self) -> str:
        title = find(MODELS, self.model, "model").title
        return f"{title} ({self.variant})" if self.variant else title

    @property
    def data_title(self) -> str:
        title = find(DATA, self.data, "data").title
        return f"{title}, {self.condition}" if self.condition else title

    @property
    def scores(self) -> np.ndarray:
        return np.array([record.score for record in self.records])

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.regime == CONVENTIONAL and not self.records[0].trial.protocol.noise_free


def cells_of(records: Sequence[Record]) -> list[Cell]:
    """The cells of the trials that are done, in the order of their first trials."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    done = [record for record in records if record.done]
    for record in done:
        trial = record.trial
        key = (trial.model, trial.data, trial.regime, _condition(trial.protocol), _variant_key(trial))
        groups.setdefault((*key, str(trial.protocol.noise_free)), []).append(record)
    cells = []
    for (model, data, regime, condition, *_), members in groups.items():
        others = [r.trial for r in done if (r.trial.model, r.trial.data) == (model, data)]
        members.sort(key=lambda record: record.trial.seed)
        cells.append(Cell(model, data, regime, _variant(members[0].trial, others), condition, tuple(members)))
    return cells


def baselines(cells: Sequence[Cell]) -> dict[tuple[str, str, str, str], Cell]:
    """Conventional training, by what must be equal in a comparison with it."""
    return {comparison_key(cell): cell for cell in cells if cell.is_baseline}


def comparison_key(cell: Cell) -> tuple[str, str, str, str]:
    """Model, data, settings and condition."""
    return cell.model, cell.data, cell.condition, _variant_key(cell.records[0].trial)


def pairs(cell: Cell, baseline: Cell) -> list[tuple[Record, Record]]:
    """The records of both with the same seed."""
    by_seed = {record.trial.seed: record for record in baseline.records}
    return [(record, by_seed[record.trial.seed]) for record in cell.records if record.trial.seed in by_seed]


def _condition(protocol: Protocol) -> str:
    return f"{protocol.label_noise:.0%} wrong labels" if protocol.label_noise else ""


def _variant_values(trial: Trial) -> dict[str, Any]:
    """The settings that make another experiment of a trial; those of the condition stand apart."""
    apart = {"label_noise", "noise_free"}
    protocol = {f.name: getattr(trial.protocol, f.name) for f in fields(Protocol) if f.name not in apart}
    return {**vars(trial.settings), **protocol}


def _variant_key(trial: Trial) -> str:
    return canonical_json(_variant_values(trial))


def _variant(trial: Trial, others: Sequence[Trial]) -> str:
    """The settings in which a trial differs from some of the others of the same condition."""
    own = _variant_values(trial)
    same = [_variant_values(other) for other in others if _condition(other.protocol) == _condition(trial.protocol)]
    differing = [name for name, value in own.items() if any(other[name] != value for other in same)]
    return ", ".join(f"{name}={own[name]}" for name in differing)
