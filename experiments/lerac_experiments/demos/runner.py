"""Training and testing of a classifier, with a record of what happened."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from lerac_experiments.data.images import Labelled
from lerac_experiments.demos.regimes import Stepped
from lerac_experiments.errors import ExperimentError

_EVALUATION_BATCH = 500

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of logits [N, C], labels [N] and the numbers of the examples in the training data [N], averaged over the examples."""


def cross_entropy(logits: Tensor, labels: Tensor, _: Tensor) -> Tensor:
    """The plain cross entropy, to which all examples are alike."""
    return F.cross_entropy(logits, labels)


@dataclass
class History:
    """What one run has done so far: one entry per optimizer step, or per epoch for the accuracy."""

    losses: list[float] = field(default_factory=list)
    learning_rates: list[list[float]] = field(default_factory=list)
    """Of every param group, as used by the step."""
    step_seconds: list[float] = field(default_factory=list)
    """Forward and backward pass, optimizer, schedulers and curricula."""
    validation_accuracies: list[float] = field(default_factory=list)

    @property
    def epoch_losses(self) -> list[float]:
        """The mean training loss of every finished epoch."""
        steps = len(self.losses) // len(self.validation_accuracies)
        return [fmean(self.losses[start : start + steps]) for start in range(0, len(self.losses), steps)]


class Run:
    """One model in training under one regime.

    Args:
        schedules: stepped after every optimizer step, in their order.
        loss: what is minimised.
        examples: bool [N], which of the training data this run may learn from; None, from all.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        optimizer: Optimizer,
        schedules: Sequence[Stepped],
        *,
        loss: Loss = cross_entropy,
        examples: Tensor | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.optimizer = optimizer
        self.schedules = schedules
        self.loss = loss
        self.examples = examples
        self.history = History()

    def step(self, batch: Labelled, indices: Tensor) -> None:
        """One optimizer step on a batch, and one step of every schedule.

        Args:
            indices: the numbers of the batch's examples in the training data, int64 [N].

        Raises:
            ExperimentError: the loss is infinite or not a number, or none of the examples is for this run.
        """
        if self.examples is not None:
            chosen = self.examples[indices]
            batch, indices = batch.take(chosen), indices[chosen]
            if len(batch) == 0:
                raise ExperimentError(f"{self.name}: none of the {len(chosen)} examples of a batch is for it")
        learning_rates = [float(group["lr"]) for group in self.optimizer.param_groups]
        start = time.perf_counter()
        self.optimizer.zero_grad()
        loss = self.loss(self.model(batch.images), batch.labels, indices)
        loss.backward()
        self.optimizer.step()
        for schedule in self.schedules:
            schedule.step()
        self.history.step_seconds.append(time.perf_counter() - start)
        self.history.losses.append(loss.item())
        self.history.learning_rates.append(learning_rates)
        if not math.isfinite(loss.item()):
            raise ExperimentError(
                f"{self.name}: the loss is {loss.item()} after {len(self.history.losses)} steps at learning "
                f"rates up to {max(learning_rates):g}; choose a lower one"
            )

    def accuracy(self, data: Labelled) -> float:
        """The share of the images that the model classifies correctly, in evaluation mode."""
        self.model.eval()
        with torch.inference_mode():
            correct = sum(
                int((self.model(batch.images).argmax(dim=1) == batch.labels).sum())
                for batch, _ in _batches(data, torch.arange(len(data)), _EVALUATION_BATCH)
            )
        self.model.train()
        return correct / len(data)


def train(
    runs: Sequence[Run],
    train_data: Labelled,
    validation_data: Labelled,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    on_step: Callable[[], None],
    on_epoch: Callable[[], None] = lambda: None,
) -> None:
    """Trains all runs side by side, each on the same batches in the same order.

    Side by side and by turns the first, so that whatever else the machine does slows all of them alike and
    their step times can be compared. Every epoch ends with the accuracy on the validation data.

    Args:
        seed: decides the order of the images, new in every epoch. An incomplete last batch is left out.
        on_step: called whenever all runs have done one step.
        on_epoch: called at the end of every epoch, after the validation.
    """
    generator = torch.Generator().manual_seed(seed)
    order = list(runs)
    for _ in range(epochs):
        shuffled = torch.randperm(len(train_data), generator=generator)
        complete = len(train_data) // batch_size * batch_size
        for batch, indices in _batches(train_data, shuffled[:complete], batch_size):
            for run in order:
                run.step(batch, indices)
            order.append(order.pop(0))
            on_step()
        for run in runs:
            run.history.validation_accuracies.append(run.accuracy(validation_data))
        on_epoch()


def steps_per_epoch(train_data: Labelled, batch_size: int) -> int:
    """How many steps `train` does in an epoch.

    Raises:
        ExperimentError: there are too few images for one.
    """
    steps = len(train_data) // batch_size
    if steps == 0:
        raise ExperimentError(f"{len(train_data)} training images do not fill a batch of {batch_size}")
    return steps


def _batches(data: Labelled, indices: Tensor, batch_size: int) -> Iterator[tuple[Labelled, Tensor]]:
    for chunk in indices.split(batch_size):
        yield data.take(chunk), chunk
