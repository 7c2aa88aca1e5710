"""Records of trials that were never run, for tests of reports."""

import copy
from typing import Any

import torch

from lerac_experiments.environment import environment
from lerac_experiments.report.records import Record
from lerac_experiments.training.history import pack_bits
from lerac_experiments.trials.trial import Trial

ENVIRONMENT = environment()


def record(trial: Trial, correct: list[int], seconds: float = 1.0, epochs: int = 2) -> Record:
    """Of a trial that classified these examples correctly."""
    hits = torch.tensor(correct, dtype=torch.bool)
    epoch = {"train_loss": 1.0, "validation_loss": 1.0, "validation_metric": 0.5, "seconds": seconds}
    content: dict[str, Any] = {
        "trial": trial.to_json(),
        "status": "done",
        "result": {
            "metric": "accuracy",
            "higher_is_better": True,
            "test": hits.double().mean().item(),
            "test_loss": 1.0,
            "validation": 0.5,
            "best_epoch": 1,
            "correct": pack_bits(hits),
        },
        "sizes": {"train": 90, "validation": 10, "test": len(correct)},
        "epochs": [epoch] * epochs,
        "rates": {"steps": [0, 5], "first_middle_last": [[0.1, 0.01, 0.001], [0.1, 0.1, 0.1]]},
        "data": {"source": "the test", "note": None},
        "model": {"parameters": 1, "layers": 3, "groups": 3},
        "device": "cpu",
        "steps_per_epoch": 5,
        "ranks": 1,
        "environment": copy.deepcopy(ENVIRONMENT),
    }
    return Record(trial, content)
