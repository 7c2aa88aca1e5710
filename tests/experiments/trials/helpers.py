"""Trials small enough for tests, on scikit-learn's digits, which are always there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lerac_fast.experiments.cli import main
from lerac_fast.experiments.models import MODELS
from lerac_fast.experiments.trials.manifest import Manifest
from lerac_fast.experiments.trials.trial import Protocol, Trial


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
    """`lerac-fast run`, with a checkpoint after every epoch."""
    return main(["run", str(folder), "--checkpoint-seconds", "0", "--device", "cpu", *options])
