"""The runs that are compared on wrong labels, and what is noted of them after every epoch."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lerac_experiments.data.images import Labelled
from lerac_experiments.demos.regimes import MOMENTUM, WEIGHT_DECAY, Stepped, step_decay
from lerac_experiments.demos.runner import Loss, Run, cross_entropy
from lerac_experiments.demos.sigma import SigmaHistory
from lerac_fast import DataParameters
from lerac_fast.optim import SGD


class Starter:
    """Starts runs from the same initial weights, with the same optimizer.

    Args:
        initial: the model, of which every run gets a copy.
        lr: the base learning rate, under `step_decay`.
        total_iters: the length of the training in optimizer steps.
    """

    def __init__(self, initial: nn.Module, *, lr: float, total_iters: int) -> None:
        self.initial, self.lr, self.total_iters = initial, lr, total_iters

    def plain(self, name: str, examples: Tensor | None = None) -> Run:
        """A run that minimises the cross entropy, of all examples or of those chosen by bool [N]."""
        return self._start(name, cross_entropy, examples)

    def tempered(self, name: str, criterion: DataParameters) -> Run:
        """A run with data parameters."""
        return self._start(name, criterion, None)

    def _start(self, name: str, loss: Loss, examples: Tensor | None) -> Run:
        model = copy.deepcopy(self.initial)
        optimizer = SGD(model.parameters(), lr=self.lr, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        schedules: list[Stepped] = [step_decay(optimizer, self.total_iters)]
        if isinstance(loss, DataParameters):
            schedules.append(loss)
        return Run(name, model, optimizer, schedules, loss=loss, examples=examples)


class Observer:
    """Looks at every run when an epoch is over; call it then.

    Args:
        train_data: with the labels that the runs learn from.
        corrupt: which of these are wrong, bool [N].
        test_data: with right labels. They are looked at to draw what happens; nothing is decided by them.
    """

    def __init__(self, runs: Sequence[Run], train_data: Labelled, corrupt: Tensor, test_data: Labelled) -> None:
        self.runs = runs
        self.test_accuracies: dict[str, list[float]] = {run.name: [] for run in runs}
        self.sigmas = {run.name: SigmaHistory() for run in runs if _instance_parameters(run) is not None}
        self._train_data, self._corrupt, self._test_data = train_data, corrupt, test_data
        self._indices = torch.arange(len(train_data))
        self._best: dict[str, dict[str, Tensor]] = {}

    def __call__(self) -> None:
        for run in self.runs:
            self.test_accuracies[run.name].append(run.accuracy(self._test_data))
            *before, latest = run.history.validation_accuracies
            if latest > max(before, default=-1.0):
                self._best[run.name] = copy.deepcopy(run.model.state_dict())
            criterion = _instance_parameters(run)
            if criterion is not None:
                sigma = criterion.sigma(self._train_data.labels, self._indices)
                self.sigmas[run.name].record(sigma, self._corrupt)

    def accuracy_at_best(self, run: Run, data: Labelled) -> float:
        """The accuracy on `data` after the epoch with the best validation (the first of several such)."""
        last = copy.deepcopy(run.model.state_dict())
        run.model.load_state_dict(self._best[run.name])
        accuracy = run.accuracy(data)
        run.model.load_state_dict(last)
        return accuracy


def _instance_parameters(run: Run) -> DataParameters | None:
    """The run's data parameters, if it has some for every example."""
    loss = run.loss
    return loss if isinstance(loss, DataParameters) and loss.num_instances is not None else None
