"""Trials small enough for tests, on scikit-learn's digits, which are always there."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from lerac_experiments.cli import main
from lerac_experiments.models import MODELS
from lerac_experiments.settings import Protocol
from lerac_experiments.trials.manifest import Manifest
from lerac_experiments.trials.store import TrialFolder
from lerac_experiments.trials.trial import Trial


def digits_trial(regime: str = "conventional", seed: int = 0, **changes: Any) -> Trial:
    """A training of half a second: 3 epochs of 90 images."""
    own = {name: changes.pop(name) for name in list(changes) if name in Protocol.__dataclass_fields__}
    values = {"epochs": 3, "batch_size": 16, "lerac_epochs": 1.0, "cbs_every": 0.1, **changes}
    settings = replace(MODELS["resnet-small"].settings, **values)
    protocol = Protocol(**{"train_examples": 100, "test_examples": 50, **own})
    return Trial("resnet-small", "digits", regime, seed, settings, protocol)


def planned(folder: Path, *trials: Trial) -> Path:
    """The folder, with a manifest of these trials."""
    Manifest(folder.name, trials).write(folder)
    return folder


def run(folder: Path, *options: str) -> int:
    """`lerac-fast run`, with a checkpoint before every step."""
    return main(["run", str(folder), "--checkpoint-seconds", "0", "--device", "cpu", *options])


def record_of(folder: Path, trial: Trial) -> dict[str, Any]:
    record = TrialFolder(folder, trial).record()
    assert record is not None
    return record


def outcome(record: dict[str, Any]) -> dict[str, Any]:
    """What must be the same whenever and however often a trial is run: all but times and the machine."""
    epochs = [{k: v for k, v in epoch.items() if "seconds" not in k} for epoch in record["epochs"]]
    return {"epochs": epochs, **{key: record[key] for key in ("trial", "status", "result", "rates", "sizes", "model")}}


@cache
def undisturbed(trial: Trial) -> dict[str, Any]:
    """The outcome of a trial that nothing interrupts."""
    with TemporaryDirectory() as folder:
        assert run(planned(Path(folder), trial)) == 0
        return outcome(record_of(Path(folder), trial))


class Killed(BaseException):
    """As SIGKILL: nothing of the program runs any more."""


def die(*_: Any) -> None:
    raise Killed


def on_call(patch: pytest.MonkeyPatch, owner: Any, name: str, number: int, act: Callable[..., None]) -> None:
    """Has a function or method do something else before its `number`th call from now on."""
    original, calls = getattr(owner, name), count(1)

    def call(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == number:
            act(*args)
        return original(*args, **kwargs)

    patch.setattr(owner, name, call)
