"""The records of trials, and what in them is compared with what."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lerac_experiments.data.registry import find_data
from lerac_experiments.errors import ExperimentError
from lerac_experiments.models.registry import find_model
from lerac_experiments.options import find
from lerac_experiments.own_code.source import digest
from lerac_experiments.settings import Protocol
from lerac_experiments.training.history import unpack_bits
from lerac_experiments.training.phases import Phase
from lerac_experiments.training.regimes import REGIMES
from lerac_experiments.trials.record import DONE
from lerac_experiments.trials.trial import Trial, canonical_json

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
    def steps(self) -> int:
        """Of an epoch."""
        return int(self.content["steps_per_epoch"])

    def seconds_per_epoch(self, epochs: int | None = None) -> float:
        """The mean over so many first epochs (None: all), of training alone."""
        return float(np.mean([epoch["seconds"] for epoch in self.epochs[:epochs]]))

    @property
    def higher_is_better(self) -> bool:
        """Of the metric."""
        return bool(self.content["result"]["higher_is_better"])

    @property
    def unended(self) -> list[Phase]:
        """The parts of its regime that the training did not get to the end of."""
        phases = find(REGIMES, self.trial.regime, "regime").phases
        return [phase for phase in phases if phase.outlasts(self.trial, len(self.epochs))]

    @property
    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """The epochs [N] at which learning rates were noted, and those of the first, a middle and the last layer
        [N, 3]."""
        trace = self.content["rates"]
        return np.array(trace["steps"], dtype=float) / self.steps, np.array(trace["first_middle_last"], dtype=float)

    @property
    def machine(self) -> str:
        """On what it was run, for people."""
        environment = self.content["environment"]
        machine, versions = environment["machine"], environment["versions"]
        return (
            f"{machine.get('gpu') or machine['cpu']}, {machine['cores']} cores, {machine['threads']} threads, "
            f"{self.content['ranks']} process(es), {self.content['device']}; torch {versions['torch']}, lerac_fast "
            f"{versions['lerac_fast']}, Python {versions['python']}; {machine['system']}"
        )

    @property
    def test_part(self) -> tuple[Any, ...]:
        """What must be equal where test examples are compared one by one."""
        data = self.content["data"]
        return self.content["sizes"]["test"], data["source"], data["note"], self.trial.protocol.test_examples

    def checked(self) -> "Record":
        """The record, once nothing is found in it that is of the right kind (`check_record`), and makes no sense.

        Raises:
            ExperimentError: something does not. It is named.
        """
        trial = self.trial
        find_model(trial.model)
        find_data(trial.data)
        find(REGIMES, trial.regime, "regime")
        if not self.done:
            return self
        first, steps = self.epochs[0].keys(), self.steps
        if any(epoch.keys() != first for epoch in self.epochs):
            raise ExperimentError("epochs do not have the same values noted")
        if not np.isfinite([self.score, *(value for epoch in self.epochs for value in epoch.values())]).all():
            raise ExperimentError("a number is not finite")
        if steps < 1:
            raise ExperimentError(f"steps_per_epoch is {steps}")
        if (correct := self.correct) is not None and not np.isclose(correct.mean(), self.score):
            raise ExperimentError(f"result.test is {self.score:g}, and {correct.mean():g} of the examples are correct")
        return self


OF_REGIMES = frozenset(
    (
        "min_lr",
        "lerac_epochs",
        "sigma",
        "decay",
        "cbs_every",
        "class_lr",
        "instance_lr",
        "sigma_bounds",
        "label_epsilon",
        "class_similarity",
        "warm_up_epochs",
    )
)
"""Settings that conventional training does not know: it is compared with whatever values they have."""

OF_CONDITIONS = frozenset(("label_noise", "noise_free"))
"""Settings that change the data: what has others is not compared."""


@dataclass(frozen=True)
class Cell:
    """What a figure of a table is the mean of: the trials that differ in their seeds alone."""

    variant: str
    """In which settings it differs from others on the same data, for people; empty where in none."""
    regime_variant: str
    """In which of those `OF_REGIMES` it differs from others of the same regime that are compared with the same."""
    condition: str
    """Wrong labels, for people, and which of several data sets of one title; empty without."""
    records: tuple[Record, ...]
    rivals: tuple["Cell", ...] = ()
    """Of a grid: the cells, itself among them, that it was chosen from, by the validation part."""

    @property
    def trial(self) -> Trial:
        """The first of them."""
        return self.records[0].trial

    @property
    def regime_title(self) -> str:
        title = REGIMES[self.trial.regime].title
        oracle = ", right labels only" if self.is_oracle else ""
        return title + oracle + (f" ({self.regime_variant})" if self.regime_variant else "")

    @property
    def model_title(self) -> str:
        title = find_model(self.trial.model).title
        return f"{title} ({self.variant})" if self.variant else title

    @property
    def data_title(self) -> str:
        title = find_data(self.trial.data).title
        return f"{title}, {self.condition}" if self.condition else title

    @property
    def validations(self) -> np.ndarray:
        """The metric on the validation part, of the epochs that were best by it."""
        return np.array([record.content["result"]["validation"] for record in self.records], dtype=float)

    @property
    def epochs(self) -> np.ndarray:
        """How many there were."""
        return np.array([len(record.epochs) for record in self.records], dtype=float)

    @property
    def scores(self) -> np.ndarray:
        return np.array([record.score for record in self.records])

    @property
    def is_oracle(self) -> bool:
        """Whether it knew which labels are wrong."""
        return self.trial.protocol.noise_free

    @property
    def metric(self) -> str:
        """What is measured."""
        return str(self.records[0].content["result"]["metric"])

    @property
    def higher_is_better(self) -> bool:
        """Of the metric; shares, which are printed in percent."""
        return self.records[0].higher_is_better

    @property
    def is_classification(self) -> bool:
        return self.records[0].correct is not None

    @property
    def direction(self) -> str:
        """What is to be said of a metric where it is not what a reader takes for granted."""
        return "" if self.higher_is_better else " (lower is better)"

    @property
    def ended(self) -> bool:
        """Whether its regime had its course in every run."""
        return not any(phase.must_end for record in self.records for phase in record.unended)

    @property
    def is_baseline(self) -> bool:
        """Whether others are compared with it."""
        return self.trial.regime == CONVENTIONAL and not self.is_oracle


def cells_of(records: Sequence[Record]) -> list[Cell]:
    """The cells of the trials that are done, in the order of their first trials. Of the combinations of a grid there is
    the one that was chosen."""
    by_choice: dict[tuple[str, ...], list[Cell]] = {}
    for cell in _all_cells(records):
        by_choice.setdefault(_choice_key(cell.trial), []).append(cell)
    return [cell for rivals in by_choice.values() for cell in ([_chosen(rivals)] if rivals[0].trial.grid else rivals)]


def _choice_key(trial: Trial) -> tuple[str, ...]:
    """What is equal in those that one is chosen of."""
    own = _values(trial, _own_names(trial) - frozenset(trial.grid))
    return *_comparison_key(trial), trial.regime, str(trial.protocol.noise_free), canonical_json([own, trial.grid])


def _chosen(rivals: Sequence[Cell]) -> Cell:
    """The best by its mean on the validation part, of those with the most runs: none of which some have failed."""
    most = max(len(cell.records) for cell in rivals)
    sign = 1.0 if rivals[0].higher_is_better else -1.0
    candidates = [cell for cell in rivals if len(cell.records) == most]
    return replace(max(candidates, key=lambda cell: sign * float(cell.validations.mean())), rivals=tuple(rivals))


def _all_cells(records: Sequence[Record]) -> list[Cell]:
    done = [record for record in records if record.done]
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in done:
        trial = record.trial
        own = canonical_json(_values(trial, _own_names(trial)))
        oracle = str(trial.protocol.noise_free)
        groups.setdefault((*_comparison_key(trial), trial.regime, oracle, own), []).append(record)
    cells = []
    for members in groups.values():
        # Of conventional trainings that differ in what they do not know (LeRaC's k, say), one a seed.
        members = list({record.trial.seed: record for record in reversed(members)}.values())
        members.sort(key=lambda record: record.trial.seed)
        trial = members[0].trial
        alike = [r.trial for r in done if _place(r.trial) == _place(trial)]
        key = _comparison_key(trial)
        of_regime = [other for other in alike if other.regime == trial.regime and _comparison_key(other) == key]
        variant = ", ".join(filter(None, (_version(trial, done), _differing(trial, alike, _shared(trial)))))
        own_variant = _differing(trial, of_regime, _own_names(trial))
        condition = ", ".join(filter(None, (_namesake(trial, done), _condition(trial.protocol))))
        cells.append(Cell(variant, own_variant, condition, tuple(members)))
    return cells


def baselines(cells: Sequence[Cell]) -> dict[tuple[str, ...], Cell]:
    """Conventional training, by what must be equal in a comparison with it."""
    return {comparison_key(cell): cell for cell in cells if cell.is_baseline}


def among_curricula(cells: Sequence[Cell], regime: str) -> list[tuple[Cell, Cell]]:
    """Each other curriculum with this one, on the same data, seeds and settings, those of regimes among them."""

    def key(cell: Cell) -> tuple[str, ...]:
        return *comparison_key(cell), str(cell.is_oracle), canonical_json(_values(cell.trial, OF_REGIMES))

    against = {key(cell): cell for cell in cells if cell.trial.regime == regime}
    others = (cell for cell in cells if cell.trial.regime not in (CONVENTIONAL, regime))
    return [(cell, against[key(cell)]) for cell in others if key(cell) in against]


def comparison_key(cell: Cell) -> tuple[str, ...]:
    """Model, data, condition, and the settings that conventional training knows."""
    return _comparison_key(cell.trial)


def pairs(cell: Cell, baseline: Cell) -> list[tuple[Record, Record]]:
    """The records of both with the same seed."""
    by_seed = {record.trial.seed: record for record in baseline.records}
    return [(record, by_seed[record.trial.seed]) for record in cell.records if record.trial.seed in by_seed]


def _comparison_key(trial: Trial) -> tuple[str, ...]:
    return *_place(trial), canonical_json(_values(trial, _shared(trial)))


def _place(trial: Trial) -> tuple[str, ...]:
    """What is never compared with anything else; of one's own models and data, their versions."""
    versions = trial.model_source or "", trial.data_content or "", trial.similarity_content or ""
    return trial.model, trial.data, *versions, _condition(trial.protocol)


def _condition(protocol: Protocol) -> str:
    return f"{100 * protocol.label_noise:g}% wrong labels" if protocol.label_noise else ""


def _version(trial: Trial, records: Sequence[Record]) -> str:
    """Which of several versions of one's own model and data it is of; empty, if there is one only."""
    same = [record.trial for record in records if (record.trial.model, record.trial.data) == (trial.model, trial.data)]
    sources, contents = {other.model_source for other in same}, {other.data_content for other in same}
    source = f"source {(trial.model_source or 'unknown')[:8]}" if len(sources) > 1 else ""
    content = f"data {(trial.data_content or 'unknown')[:8]}" if len(contents) > 1 else ""
    similarities = {other.similarity_content for other in same if other.similarity_content}
    similarity = f"similarity {(trial.similarity_content or 'unknown')[:8]}" if len(similarities) > 1 else ""
    return ", ".join(filter(None, (source, content, similarity)))


def _namesake(trial: Trial, records: Sequence[Record]) -> str:
    """Digits that tell data from other data of the same title, in another folder; empty, if there is none."""
    title = find_data(trial.data).title
    alike = {name for name in {record.trial.data for record in records} if find_data(name).title == title}
    return f"#{digest(trial.data)[:4]}" if len(alike) > 1 else ""


def _values(trial: Trial, names: Collection[str]) -> dict[str, Any]:
    values = {**vars(trial.settings), **vars(trial.protocol), "mix_up": _is_mixed(trial)}
    return {name: value for name, value in values.items() if name in names}


def _is_mixed(trial: Trial) -> bool:
    """Not what was asked for: of regimes that cannot mix some were planned beside others that did."""
    protocol = trial.protocol
    mixes = find_data(trial.data).mixes and find(REGIMES, trial.regime, "regime").mixes
    return mixes and protocol.augment and protocol.mix_up


def _shared(trial: Trial) -> frozenset[str]:
    """The names of the settings that all regimes know, and that are not chosen among."""
    known = frozenset((*vars(trial.settings), *vars(trial.protocol))) - OF_REGIMES - OF_CONDITIONS
    return known - frozenset(trial.grid)


def _own_names(trial: Trial) -> frozenset[str]:
    """The names of the settings of which other values make another cell: those of its regime, and of its grid."""
    return (frozenset() if trial.regime == CONVENTIONAL else OF_REGIMES) | frozenset(trial.grid)


def _differing(trial: Trial, others: Sequence[Trial], names: Collection[str]) -> str:
    """Those of the settings in which a trial differs from some of the others."""
    own = _values(trial, names)
    rest = [_values(other, names) for other in others]
    return ", ".join(f"{name}={value}" for name, value in own.items() if any(other[name] != value for other in rest))
