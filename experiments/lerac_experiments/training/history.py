"""What comes of a trial: its history, epoch by epoch, and its record."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.optim import Optimizer

from lerac_experiments.data.source import Parts
from lerac_experiments.training.tasks import Measure, Outcome

TRACED_STEPS = 200
"""How many points the traces of learning rates have, about."""


@dataclass
class History:
    """What a trial has done so far. Plain values: it is part of the checkpoint."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    """At which the rates were noted."""
    rates: list[list[float]] = field(default_factory=list)
    """Of the first layer, one in the middle and the last."""
    changes: list[int] = field(default_factory=list)
    """The steps among those at which the rates, of all layers, are others than before."""
    all_rates: list[list[float]] = field(default_factory=list)
    """From those steps on: of all layers, or one rate where all have the same."""
    best_epoch: int = 0
    best_metric: float | None = None
    """Higher is better."""
    resumed: int = 0
    """How often the trial was taken up again."""

    def note_rates(self, step: int, total: int, optimizer: Optimizer) -> None:
        """Notes the rates, at some of the steps."""
        if step % max(1, total // TRACED_STEPS) == 0:
            rates = [float(group["lr"]) for group in optimizer.param_groups]
            self.steps.append(step)
            self.rates.append([rates[0], rates[len(rates) // 2], rates[-1]])
            distinct = rates if len(set(rates)) > 1 else rates[:1]
            if not self.all_rates or distinct != self.all_rates[-1]:
                self.changes.append(step)
                self.all_rates.append(distinct)

    def note_epoch(self, epoch: dict[str, float], metric: float) -> bool:
        """Notes an epoch, with a metric of which higher is better. Returns whether it is the best so far."""
        self.epochs.append(epoch)
        best = self.best_metric is None or metric > self.best_metric
        if best:
            self.best_metric, self.best_epoch = metric, len(self.epochs)
        return best

    @property
    def active_epochs(self) -> int:
        """After how many epochs a curriculum still kept the training from what it would be without."""
        return sum(1 for epoch in self.epochs if epoch["active"])


def describe(
    history: History, task: Measure, tested: Outcome, parts: Parts, model: nn.Module, optimizer: Optimizer
) -> dict[str, Any]:
    """The part of a record that says how well the trial did."""
    result: dict[str, Any] = {
        "metric": task.metric,
        "higher_is_better": task.higher_is_better,
        "test": tested.metric,
        "test_loss": tested.loss,
        "validation": history.epochs[history.best_epoch - 1]["validation_metric"],
        "best_epoch": history.best_epoch,
    }
    if tested.correct is not None:
        result["correct"] = pack_bits(tested.correct)
    if tested.details is not None:
        result["details"] = tested.details()
    groups = optimizer.param_groups
    return {
        "result": result,
        "sizes": {"train": len(parts.train), "validation": len(parts.validation), "test": len(parts.test)},
        "model": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "layers": len({group["depth"] for group in groups}),
            "groups": len(groups),
        },
        "epochs": history.epochs,
        "rates": {
            "steps": history.steps,
            "first_middle_last": history.rates,
            "layers": [group["name"] for group in groups],
            "changes": history.changes,
            "all": history.all_rates,
        },
        "resumed": history.resumed,
    }


def pack_bits(values: Tensor) -> str:
    """bool [N] as text."""
    return base64.b64encode(np.packbits(values.numpy()).tobytes()).decode()


def unpack_bits(text: str, count: int) -> np.ndarray:
    """The bool [N] of `pack_bits`."""
    packed = np.frombuffer(base64.b64decode(text), np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)
