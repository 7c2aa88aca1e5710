"""What is minimised and what is measured, by the task of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lerac_experiments.data.examples import Batch
from lerac_experiments.data.source import Task
from lerac_experiments.training.distributed import Ranks
from lerac_experiments.training.precision import HALF, mean_average_precision, precisions


@dataclass(frozen=True)
class Outcome:
    """How well a model does on a part of the data."""

    loss: float
    """Lower is better: what plateaus are made out by."""
    metric: float
    correct: Tensor | None = None
    """Of a classification, which examples are classified correctly: bool [N]."""
    details: Callable[[], dict[str, float]] | None = field(default=None, compare=False)
    """Computes what else is reported of the test part, by its name; None, nothing."""


class Measure:
    """A task: its loss for training, and its evaluation."""

    metric: str
    """What is measured, for tables."""
    higher_is_better = True

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """The outputs of the model in training."""
        return model(batch.inputs)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """What is minimised, averaged over the batch."""
        raise NotImplementedError

    def evaluate(self, model: Callable[[Any], Any], batches: Iterable[Batch], count: int, ranks: Ranks) -> Outcome:
        """Of a model in evaluation mode, on the batches of this rank, which are of `count` examples on all ranks."""
        raise NotImplementedError


class Classification(Measure):
    """Cross entropy and accuracy."""

    metric = "accuracy"

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        assert isinstance(batch.targets, Tensor)
        return F.cross_entropy(outputs, batch.targets)

    def evaluate(self, model: Callable[[Any], Any], batches: Iterable[Batch], count: int, ranks: Ranks) -> Outcome:
        correct = torch.zeros(count, dtype=torch.bool)
        total = 0.0
        for batch in batches:
            logits = model(batch.inputs).float()
            assert isinstance(batch.targets, Tensor)
            total += float(F.cross_entropy(logits, batch.targets, reduction="sum"))
            correct[batch.indices.cpu()] = (logits.argmax(dim=1) == batch.targets).cpu()
        correct = torch.stack(ranks.gather(correct)).any(dim=0)
        return Outcome(sum(ranks.gather(total)) / count, correct.double().mean().item(), correct)


class Regression(Measure):
    """The mean absolute error, minimised by its smooth version."""

    metric = "mean absolute error"
    higher_is_better = False

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        assert isinstance(batch.targets, Tensor)
        return F.smooth_l1_loss(outputs, batch.targets)

    def evaluate(self, model: Callable[[Any], Any], batches: Iterable[Batch], count: int, ranks: Ranks) -> Outcome:
        total = sum(float((model(batch.inputs).float() - batch.targets).abs().sum()) for batch in batches)
        error = sum(ranks.gather(total)) / count
        return Outcome(error, error)


class Detection(Measure):
    """The losses of torchvision's detectors, and the mean average precision at an overlap of 0.5, as COCO averages it.

    Of each image the hundred detections of the highest scores count. Objects marked as difficult are neither hits nor
    misses.
    """

    metric = "mean average precision"

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        return model(batch.inputs, batch.targets)

    def loss(self, outputs: Any, batch: Batch) -> Tensor:  # noqa: ARG002
        return torch.stack(list(outputs.values())).sum()

    def evaluate(self, model: Callable[[Any], Any], batches: Iterable[Batch], count: int, ranks: Ranks) -> Outcome:  # noqa: ARG002
        own = [
            (_on_cpu(detected), _on_cpu(target))
            for batch in batches
            for detected, target in zip(model(batch.inputs), batch.targets, strict=True)
        ]
        found = [pair for part in ranks.gather(own) for pair in part]
        value = mean_average_precision(found, [HALF])
        return Outcome(1.0 - value, value, details=partial(precisions, found))


def _on_cpu(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.cpu() for name, tensor in tensors.items()}


TASKS: dict[Task, Measure] = {
    "classification": Classification(),
    "regression": Regression(),
    "detection": Detection(),
}
