"""Regimes compared by one call, from a program or a notebook."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pandas as pd

from lerac_experiments.commands.plan import Plan
from lerac_experiments.commands.report import write_report
from lerac_experiments.commands.run import Run
from lerac_experiments.data.source import Kind, Task
from lerac_experiments.errors import ExperimentError
from lerac_experiments.own_code.functions import given
from lerac_experiments.own_code.source import Returning
from lerac_experiments.plans.rehearsal import rehearse as rehearsed
from lerac_experiments.report.reading import Reading
from lerac_experiments.report.records import Cell, Record, baselines, cells_of, comparison_key
from lerac_experiments.report.statistics import Comparison, mean_and_deviation
from lerac_experiments.report.statistics import compare as compared
from lerac_experiments.settings import Protocol, Settings
from lerac_experiments.terminal import say, stdout
from lerac_experiments.trials.manifest import FILE, Manifest
from lerac_experiments.trials.trial import Trial

Named: TypeAlias = str | Callable[..., Any]
"""What the command line names, or a function."""


def compare(
    model: Named | list[Named],
    data: Named | Any | list[Any],
    *,
    folder: str | Path,
    kind: Kind | None = None,
    task: Task | None = None,
    regimes: Sequence[str] = ("conventional", "lerac"),
    seeds: int = 5,
    grid: Mapping[str, Sequence[Any]] | None = None,
    threads: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    workers: int = 0,
    retry_failed: bool = False,
    rehearse: bool = True,
    **settings: Any,
) -> pd.DataFrame:
    """Trains a model on data under several regimes and compares them, as `lerac-fast plan`, `run` and `report` do.

    What is done in the folder is not done again: a call that was interrupted goes on where it was, and one with more
    seeds, regimes or settings adds theirs. A function that was edited is another model, with trials of its own.

    Args:
        model: as `--models` of `lerac-fast plan` takes it (`"resnet18"`, `"timm:resnet10t"`, `"model.py:make"`); or a
            function or class, called with those of `input_shape`, `channels`, `classes`, `vocabulary`, `max_length` and
            `task` that it has parameters for, which gives an nn.Module. A list: each of them.
        data: as `--data` takes it; or torch Datasets of pairs (inputs, target): a tuple (train, test) or (train,
            validation, test), a dict of such names, or one of all examples; or a function that returns them. They give
            the same example each time. Datasets are known by their content; a function by its source alone: where it
            reads files that have changed, plan into another folder. A list: each of them.
        folder: where the trials and the report are kept.
        kind: of Datasets: "image" if it is not given, "text", "audio", "table" or "detection".
        task: of Datasets: "classification" if it is not given, or "regression".
        regimes: names of regimes; `lerac-fast list` prints them.
        seeds: how often each is trained.
        grid: values by the names of settings, such as `{"lerac_epochs": [2, 3, 5]}`: every combination is trained, and
            that of each regime which is best on the validation part is compared.
        threads: of the CPU; None, as torch has it.
        device: "auto" is a GPU if there is one.
        workers: processes that load data from files. In a notebook they know nothing of functions that are defined in
            it.
        retry_failed: run those trials again that have failed.
        rehearse: take a training step before anything is trained in earnest, so that faults show at once.
        settings: of `Settings` and `Protocol`: `epochs=10, lr=1e-3, train_examples=2000, ...`.

    Returns:
        A row for each model, data set and regime. Shares, such as accuracies, are between 0 and 1. `difference` and the
        p-values are against conventional training on the same seeds. `attrs["report"]` is the path of the report.

    Raises:
        ExperimentError: something that was asked for makes no sense; or none of the trials could be trained.
        TypeError: a setting is unknown.
        OSError: the folder cannot be written to.
    """
    folder = Path(folder)
    models = tuple(each if isinstance(each, str) else given(each) for each in _listed(model))
    sets = tuple(each if isinstance(each, str) else _given_data(each, kind, task) for each in _listed(data))
    for names in (models, sets):
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ExperimentError(f"{twice} is there twice")
    in_settings, in_protocol = _divided(settings)
    plan = Plan(
        folder,
        models=models,
        data=sets,
        regimes=tuple(regimes),
        seeds=seeds,
        grid=tuple(f"{name}={','.join(map(str, values))}" for name, values in (grid or {}).items()),
        settings=in_settings,
        protocol=in_protocol,
    )
    trials = plan.trials()
    console = stdout()
    for remark in rehearsed(trials) if rehearse else []:
        say(console, remark)
    _extended(folder, trials).write(folder)
    Run(folder, retry_failed=retry_failed, device=device, threads=threads, workers=workers).outcomes(trials)
    wanted = {trial.id for trial in trials}
    records = [record for record in Reading([folder]).records if record.trial.id in wanted]
    _require_done(records)
    frame = _frame(cells_of(records))
    frame.attrs["report"] = str(write_report(folder).output / "report.md")
    return frame


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _given_data(data: Any, kind: Kind | None, task: Task | None) -> str:
    """The text that stands for Datasets, or for a function that returns some."""
    options = (f",{name}={value}" for name, value in (("kind", kind), ("task", task)) if value is not None)
    return given(data if callable(data) else Returning(data)) + "".join(options)


def _divided(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Those of `Settings`, and those of `Protocol`."""
    known = Settings.__dataclass_fields__, Protocol.__dataclass_fields__
    if unknown := [name for name in settings if not any(name in each for each in known)]:
        raise TypeError(f"compare() knows no setting {unknown[0]!r}: there are {', '.join((*known[0], *known[1]))}")
    in_settings, in_protocol = ({k: v for k, v in settings.items() if k in each} for each in known)
    return in_settings, in_protocol


def _extended(folder: Path, trials: Sequence[Trial]) -> Manifest:
    """What is planned in the folder, and these trials after it."""
    before = list(Manifest.read(folder)) if (folder / FILE).exists() else []
    planned = {trial.id for trial in before}
    latest = {trial.id: trial for trial in trials}
    kept = [latest.get(trial.id, trial) for trial in before]  # which may be part of a grid now
    return Manifest(folder.name, (*kept, *(trial for trial in trials if trial.id not in planned)))


def _require_done(records: Sequence[Record]) -> None:
    """Warns of the trials that are not done; raises ExperimentError if none is."""
    bad = [record for record in records if not record.done]
    if not any(record.done for record in records):
        raise ExperimentError(bad[0].content["error"] if bad else "none of the trials has ended: others run them")
    if bad:
        errors = "; ".join(f"{record.trial.name}: {record.content['error']}" for record in bad[:3])
        warnings.warn(f"{len(bad)} of {len(records)} trials are not done: {errors}", UserWarning, stacklevel=3)


def _frame(cells: Sequence[Cell]) -> pd.DataFrame:
    conventional = baselines(cells)
    rows = []
    for cell in cells:
        baseline = conventional.get(comparison_key(cell))
        rows.append(_row(cell, None if baseline is None or baseline is cell else compared(cell, baseline)))
    return pd.DataFrame(rows)


def _row(cell: Cell, against: Comparison | None) -> dict[str, Any]:
    test, deviation = mean_and_deviation(cell.scores)
    validation, _ = mean_and_deviation(cell.validations)
    overhead = None if against is None or against.overhead is None else against.overhead.estimate
    return {
        "model": cell.model_title,
        "data": cell.data_title,
        "regime": cell.regime_title,
        "metric": cell.metric,
        "test": test,
        "test_deviation": deviation,
        "validation": validation,
        "difference": None if against is None else against.difference,
        "difference_deviation": None if against is None else against.difference_deviation,
        "p": None if against is None else against.p_value,
        "p_over_seeds": None if against is None else against.seeds_p,
        "p_over_examples": None if against is None else against.mcnemar_p,
        "overhead": overhead,
        "epochs": float(mean_and_deviation(cell.epochs)[0]),
        "runs": len(cell.records),
        "chosen_among": len(cell.rivals) or None,
        "ended": cell.ended,
    }
